# SPDX-License-Identifier: MIT
"""From a portgroup's name to VLANs."""

import pytest

from libvirt_hooks import HookError
from libvirt_hooks.hookdata import Network, Port
from libvirt_hooks.vlans import access, every
from libvirt_hooks.wanted import resolve, why_left_alone


def port(group="zerotier", **changes):
    fields = {"plug": "bridge", "bridge": "br0", "has_vlan": False, "has_virtualport": False, **changes}
    return Port(group=group, vm="web", mac="52:54:00:00:00:02", **fields)


def network(portgroups):
    return Network(name="lan", portgroups=portgroups, metadata=None, port=None)


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
        ("a", ["a-0"], "'0' is no VID"),
        ("a", ["a-4095"], "'4095' is no VID"),
        ("a", ["a-4096"], "'4096' is no VID"),
        ("a", ["a-x"], "'x' is no VID"),
        ("a", ["a-"], "'' is no VID"),
        ("a-4O", ["a-4O"], "'4O' is no VID"),  # mistyped: left alone would be the default VLAN
        ("a-4095", ["a-4095"], "'4095' is no VID"),
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
