# SPDX-License-Identifier: MIT
"""What becomes of a port, whoever asks: the hooks, show, check, sync or plan. Nothing is read meanwhile."""

import pytest
from decisions import DB, MAC, NOW, WEB, bridge, decided, known, network, port, ticket, uuid

from libvirt_hooks import taps, veths
from libvirt_hooks.decision import why_not_beside, why_not_both
from libvirt_hooks.elements import parse
from libvirt_hooks.hookdata import Domain, Nic
from libvirt_hooks.lifecycle import START_SECONDS
from libvirt_hooks.sysfs import Uplink
from libvirt_hooks.vlans import access

OTHER_ADDRESS = "give one of the two another MAC address"
RIGHT = {"right": ("vnet0", 4), "interface": ("vnet0", 4)}


def test_a_port_gets_the_vlans_of_its_portgroup_and_a_ticket():
    decision = decided()

    assert (decision.vlans, decision.left_alone, decision.refused, decision.gone) == (access(46), "", "", [])
    assert decision.ticket == ticket(created=NOW)


@pytest.mark.parametrize(
    ("of", "net", "reason"),
    [
        (port(""), network(), "it has no portgroup"),
        (port("slow"), network(["slow", "server-3"]), "portgroup slow names no VID"),  # for its bandwidth, say
        (port("my-net"), network(["my-net"]), "portgroup my-net names no VID"),
        (port("all"), network(["all"]), "portgroup all names no VID"),
        (port(has_vlan=True), network(), "it has a <vlan>, which libvirt applies itself (since 11.0)"),
        (port(has_virtualport=True), network(), "it has a <virtualport>, so its tap is on no Linux bridge"),
        (port(plug="direct", bridge=""), network(), "its plug is direct, no Linux bridge"),
        (port(plug="hostdev-pci", bridge=""), network(), "its plug is hostdev-pci, no Linux bridge"),
        (port(plug="", bridge=""), network(), "its plug is none, no Linux bridge"),
        (port(plug="direct"), network(), "its plug is direct, no Linux bridge"),  # whatever bridge it names
        (port(bridge=""), network(), "its plug is bridge, no Linux bridge"),  # but it names none
        (port(""), network(default="slow", portgroups=["slow"]), "portgroup slow names no VID"),
    ],
)
def test_a_port_that_is_not_ours_is_left_alone(of, net, reason):
    decision = decided(of, net, bridge=bridge(vlan_filtering=False))  # which does not matter then

    assert (decision.left_alone, decision.refused, decision.vlans, decision.ticket) == (reason, "", None, None)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"bridge": bridge(exists=False)}, "there is no bridge br0: create it"),
        ({"bridge": bridge(vlan_filtering=False)}, "bridge br0 does not filter VLANs: turn that on"),
        ({"uncalled": "the lxc hook was not called"}, "the lxc hook was not called"),
        ({"strangers": ["vnet5"]}, f"vnet5 on br0, which is not this VM's, has that address already: {OTHER_ADDRESS}"),
        # a twin that runs, one whose start is yet to be granted, and one that waits for its tap
        ({"known": [known(2, lives=True, vm="db", vm_uuid=DB, **RIGHT)]}, "VM db has that address on br0 already"),
        ({"known": [known(2, noted=False, vm="db", vm_uuid=DB, created=NOW - 9)]}, "VM db has that address"),
        ({"known": [known(2, vm="db", vm_uuid=DB)]}, "VM db has that address on br0 already"),
    ],
)
def test_what_cannot_work_is_refused(facts, says):
    decision = decided(**facts)

    assert decision.refused.startswith(says)
    assert (decision.vlans, decision.left_alone, decision.ticket) == (None, "", None)


@pytest.mark.parametrize(
    ("others", "gone"),
    [
        ([known(2, **RIGHT)], [2]),  # an earlier port of the same VM, which libvirt never took back
        ([known(2, lives=True, **RIGHT)], [2]),  # and its tap is on no bridge
        ([known(2, noted=False)], [2]),
        ([known(2, vm_uuid=DB, noted=False, created=NOW - 10)], [2]),  # another VM's, which libvirt has forgotten
        ([known(2, vm_uuid=DB, **RIGHT)], [2]),  # which libvirt has kept, but the tap is gone
        ([known(2, vm_uuid=DB, released=True, noted=False)], [2]),
        ([known(1, noted=False, created=1.0)], []),  # its own, of an earlier announcement
    ],
)
def test_tickets_that_have_had_their_day_do_not_apply_to_the_next_tap_of_that_address(others, gone):
    decision = decided(known=others)

    assert [one.uuid for one in decision.gone] == [uuid(number) for number in gone]
    assert decision.vlans == access(46)
    left_alone = decided(port(""), known=others)  # a port that is left alone must not get them either
    assert (left_alone.gone, left_alone.ticket) == (decision.gone, None)


