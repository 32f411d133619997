# SPDX-License-Identifier: MIT
"""Verdicts, and what check finds and what to do about it."""

import pytest
from states import DOES_NOT_FILTER, LEFT_ALONE, MAC, REFUSED, UUID, br0, nic

from libvirt_hooks.refusals import Refusal
from libvirt_hooks.tool.findings import notes, problem, problems, refused_start
from libvirt_hooks.tool.model import MADE_PLAIN, NOTES, BridgeState, subject, verdict
from libvirt_hooks.vlans import access, every


def state(fault="", **more):
    """Return br0 with these uplinks (ethN=VLANs), in that state."""
    uplinks = {name: more.pop(name) for name in list(more) if name.startswith("eth")}
    return BridgeState("br0", fault, 1, uplinks, **more)


HOOKS_CAN = " (the hooks can do that: docs/uplinks.md)"


@pytest.mark.parametrize(
    ("given", "word", "says"),
    [
        (nic(), "right", ""),
        (nic(current=access(1)), "wrong",
         "has 1 pvid untagged instead of 46 pvid untagged on br0: libvirt-vlan sync web"),
        (nic(current={}), "wrong", "has none instead of 46 pvid untagged on br0: libvirt-vlan sync web"),
        # the same VLAN, other flags
        (nic(current={46: ""}), "wrong", "has 46 instead of 46 pvid untagged on br0: libvirt-vlan sync web"),
        (nic(current=access(1), vm="a b"), "wrong", "has 1 pvid untagged instead of 46 pvid untagged on br0: "
         "libvirt-vlan sync 'a b'"),  # to be pasted
        (nic(current=None), "not on bridge", "vnet0 is not on br0: libvirt-vlan sync web puts it back"),
        (nic(**LEFT_ALONE, current=access(1)), "left alone", ""),
        (nic(**REFUSED), "refused", "network lan defines no portgroup 'x'"),
    ],
)  # fmt: skip
def test_a_nic_has_one_verdict_and_what_to_do(given, word, says):
    found = problem(given)

    assert (verdict(given), found.line if found else "") == (word, f"{subject(given)}: {says}" if says else "")


TRUNK = {10: "pvid untagged", 20: "", 30: "", 31: ""}


@pytest.mark.parametrize(
    ("nics", "bridge", "says"),
    [
        ([nic()], br0(eth0=access(46)), []),
        ([nic()], br0(eth0={1: "", 46: ""}, eth1={}), []),  # one uplink of two is enough
        ([nic()], br0(), []),  # a bridge within this host
        ([nic()], br0(eth0=access(1)), ["br0: no uplink (eth0) carries VLAN 46 of web: "
         "if it is to leave this host by eth0, bridge vlan add dev eth0 vid 46 master" + HOOKS_CAN]),
        ([nic(TRUNK, TRUNK, vm="db"), nic()], br0(eth0={20: ""}, eth1={}), ["br0: no uplink (eth0, eth1) carries VLAN "
         "10, 30-31, 46 of db, web: if it is to leave this host by eth0, bridge vlan add dev eth0 vid 10 master; "
         "bridge vlan add dev eth0 vid 30-31 master; bridge vlan add dev eth0 vid 46 master" + HOOKS_CAN]),
        ([nic(every(1), every(1), group="all")], br0(eth0=access(1)), []),  # in every VLAN: in none in particular
        ([nic(every(1), every(1))], br0(eth0=access(1)), []),  # by a list of its own
        ([nic(bridge="br1")], br0(eth0=access(1)), []),  # another bridge's
        # what it is to have counts: sync will give it that
        ([nic(current=access(1))], br0(eth0=access(1)), [f"web {MAC} vnet0 zerotier: has 1 pvid untagged instead of "
         "46 pvid untagged on br0: libvirt-vlan sync web", "br0: no uplink (eth0) carries VLAN 46 of web: "
         "if it is to leave this host by eth0, bridge vlan add dev eth0 vid 46 master" + HOOKS_CAN]),
        # a VM that libvirt has not yet given a tap
        ([nic(**REFUSED, tap="", group="")], br0(), [f"web {MAC} - -: network lan defines no portgroup 'x'"]),
        # set by libvirt itself, say
        ([nic(**LEFT_ALONE, current=access(5))], br0(eth0=access(1)), ["br0: no uplink (eth0) carries VLAN 5 of web: "
         "if it is to leave this host by eth0, bridge vlan add dev eth0 vid 5 master" + HOOKS_CAN]),
        ([nic()], br0(DOES_NOT_FILTER), [DOES_NOT_FILTER]),
        # a NIC without a ticket is refused for the same reason: once is enough
        ([nic(wanted=None, refused=True, is_bridges=True, reason="no bridge br0"), nic()], br0("no bridge br0"),
         ["no bridge br0"]),
        ([nic(made_plain=True)], br0(), [f"web {MAC} vnet0 zerotier: {MADE_PLAIN}: give it its network back with "
         "virsh update-device web NIC.xml --live, where NIC.xml is its <interface> from virsh dumpxml --inactive web, "
         "or stop and start the VM"]),
    ],
)  # fmt: skip
def test_check_finds_what_the_hooks_cannot_see(nics, bridge, says):
    assert [finding.line for finding in problems(nics, [bridge])] == says


