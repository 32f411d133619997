# SPDX-License-Identifier: MIT
"""A network with macTableManager='libvirt': the bridge learns nothing, and libvirt adds each guest's address."""

import json
import subprocess
import time

import pytest
from conftest import MAC, MAC2, eventually_settled, nic, tap_of, virsh
from frames import bridged_to, send
from iproute import ZEROTIER, bridge, eventually, ip, vlans
from libvirt_vlan import check, tool

NETWORK = (
    "<network><name>br0</name><forward mode='bridge'/><bridge name='br0' macTableManager='libvirt'/>"
    "<portgroup name='zerotier-46'/><portgroup name='server-3'/></network>"
)


def entries(tap, mac):
    """Given a tap and a guest's address, return the VLANs in which the bridge has a static entry, None: no VLAN."""
    shown = json.loads(subprocess.check_output(["bridge", "-j", "fdb", "show", "dev", tap]))
    return {entry.get("vlan") for entry in shown if entry["mac"] == mac and entry["state"] == "static"}


@pytest.fixture
def other():
    """Give one end of a veth pair, of which the other end is on br0 in VLAN 46: whoever sends there is another host."""
    ip("link", "add", "other", "type", "veth", "peer", "name", "other-br")
    ip("link", "set", "other-br", "master", "br0", "up")
    ip("link", "set", "other", "up")
    bridge("vlan", "del", "dev", "other-br", "vid", "1")
    bridge("vlan", "add", "dev", "other-br", "vid", "46", "pvid", "untagged")
    yield "other"
    ip("link", "del", "other")


def hears(tap, mac, other):
    """Given a tap, its guest's address and another host, return whether a frame to that address alone gets there."""
    with bridged_to(tap) as heard:
        send(other, destination=mac)
        time.sleep(0.5)
        return heard() == 1


def settings(tap):
    (shown,) = json.loads(subprocess.check_output(["bridge", "-j", "-d", "link", "show", "dev", tap]))
    return {word: shown[word] for word in ("isolated", "learning", "flood")}


@pytest.fixture
def tap(vm):
    """Give the tap of a VM that runs: its CPUs, too, because libvirt adds the address when these start."""
    virsh("net-destroy br0; net-undefine br0; net-define /dev/stdin", stdin=NETWORK)
    virsh("net-start", "br0")
    isolated = nic(MAC, "zerotier").replace("<model", "<port isolated='yes'/><model")
    virsh("resume", vm("web", isolated))
    return tap_of("web", MAC)


def test_a_tap_that_is_put_back_has_all_that_libvirt_has_set(tap):
    before = settings(tap), entries(tap, MAC)
    assert before == ({"isolated": True, "learning": False, "flood": False}, {None, 46})
    ip("link", "set", tap, "nomaster")
    planned = tool("sync", "--dry-run")
    assert tool("sync") == planned
    assert (vlans(tap), settings(tap), entries(tap, MAC)) == (ZEROTIER, *before)
    assert check() == []

    # libvirt takes it for an error if anybody else has added the address of a paused VM
    virsh("suspend", "web")
    ip("link", "set", tap, "nomaster")
    tool("sync")
    assert entries(tap, MAC) == set()
    virsh("resume", "web")
    assert (settings(tap), entries(tap, MAC)) == before


def test_what_is_missing_at_the_bridge_port_is_a_problem_that_sync_mends(tap, other):
    assert hears(tap, MAC, other)
    bridge("link", "set", "dev", tap, "learning", "on", "isolated", "off")
    (line,) = check()
    assert line.endswith(
        "its bridge port has isolated off instead of on, learning on instead of off: libvirt-vlan sync web"
    )
    assert tool("sync")[1] == [f"bridge link set dev {tap} isolated on learning off"]
    bridge("fdb", "del", MAC, "dev", tap, "vlan", "46", "master")
    assert not hears(tap, MAC, other)
    (line,) = check()
    assert line.endswith(f"the forwarding database of br0 lacks a static entry for {MAC}: libvirt-vlan sync web")
    assert tool("sync")[1] == [f"bridge fdb replace {MAC} dev {tap} master static"]
    assert hears(tap, MAC, other)
    assert check() == []


def test_isolation_that_is_switched_off_in_a_live_change_stays_off(tap):
    """libvirt itself does that, and announces another port for it: nobody may set it on again."""
    isolated = nic(MAC, "zerotier").replace("<model", "<port isolated='yes'/><model")
    for xml, wanted in ((nic(MAC, "zerotier"), False), (isolated, True)):
        virsh("update-device", "web", "/dev/stdin", "--live", stdin=xml)
        assert settings(tap)["isolated"] == wanted
        time.sleep(6)  # until the port's ticket applies
        eventually_settled()
        assert check() == []
        assert tool("sync") == (0, [], [])
        assert settings(tap)["isolated"] == wanted


def test_a_guest_that_is_plugged_in_hears_what_is_sent_to_it_alone(tap, other, tmp_path):
    """libvirt adds the address as soon as the tap is there, in the default VLAN: the wanted VLAN lacks it then."""
    file = tmp_path / "nic.xml"
    file.write_text(nic(MAC2, "zerotier"))
    virsh("attach-device", "web", str(file), "--live")
    second = tap_of("web", MAC2)
    eventually(lambda: vlans(second) == ZEROTIER)
    eventually(lambda: 46 in entries(second, MAC2))
    assert hears(second, MAC2, other)
    eventually_settled()
    virsh("suspend", "web")
    virsh("resume", "web")