@pytest.mark.parametrize("facts", [{"interface": "vnet0"}, {"strangers": ["vnet0"]}])
def test_while_a_tap_of_that_address_is_there_every_ticket_stays(facts):
    assert decided(known=[known(2, released=True, noted=False)], **facts).gone == []


# A tap that is there already: a live change, or a restart of the daemon


def test_a_live_change_is_only_announced():
    """libvirt has not decided yet: the ticket does not apply at once."""
    decision = decided(known=[known(2, lives=True, **RIGHT)], interface="vnet0")

    assert decision.gone == []
    assert decision.ticket == ticket(live=True, created=NOW)


def test_a_live_change_to_no_portgroup_gets_a_ticket_that_gives_no_vlans():
    decision = decided(port(""), known=[known(2, lives=True, **RIGHT)], interface="vnet0")

    assert decision.left_alone == "it has no portgroup"
    assert decision.ticket == ticket(group="", vlans=None, live=True, created=NOW)
    assert decided(port(""), known=[known(2, vm_uuid=DB)], interface="vnet0").ticket is None  # nobody's change


def test_a_port_that_is_announced_again_keeps_what_its_ticket_says():
    before = known(1, lives=True, created=17.0, bridge_index=7, **RIGHT)
    decision = decided(known=[before], interface="vnet0")

    assert decision.ticket == ticket(created=17.0, right=("vnet0", 4), bridge_index=7)


def test_a_port_that_is_announced_again_gets_the_vlans_of_now():
    before = known(1, lives=True, vlans=access(3), **RIGHT)

    assert decided(known=[before], interface="vnet0").ticket.vlans == access(46)


@pytest.mark.parametrize(
    ("announced", "number", "facts", "vlans", "over"),
    [
        ("zerotier", 1, {}, access(3), "zerotier"),  # a daemon that was restarted announces the old portgroup
        ("zerotier", 2, {}, access(3), "zerotier"),  # so does a live change of something else
        ("zerotier", 1, {"interface": ""}, access(46), None),  # the VM starts anew
        ("zerotier", 1, {"lives": False}, access(46), None),  # that was another tap
        ("dmz", 1, {}, access(47), None),  # a live change to another portgroup
        ("", 1, {}, None, None),  # the same to none
    ],
)
def test_what_was_applied_decides_as_long_as_libvirt_announces_what_was_there_before(
    announced, number, facts, vlans, over
):
    facts = {"interface": "vnet0", "lives": True, **facts}
    applied = known(vlans=access(3), group="server", applied_over="zerotier", right=("vnet0", 7), lives=facts["lives"])
    net = network(["server-3", "zerotier-46", "dmz-47"])

    decision = decided(port(announced, uuid=uuid(number)), net, interface=facts["interface"], known=[applied])

    assert (decision.vlans, decision.applied_over) == (vlans, over)
    assert (decision.ticket.vlans, decision.ticket.applied_over) == (vlans, over)


def test_a_nic_that_apply_has_put_back_into_the_default_vlan_stays_there():
    applied = known(vlans=access(1), group="", applied_over="zerotier", right=("vnet0", 7), lives=True)

    decision = decided(port(), interface="vnet0", known=[applied])

    assert (decision.vlans, decision.left_alone, decision.group) == (access(1), "", "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"exists": False, "master": ""}, "names no interface of this host"),
        ({"master": ""}, "names an interface that is not on br0: put it there in the host's network configuration"),
        ({"master": "bond1", "is_lower": True}, "names a part of bond1: name bond1 there instead"),
        ({"name": "br0", "master": ""}, "names the bridge itself"),
        ({"master": "br1"}, "names an interface that is on br1 instead of br0"),
        ({"is_tap": True}, "names a tap, which leads to a guest"),
    ],
)
def test_an_uplink_that_can_carry_nothing_refuses_a_start_and_no_running_vm(changes, says):
    net, name = network(), changes.get("name", "bond0")
    net.metadata = parse(
        f"<m><p:portgroups xmlns:p='urn:libvirt-hooks:portgroups:1'><uplink dev='{name}'/></p:portgroups></m>".encode(),
        "it",
    )
    one = Uplink(**{"name": name, "exists": True, "master": "br0", "is_tap": False, "is_lower": False, **changes})

    assert says in decided(net=net, uplinks=[one]).refused
    assert bool(says) == bool(decided(net=net, uplinks=[one]).refused)
    assert decided(net=net, uplinks=[one], interface="vnet0").ticket.uplinks == [name]
    every_vid = decided(port("all"), net, uplinks=[one])
    assert (every_vid.refused, every_vid.ticket.uplinks) == ("", [])


