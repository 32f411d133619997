# SPDX-License-Identifier: MIT
"""No way into the default VLAN under a real libvirtd: a network hook that was not called, the default portgroup."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import (
    BRIDGE,
    LOG,
    MAC,
    MAC2,
    REPOSITORY,
    eventually_settled,
    nic,
    nothing_left_behind,
    start_libvirtd,
    tap_of,
    undefine_network,
    virsh,
    virsh_fails,
)
from iproute import ACCESS, DEFAULT, SERVER, ZEROTIER, vlans
from libvirt_vlan import tool

HOOKS = Path("/etc/libvirt/hooks")
NETWORK = f"""<network><name>{BRIDGE}</name><forward mode='bridge'/><bridge name='{BRIDGE}'/>
<portgroup name='server-3' default='yes'/><portgroup name='zerotier-46'/><portgroup name='slow'/></network>"""


@pytest.fixture(params=["not there", "not executable", "its ticket is lost"])
def no_ticket(request, libvirtd):
    """Have no ticket at `start`, in one of the ways in which that can be."""
    network, qemu, aside = HOOKS / "network", HOOKS / "qemu", Path("/tmp/hook")
    start_libvirtd()
    if request.param == "not executable":
        network.chmod(0o644)
    elif request.param == "not there":
        shutil.move(network, aside)
    else:
        shutil.move(qemu, aside)
        lose = '[ "$2" != start ] || rm -f /run/libvirt-hooks/f?:*'
        qemu.write_text(f'#!/bin/sh\n{lose}\nexec {REPOSITORY}/hooks/qemu "$@"\n')
        qemu.chmod(0o755)
    yield
    if aside.exists():
        os.replace(aside, qemu if request.param == "its ticket is lost" else network)
    network.chmod(0o755)
    start_libvirtd()
    eventually_settled()


def test_each_nic_is_in_its_vlan_all_the_same_or_the_vm_does_not_start(no_ticket, vm, with_default):
    """A change of the network since that has started counts, and so does the network's default portgroup."""
    virsh("net-update", BRIDGE, "add", "portgroup", "<portgroup name='dmz-4'/>", "--live")
    third = "52:54:00:00:00:03"
    vm("web", nic(MAC, "zerotier"), nic(MAC2, "dmz"), nic(third), nic("52:54:00:00:00:04", "slow"))
    taps = [tap_of("web", mac) for mac in (MAC, MAC2, third, "52:54:00:00:00:04")]
    assert [vlans(tap) for tap in taps] == [ZEROTIER, {4: ACCESS}, SERVER, DEFAULT]
    assert "the network hook was not called for this port" in LOG.read_text()
    vm("typo", nic("52:54:00:00:00:09", "typo"), start=False)
    assert "defines no portgroup 'typo'" in virsh_fails("start", "typo")


@pytest.fixture
def with_default(network):
    """Have server-3 be the default portgroup of the network."""
    undefine_network()
    virsh("net-define", "/dev/stdin", stdin=NETWORK)
    virsh("net-start", BRIDGE)


def test_a_nic_without_a_portgroup_is_in_the_default_one(vm, with_default):
    vm("web", nic(MAC), nic(MAC2, "zerotier"), start=False)
    assert tool("plan", "web")[1][0] == f"web {MAC} - server-3(default): wanted on br0: 3 pvid untagged"
    virsh("start", "--paused", "web")
    tap = tap_of("web", MAC)
    assert (vlans(tap), vlans(tap_of("web", MAC2))) == (SERVER, ZEROTIER)
    _, shown, _ = tool("show")
    assert shown[1].split()[2:] == [tap, "br0", "br0", "server-3(default)", "3PU", "3PU", "right"]
    start_libvirtd()
    eventually_settled()
    assert vlans(tap) == SERVER
    virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic("52:54:00:00:00:03"))
    eventually_settled()
    assert vlans(tap_of("web", "52:54:00:00:00:03")) == SERVER
    virsh("destroy", "web")
    nothing_left_behind()


def test_a_vm_that_has_run_without_the_default_portgroup_is_moved_by_its_next_start_only(vm, network):
    vm("web", nic(MAC))
    tap = tap_of("web", MAC)
    portgroup = "<portgroup name='server-3' default='yes'/>"
    virsh("net-update", BRIDGE, "modify", "portgroup", portgroup, "--live")
    start_libvirtd()
    eventually_settled()
    assert vlans(tap) == DEFAULT
    waits = "it runs without the network's default portgroup: server-3 will apply when its VM next starts"
    says = f"web {MAC} {tap} -: {waits}"
    assert f"note: {says}: libvirt-vlan apply web applies it now" in tool("check")[1]
    assert tool("sync") == (0, [], [])
    virsh("destroy", "web")
    virsh("start", "--paused", "web")

    assert vlans(tap_of("web", MAC)) == SERVER


def test_libvirt_refuses_a_network_with_two_default_portgroups(libvirtd):
    two = NETWORK.replace("name='slow'", "name='slow' default='yes'").replace(f"<name>{BRIDGE}", "<name>two")
    command = ["virsh", "-q", "-c", "qemu:///system", "net-define", "/dev/stdin"]
    done = subprocess.run(command, input=two, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "multiple" in done.stderr
    assert "default" in done.stderr
