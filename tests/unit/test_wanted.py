# SPDX-License-Identifier: MIT
"""From a portgroup's name to VLANs."""

import pytest
from decisions import network

from libvirt_hooks import HookError
from libvirt_hooks.vlans import access, every
from libvirt_hooks.wanted import resolve


def resolved(group, portgroups, default_pvid=1):
    return resolve(group, network(portgroups), default_pvid)


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
    with pytest.raises(HookError, match=says):
        resolved(group, portgroups)


@pytest.mark.parametrize(
    ("group", "portgroups"), [("slow", ["slow", "server-3"]), ("my-net", ["my-net"]), ("all", ["all"])]
)
def test_a_portgroup_that_names_no_vid_gives_no_vlans(group, portgroups):
    assert resolved(group, portgroups) is None