def test_a_port_that_libvirt_has_kept_of_a_vm_that_has_ended_is_left_alone():
    """The VM ended while its network's daemon was away, and the daemon announces what it has a record of."""
    decision = decided(known=[known(1, lives=False, **RIGHT)])

    assert decision.left_alone == "its tap is gone: libvirt has kept the port of a guest that has ended"
    assert (decision.ticket, decision.gone) == (None, [])
    renamed = decided(known=[known(1, lives=False, **RIGHT)], interface="vnet9")  # it runs with a tap of another name
    assert (renamed.vlans, renamed.ticket.right) == (access(46), None)
    assert decided(port(uuid=uuid(2), vm_uuid=DB), known=[known(1, **RIGHT)]).vlans == access(46)  # no twin


OLD = {"created": NOW - START_SECONDS}
GONE = "its tap is gone: libvirt has kept the port of a guest that has ended"
OTHER = "the VM runs with another port: libvirt has kept this one of an earlier run"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, GONE),  # its ticket went when the guest was started again, or was never written
        ({"known": [known(1, **OLD)]}, GONE),  # its start has failed
        ({"known": [known(2, lives=True, vm_uuid=DB, **RIGHT)], "strangers": ["vnet5"]}, GONE),  # the MAC is another's
        ({"known": [known(2)]}, GONE),  # its guest starts once more
        ({"known": [known(1)]}, ""),  # its guest may be about to start
        ({"used": True}, ""),  # somebody has taken its tap off the bridge
        ({"again": False}, ""),  # its guest starts
        ({"known": [known(1, lives=True, **OLD, **RIGHT)]}, ""),
        ({"interface": "vnet0"}, OTHER),  # its guest has been started again, without a portgroup
        ({"interface": "vnet0", "known": [known(2, lives=True, **RIGHT)]}, OTHER),
        ({"interface": "vnet0", "known": [known(2, lives=True, vm_uuid=DB, **RIGHT)]}, OTHER),  # defined anew
        ({"interface": "vnet0", "known": [known(1, **OLD), known(2, lives=True, **RIGHT)]}, OTHER),
        ({"interface": "vnet0", "known": [known(1), known(2, lives=True, **RIGHT)]}, ""),  # a live change
        ({"interface": "vnet0", "used": True}, ""),  # it runs from before the hooks
        ({"interface": "vnet0", "known": [known(1, lives=True, **OLD, **RIGHT)]}, ""),  # made a plain bridge NIC
    ],
)
def test_a_port_that_a_started_daemon_announces_is_kept_if_nothing_says_that_its_guest_has_it(facts, says):
    decision = decided(**{"again": True, **facts})

    assert decision.left_alone == says
    if says:
        assert (decision.vlans, decision.ticket, decision.gone, decision.refused) == (None, None, [], "")


@pytest.mark.parametrize(
    ("other", "has_command"),
    [
        (known(2, vm="db", vm_uuid=DB), True),  # it is about to start, or its start has failed
        (known(2, vm="db", vm_uuid=DB, noted=False, created=NOW), False),
        (known(2, vm="db", vm_uuid=DB, used=True), False),
        (known(2, vm="db", vm_uuid=DB, lives=True, **RIGHT), False),
    ],
)
def test_a_refusal_because_of_a_port_that_may_be_kept_names_the_command_that_removes_it(other, has_command):
    other.ticket.network = "my lan"
    command = f"virsh -c network:///system net-port-delete 'my lan' {uuid(2)}"
    says = f"; if VM db does not start, {command} removes what libvirt has kept of it"

    assert decided(known=[other]).refused == (
        f"VM db has that address on br0 already: {OTHER_ADDRESS}{says if has_command else ''}"
    )


