# SPDX-License-Identifier: MIT
"""A VM that migrates: the other host is a second libvirtd, in namespaces of its own, with a bridge of its own."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import BRIDGE, LIBVIRT, MAC, nic, nothing_left_behind, virsh
from iproute import eventually
from libvirt_vlan import TOOL, tool

SHARED = Path("/srv/other")  # what both see: the other libvirtd's sockets
OTHER = f"qemu+unix:///system?socket={SHARED}/libvirt-sock"
UUID = "9c2f3d5e-0b1a-4c7d-8e6f-102030405060"
HOST = f"""set -e
mount --make-rprivate /
rm -rf /srv/etc-of-other
cp -a /etc/libvirt /srv/etc-of-other
mount --bind /srv/etc-of-other /etc/libvirt
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/libvirt
mount --bind {SHARED} /run/libvirt
mount -t tmpfs lib /var/lib/libvirt
mount -t tmpfs log /var/log/libvirt
mount -t sysfs sysfs /sys
hostname other
grep -q other /etc/hosts || echo 127.0.0.1 other >>/etc/hosts # libvirtd asks, and there is nobody to answer
ip link set lo up
ip link add {BRIDGE} up type bridge vlan_filtering 1
rm -rf /etc/libvirt/qemu/*.xml /etc/libvirt/qemu/networks/*
echo 'host_uuid = "{UUID}"' >/etc/libvirt/libvirtd.conf
exec libvirtd"""


@pytest.fixture
def other(libvirtd):
    """Give a function that runs a command on the other host, and returns its stdout."""
    SHARED.mkdir(parents=True)
    host = subprocess.Popen(["unshare", "--mount", "--net", "--uts", "sh", "-c", HOST], stdin=subprocess.DEVNULL)
    asked = [LIBVIRT[0], "-q", "-c", OTHER]
    eventually(lambda: subprocess.run([*asked, "uri"], capture_output=True, check=False).returncode == 0)

    def run(*words):
        inside = ["nsenter", "--target", str(host.pid), "--mount", "--net", "--uts", *words]
        done = subprocess.run(inside, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    subprocess.run([*asked, "destroy web; undefine web"], capture_output=True, check=False)
    host.terminate()
    host.wait(timeout=60)


def test_the_new_host_decides_by_the_portgroup_that_the_vm_was_started_with(vm, network, other, tmp_path):
    (tmp_path / "network.xml").write_text(virsh("net-dumpxml", BRIDGE))
    other("virsh", "-q", f"net-define {tmp_path}/network.xml; net-start {BRIDGE}")
    vm("web", nic(MAC, "zerotier"))
    virsh("define", "/dev/stdin", stdin=virsh("dumpxml", "--inactive", "web").replace("'zerotier'", "'server'"))
    assert tool("apply", "web")[0] == 0

    virsh("migrate", "--persistent", "web", "--desturi", OTHER, "--migrateuri", f"unix://{SHARED}/migration")

    nothing_left_behind()

    def found():
        (shown,) = json.loads(other(TOOL, "show", "--json"))["nics"]
        return shown["portgroup"], shown["verdict"], [vlan["vlan"] for vlan in shown["current"]], shown["next_start"]

    assert found() == ("zerotier", "right", [46], "differs")
    other(TOOL, "apply", "web")
    assert found() == ("server", "right", [3], "same")
