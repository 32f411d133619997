# SPDX-License-Identifier: MIT
"""From a portgroup's name to VLANs."""

import pytest

from libvirt_hooks import HookError
from libvirt_hooks.hookdata import Network, Port
from libvirt_hooks.vlans import access, every
from libvirt_hooks.wanted import resolve, shown_group, waits_for_restart, why_left_alone


def port(group="zerotier", **changes):
    fields = {"plug": "bridge", "bridge": "br0", "has_vlan": False, "has_virtualport": False, **changes}
    return Port(group=group, vm="web", mac="52:54:00:00:00:02", **fields)


def network(portgroups, default=""):
    return Network(name="lan", portgroups=portgroups, default_group=default, metadata=None, port=None)


def resolved(group, portgroups, default_pvid=1):
    return resolve(port(group), network(portgroups), default_pvid)


@pytest.mark.parametrize(
    ("group", "portgroups", "vid"),
    [
        ("zerotier", ["server-3", "zerotier-46"], 46),
        ("zerotier-46", ["server-3", "zerotier-46"], 46),  # the whole name
        ("a-b", ["a-b-10", "a-5"], 10),  # split at the last dash
        ("a-b-10", ["a-b-10"], 10),
        ("a", ["a-b-10", "a-5"], 5),
        ("zerotier-46", ["zerotier-46", "zerotier-46-7"], 46),  # the whole name is libvirt's own meaning
        ("zerotier-46", ["zerotier-46", "zerotier-47"], 46),  # the way out of an ambiguity
        ("all", ["all-5"], 5),  # defined, so no longer every VID
        ("low", ["low-1"], 1),
        ("high", ["high-4094"], 4094),
        ("naïve €", ["naïve €-7"], 7),
    ],
)
def test_a_portgroup_is_an_access_vlan(group, portgroups, vid):
    assert why_left_alone(port(group), network(portgroups)) == ""
    assert resolved(group, portgroups) == access(vid)


@pytest.mark.parametrize("group", ["all", "trunk"])
@pytest.mark.parametrize("default_pvid", [0, 1, 100])
def test_all_and_trunk_are_every_vid(group, default_pvid):
    assert resolved(group, ["server-3"], default_pvid) == every(default_pvid)
    assert set(every(default_pvid)) == set(range(1, 4095))
    assert {vid for vid, flags in every(default_pvid).items() if flags} == {default_pvid} - {0}


@pytest.mark.parametrize(
    ("group", "portgroups", "says"),
    [
        ("zerotier", ["server-3", "dmz-4"], r"no portgroup 'zerotier' or 'zerotier-VID' \(it has server-3, dmz-4\)"),
        ("zerotier", [], "it has none at all"),
        ("zero", ["zerotier-46"], "no portgroup 'zero'"),  # no prefix of a name
        ("zerotier", ["zerotier-46", "zerotier-47"], "could be any of zerotier-46, zerotier-47"),
        ("server", ["server", "server-3"], "could be any of server, server-3"),  # left alone, or VLAN 3?
        ("a", ["a-0"], "'0' is not a VID"),
        ("a", ["a-4095"], "'4095' is not a VID"),
        ("a", ["a-4096"], "'4096' is not a VID"),
        ("a", ["a-x"], "'x' is not a VID"),
        ("a", ["a-"], "'' is not a VID"),
        ("a-4O", ["a-4O"], "'4O' is not a VID"),  # mistyped: left alone would be the default VLAN
        ("a-4095", ["a-4095"], "'4095' is not a VID"),
        ("ALL", ["server-3"], "no portgroup 'ALL'"),  # libvirt's names are case-sensitive
    ],
)
def test_a_portgroup_that_cannot_work_is_refused(group, portgroups, says):
    assert why_left_alone(port(group), network(portgroups)) == ""
    with pytest.raises(HookError, match=says):
        resolved(group, portgroups)


@pytest.mark.parametrize(
    ("changes", "portgroups", "reason"),
    [
        ({"group": ""}, ["server-3"], "it has no portgroup"),
        ({"group": "slow"}, ["slow", "server-3"], "portgroup slow names no VID"),  # for its bandwidth, say
        ({"group": "my-net"}, ["my-net"], "portgroup my-net names no VID"),
        ({"group": "all"}, ["all"], "portgroup all names no VID"),
        ({"has_vlan": True}, ["zerotier-46"], "it has a <vlan>"),
        ({"has_virtualport": True}, ["zerotier-46"], "it has a <virtualport>, so its tap is on no Linux bridge"),
        ({"plug": "direct", "bridge": ""}, ["zerotier-46"], "its plug is direct, no Linux bridge"),
        ({"plug": "hostdev-pci", "bridge": ""}, ["zerotier-46"], "its plug is hostdev-pci, no Linux bridge"),
        ({"plug": "", "bridge": ""}, ["zerotier-46"], "its plug is none, no Linux bridge"),
        ({"plug": "direct"}, ["zerotier-46"], "its plug is direct, no Linux bridge"),  # whatever bridge it names
        ({"bridge": ""}, ["zerotier-46"], "its plug is bridge, no Linux bridge"),  # but it names none
    ],
)
def test_a_port_that_is_not_ours_is_left_alone(changes, portgroups, reason):
    assert reason in why_left_alone(port(**changes), network(portgroups))


# A NIC that names no portgroup has the network's default one


@pytest.mark.parametrize(
    ("group", "default", "shown", "reason"),
    [
        ("", "server-3", "server-3(default)", ""),
        ("", "slow", "slow(default)", "portgroup slow names no VID"),
        ("", "", "", "it has no portgroup"),
        ("zerotier", "server-3", "zerotier", ""),  # what a NIC names comes first
        ("slow", "server-3", "slow", "portgroup slow names no VID"),
    ],
)
def test_the_default_portgroup_is_the_one_of_a_nic_that_names_none(group, default, shown, reason):
    lan = network(["server-3", "zerotier-46", "slow"], default)

    assert shown_group(port(group), lan) == shown
    assert why_left_alone(port(group), lan) == reason


def test_the_default_portgroup_has_its_own_vlans():
    assert resolve(port(""), network(["server-3", "zerotier-46"], "server-3"), 1) == access(3)


def test_a_default_portgroup_whose_vid_is_none_is_refused_by_its_name():
    with pytest.raises(HookError, match="portgroup 'server-4095' of network lan does not end in a VID"):
        resolve(port(""), network(["server-4095"], "server-4095"), 1)


@pytest.mark.parametrize(
    ("group", "default", "says"),
    [
        ("", "server-3", "it runs without server-3(default), and gets that at its VM's next start"),
        ("", "", ""),  # nothing changes at its next start
        ("zerotier", "server-3", ""),  # an upgrade of the hooks changes nothing for it
    ],
)
def test_a_vm_that_runs_without_its_default_portgroup_waits_for_its_next_start(group, default, says):
    assert waits_for_restart(port(group), network(["server-3", "zerotier-46"], default)) == says
