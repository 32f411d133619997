# SPDX-License-Identifier: MIT
"""Each program as one file, made by make dist, on a hypervisor without any of the Python packages."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import MAC, MAC2, REPOSITORY, nic, nothing_left_behind, start_libvirtd, tap_of, virsh, virsh_fails
from iproute import ACCESS, bridge, eventually, vlans
from packages import DIST, hidden

HOOKS = Path("/etc/libvirt/hooks")
TOOL = Path("/usr/local/sbin/libvirt-vlan")


def make(target):
    subprocess.run(["make", "-C", REPOSITORY, target], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def one_file(libvirtd, tmp_path):
    """The one-file programs are installed instead of the others, as the README says."""
    make("uninstall")
    with hidden(tmp_path):
        for program, directory in (
            *((hook, HOOKS) for hook in ("network", "qemu", "lxc")),
            ("libvirt-vlan", TOOL.parent),
        ):
            shutil.copy(DIST / program, directory)
        start_libvirtd()
        yield
    make("install")
    start_libvirtd()


def test_vms_are_in_their_vlans_or_refused_without_any_package(one_file, vm):
    assert not (HOOKS / "lib").exists()
    assert subprocess.run(["/usr/bin/python3", "-I", "-c", "import sh"], capture_output=True, check=False).returncode

    vm("web", nic(MAC, "zerotier"), nic(MAC2, "all"))
    tap = tap_of("web", MAC)
    assert vlans(tap) == {46: ACCESS}
    assert vlans(tap_of("web", MAC2)) == {1: ACCESS, **dict.fromkeys(range(2, 4095), ())}
    eventually(lambda: list(Path("/var/backups/libvirt/qemu").glob("web.*/*.xml")))

    bridge("vlan", "del", "dev", tap, "vid", "46")
    subprocess.run([TOOL, "sync"], check=True, stdin=subprocess.DEVNULL)
    assert vlans(tap) == {46: ACCESS}
    checked = subprocess.run([TOOL, "check"], capture_output=True, text=True, check=False)
    assert "no uplink" in checked.stdout
    assert "hooks" not in checked.stdout
    assert checked.stderr == ""

    vm("typo", nic("52:54:00:00:00:03", "typo"), start=False)
    assert "network br0 defines no portgroup 'typo'" in virsh_fails("start", "typo")
    virsh("destroy", "web")
    nothing_left_behind()