@pytest.mark.parametrize(
    ("nics", "bridge", "code", "command"),
    [
        ([nic(current={}, vm="a b")], br0(eth0=access(46)), "wrong-vlans", "libvirt-vlan sync 'a b'"),
        ([nic(current=None)], br0(eth0=access(46)), "not-on-bridge", "libvirt-vlan sync web"),
        ([nic(**REFUSED, current={})], br0(eth0={}), "refused", ""),
        ([nic(made_plain=True)], br0(eth0=access(46)), "made-plain", "virsh update-device web NIC.xml --live"),
        ([nic()], br0("no bridge br0: create it"), "no-bridge", ""),
        ([nic()], br0(DOES_NOT_FILTER), "bridge-does-not-filter", "ip link set dev br0 type bridge vlan_filtering 1"),
        ([nic()], br0(eth0={}), "uplink-lacks-vlan", "bridge vlan add dev eth0 vid 46 master"),
        ([nic(**LEFT_ALONE, waits=True)],
         br0(eth0=access(46)), "waits-for-restart", "libvirt-vlan apply web"),
        ([nic(), nic(**LEFT_ALONE, current=access(1), vm="a")], br0(eth0=every(1)), "in-default-vlan",
         "ip link set dev br0 type bridge vlan_default_pvid 0"),
        ([nic()], br0(), "no-uplink", ""),
        ([nic(not_whole="its bridge port has isolated off instead of on")], br0(eth0=access(46)),
         "wrong-port-settings", "libvirt-vlan sync web"),
        ([nic(blocked={46: "blocking"})], br0(eth0=access(46)), "vlan-not-forwarding",
         "bridge vlan set dev vnet0 vid 46 state forwarding"),
        ([nic()], state(eth0=access(46), down=("eth0",)), "uplink-down", "ip link set dev eth0 up"),
        ([nic()], state(eth0=access(46), without_carrier=("eth0",)), "uplink-down", ""),
        ([nic()], state(lost=("eth0",)), "uplink-lost", "ip link set dev eth0 master br0"),
        # an uplink that the network names: it is sync that adds the VLAN, whatever other uplinks carry
        ([nic(not_carried="uplink eth0 lacks VLAN 46")], br0(eth0={}), "uplink-lacks-vlan", "libvirt-vlan sync web"),
        ([nic()], state(eth0=access(46), uplink_faults=("bond0 is away",)), "uplink-not-on-bridge", ""),
        ([nic()], state(eth0=access(46), unused={"eth0": {7: "", 9: ""}}), "uplink-carries-unused",
         "bridge vlan del dev eth0 vid 7 master; bridge vlan del dev eth0 vid 9 master"),
    ],
)  # fmt: skip
def test_each_finding_has_its_code_and_the_command_to_type(nics, bridge, code, command):
    (found,) = [*problems(nics, [bridge]), *notes(nics, [bridge])]

    assert (found.code, found.command, found.bridge) == (code, command, "br0")
    assert found.is_note == (code in NOTES) == found.line.startswith("note: ")
    assert found.command in found.line


