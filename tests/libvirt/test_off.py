# SPDX-License-Identifier: MIT
"""libvirt-vlan off: a VM that the hooks refuse runs; libvirt-vlan on: everything is as it was."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import (
    LOG,
    MAC,
    MAC2,
    REPOSITORY,
    eventually_settled,
    nic,
    nothing_left_behind,
    start_libvirtd,
    tap_of,
    virsh,
    virsh_fails,
)
from iproute import ACCESS, DEFAULT, ZEROTIER, vlans
from libvirt_vlan import check, tool

OFF = Path("/run/libvirt-hooks.off")
LIB = Path("/etc/libvirt/hooks/lib/libvirt_hooks")
README = (REPOSITORY / "README.md").read_text()
(BY_HAND,) = re.findall(r"touch /run/\S+", README)


@pytest.fixture(scope="module", autouse=True)
def _daemon_that_has_seen_the_hooks(libvirtd):
    start_libvirtd()


@pytest.fixture(autouse=True)
def _switched_on():
    yield
    OFF.unlink(missing_ok=True)


def test_a_refused_vm_starts_and_is_put_into_its_vlan_later(vm, network):
    vm("running", nic(MAC2, "zerotier"))
    vm("web", nic(MAC, "server"), start=False)
    bridge_link = ["ip", "link", "set", "br0", "type", "bridge", "vlan_filtering"]
    subprocess.run([*bridge_link, "0"], check=True)
    assert "does not filter VLANs" in virsh_fails("start", "web")

    status, out, err = tool("off")
    assert (status, err) == (0, [])
    assert out[0].startswith("the hooks are switched off")
    assert f"web {MAC} - server: will start in the default VLAN of its bridge" in out
    assert OFF.stat().st_mode & 0o777 == 0o600
    virsh("start", "--paused", "web")
    assert vlans(tap_of("web", MAC)) == DEFAULT
    assert vlans(tap_of("running", MAC2)) == ZEROTIER
    assert "nothing done: switched off with libvirt-vlan off" in LOG.read_text().splitlines()[-1]
    assert "the hooks are switched off: libvirt-vlan on switches them on again" in check()
    start_libvirtd()  # which announces all ports again
    assert vlans(tap_of("running", MAC2)) == ZEROTIER

    subprocess.run([*bridge_link, "1"], check=True)
    status, out, err = tool("on")
    tap = tap_of("web", MAC)
    assert (status, err, OFF.exists()) == (0, [], False)
    assert out[-2:] == [
        f"bridge vlan del dev {tap} vid 1 master", f"bridge vlan add dev {tap} vid 3 pvid untagged master",
    ]  # fmt: skip
    assert tool("sync") == (0, out[-2:], [])
    assert vlans(tap) == {3: ACCESS}
    assert check() == []
    for name in ("web", "running"):
        virsh("destroy", name)
    nothing_left_behind()


def test_a_vm_that_stops_while_the_hooks_are_off_is_in_its_vlan_at_its_next_start(vm, network):
    vm("web", nic(MAC, "zerotier"))
    tool("off")
    virsh("destroy", "web")
    tool("on")
    virsh("start", "--paused", "web")
    eventually_settled()

    assert vlans(tap_of("web", MAC)) == ZEROTIER
    virsh("destroy", "web")
    nothing_left_behind()


@pytest.mark.parametrize("damaged", ["__init__.py", "ports.py", "guest_start.py"])
def test_with_a_damaged_lib_the_command_by_hand_does_the_same(vm, network, damaged):
    vm("web", nic(MAC, "zerotier"), start=False)
    shutil.copy(LIB / damaged, "/tmp/whole")
    try:
        (LIB / damaged).write_text("raise RuntimeError('damaged')\n")
        assert "damaged" in virsh_fails("start", "web")
        subprocess.run(BY_HAND, shell=True, check=True)
        virsh("start", "--paused", "web")
    finally:
        shutil.copy("/tmp/whole", LIB / damaged)
    assert vlans(tap_of("web", MAC)) == DEFAULT


def test_switched_on_twice_it_says_so(network):
    assert tool("on") == (0, ["the hooks were not switched off", "libvirt-vlan sync would run:"], [])