# The network's default portgroup


@pytest.mark.parametrize(
    ("group", "default", "vlans", "is_default"),
    [
        ("", "server-3", access(3), True),
        ("", "zerotier-46", access(46), True),
        ("zerotier", "server-3", access(46), False),  # what a NIC names comes first
        ("server-3", "server-3", access(3), False),
    ],
)
def test_the_default_portgroup_is_that_of_a_nic_that_names_none(group, default, vlans, is_default):
    decision = decided(port(group), network(default=default))

    assert (decision.vlans, decision.group, decision.is_default) == (vlans, group or default, is_default)
    assert (decision.ticket.group, decision.ticket.is_default) == (group or default, is_default)


def test_a_default_portgroup_whose_vid_is_none_is_refused_by_its_name():
    refused = decided(port(""), network(["server-4095"], "server-4095")).refused

    assert refused.startswith("portgroup 'server-4095' of network lan does not end in a VID")


@pytest.mark.parametrize(
    ("group", "facts", "waits"),
    [
        ("", {"interface": "vnet0"}, True),
        ("", {}, False),  # it starts
        ("zerotier", {"interface": "vnet0"}, False),  # an upgrade of the hooks changes nothing for it
        ("", {"interface": "vnet0", "known": [known(2, lives=True, **RIGHT)]}, False),  # it has got that already
    ],
)
def test_a_vm_that_runs_without_its_default_portgroup_waits_for_its_next_start(group, facts, waits):
    decision = decided(port(group), network(default="server-3"), **facts)

    assert (decision.waits, bool(decision.left_alone), bool(decision.ticket)) == (waits, waits, not waits)
    if waits:
        assert decision.left_alone == (
            "it runs without the network's default portgroup: server-3 will apply when its VM next starts"
        )


# Containers


def test_a_containers_second_nic_of_one_address_is_refused():
    """libvirt allows it, and changes no NIC of a container that runs."""
    other = known(2, lives=True, kind=veths, **RIGHT)
    refused = decided(port(kind=veths), known=[other]).refused

    assert refused == f"the container has a NIC with that address already: {OTHER_ADDRESS}"


def test_a_containers_ticket_stays_while_its_veth_lives():
    decision = decided(port(kind=veths, vm_uuid=DB), known=[known(2, lives=True, kind=veths, **RIGHT)])

    assert decision.gone == []
    assert decision.refused.startswith("container web has that address on br0 already")


# A guest that is about to run


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (known(2, vm="db", vm_uuid=DB), "VM db has that address on br0 already"),  # its process waits for that address
        (known(2, vm="db", vm_uuid=DB, right=("vnet5", 9)), "VM db has that address"),  # and has taken this tap for its
        (known(2, vm="db", vm_uuid=DB, right=("vnet0", 4)), ""),  # db runs with a tap of its own
        (known(2, vm="db", vm_uuid=DB, noted=False), ""),  # libvirt has forgotten that port
        (known(2, vm="db", vm_uuid=DB, vlans=None), ""),  # nothing is set for that port
        (known(2), ""),  # the same guest's
    ],
)
def test_a_nic_that_is_left_alone_does_not_run_beside_one_that_it_can_be_taken_for(one, says):
    web = Domain(name="web", uuid=WEB, type="kvm", pid="", runs=True, nics=[])
    reason = why_not_beside(web, Nic(mac=MAC, bridge="br0"), [one], ("vnet5", 9), NOW)

    assert reason.startswith(says)
    assert bool(reason) == bool(says)


@pytest.mark.parametrize(
    ("other", "clash"),
    [
        ({"mac": MAC}, True),
        ({"mac": "50:54:00:00:00:02"}, True),  # the taps' addresses have their first byte from libvirt
        ({"mac": "fe:54:00:00:00:02"}, False),  # but this one's is FA
        ({"mac": MAC, "bridge": "br1"}, False),
        ({"mac": "50:54:00:00:00:02", "kind": veths}, False),  # a veth's key is the whole address
    ],
)
def test_two_nics_of_one_guest_must_differ(other, clash):
    kind = other.get("kind", taps)
    reason = why_not_both(port(kind=kind), [port(uuid=uuid(2), **other)])

    assert reason.startswith(f"NIC {other['mac']} has the same last five bytes on the same bridge" if clash else "")
    assert bool(reason) == clash