@pytest.mark.parametrize(
    ("group", "advice"),
    [
        ("vlan100", "call it vlan-100 in the network"),
        ("VLAN 15", "call it VLAN-15 in the network"),
        ("my_vid.7", "call it my_vid-7 in the network"),
        ("trunk", "remove <portgroup name='trunk'/> from network lan if trunk is to mean every VID"),
        ("slow2", ""),  # that means no VLAN
        ("vlan", ""),
    ],
)
def test_a_portgroup_that_looks_like_a_vlan_and_is_none_is_noted_whoever_else_is_there(group, advice):
    found = notes([nic(**{**LEFT_ALONE, "group": group})], [br0(eth0={})])

    assert [one.code for one in found] == (["portgroup-names-no-vid"] if advice else [])
    assert all(f"portgroup {group} names no VID, so the hooks leave it alone: {advice}" in one.line for one in found)


def test_one_uplink_of_two_that_is_up_is_enough():
    assert problems([nic()], [state(eth0=access(46), eth1={}, down=("eth1",))]) == []
    (found,) = problems([nic()], [state(eth0=access(46), eth1={}, down=("eth1",), without_carrier=("eth0",))])
    assert found.line == "br0: its uplink eth1 is down: ip link set dev eth1 up"


def test_advice_that_a_reload_undoes_says_so():
    undone = "systemd-networkd undoes that when it reloads: write it into /etc/x, too"
    (lacks,) = problems([nic()], [state(eth0={}, uplinks_lasting=undone)])
    assert lacks.line.endswith(f"bridge vlan add dev eth0 vid 46 master; {undone}{HOOKS_CAN}")
    (does_not_filter,) = problems([nic()], [state(fault=DOES_NOT_FILTER, lasting=undone)])
    assert does_not_filter.line == f"{DOES_NOT_FILTER}; {undone}"


def test_a_start_that_was_refused_says_when_and_why():
    found = refused_start(Refusal(vm_uuid=UUID, vm="web", seconds=1.8e9, sentence="VM web: no"))

    assert (found.code, found.vm, found.vm_uuid) == ("start-refused", "web", UUID)
    assert found.line.startswith("web: its last start was refused at 2027-01-1")
    assert found.line.endswith(": VM web: no")


def test_a_finding_about_a_nic_says_which_and_its_vlans():
    (found,) = problems([nic(current={})], [br0(eth0=access(46))])

    assert (found.vm, found.vm_uuid, found.mac, found.tap) == ("web", UUID, MAC, "vnet0")
    assert (found.wanted, found.current) == (access(46), {})


def test_a_bridge_that_does_not_filter_is_said_in_the_hooks_words():
    (found,) = problems([nic()], [br0(DOES_NOT_FILTER)])

    assert found.line == DOES_NOT_FILTER


def test_check_says_all_that_is_wrong_at_once():
    found = problems([nic(current={}), nic(made_plain=True, vm="db")], [br0("no bridge br0"), br0(eth0={})])

    assert [finding.line.split()[0] for finding in found] == ["web", "db", "no", "br0:"]


@pytest.mark.parametrize(
    ("nics", "bridge", "says"),
    [
        (
            [nic(), nic(**LEFT_ALONE, current=access(1), vm="guest")],
            br0(eth0={}),
            "br0: in VLAN 1, because no portgroup of theirs names a VID: guest: to prevent that, ip link set ",
        ),
        (
            [nic(), *(nic(**LEFT_ALONE, current=access(1), vm=vm) for vm in ("b", "a", "b"))],
            br0(eth0={}),
            "br0: in VLAN 1, because no portgroup of theirs names a VID: a, b: to prevent",
        ),
        ([nic(), nic(**LEFT_ALONE, current={}, vm="guest")], br0(default_pvid=0, eth0={}), ""),  # strict
        ([nic(), nic(**LEFT_ALONE, current=access(5))], br0(eth0={}), ""),  # has VLANs of its own
        ([nic(**LEFT_ALONE, current=access(1))], br0(eth0={}), ""),  # a bridge on which nobody has a portgroup
        ([nic()], br0(eth0={}), ""),
        ([nic()], br0(), "br0: has no uplink"),
        ([nic()], br0("there is no bridge br0"), ""),  # that says it
    ],
)
def test_notes_say_what_may_be_meant(nics, bridge, says):
    found = notes(nics, [bridge])

    assert len(found) == bool(says)
    assert "".join(note.line for note in found).startswith(says and f"note: {says}")


def test_a_bridge_without_portgroups_hides_no_note_on_the_next():
    others = BridgeState("br1", "", 1, {})

    assert notes([nic(**LEFT_ALONE, bridge="br1"), nic()], [others, br0()]) == notes([nic()], [br0()]) != []
