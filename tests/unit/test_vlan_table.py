# SPDX-License-Identifier: MIT
"""Who is in which VLAN: the table and the JSON of libvirt-vlan vlans."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import validate

from libvirt_hooks.hookdata import Port
from libvirt_hooks.tool.findings import problems
from libvirt_hooks.tool.members import lacks_uplink, vlans_in_use
from libvirt_hooks.tool.model import BridgeState, NicState
from libvirt_hooks.tool.vlan_table import to_json, to_table, wrapped
from libvirt_hooks.vlans import access, every

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan-vlans.schema.json").read_text())
LAB = {10: "pvid untagged", 20: "", **dict.fromkeys(range(30, 41), "")}
MAC, UUID = "52:54:00:00:00:01", "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5"


def nic(vm, group="", wanted=None, current="as wanted", bridge="br0", **changes):
    port = Port(vm=vm, vm_uuid=UUID, mac=MAC, group=group, bridge=bridge, plug="bridge")
    fields = {"network": "lan", "tap": "vnet0", "reason": "", "refused": False, "made_plain": False, "ticket": None}
    current = wanted if current == "as wanted" else current
    return NicState(port=port, wanted=wanted, current=current, **{**fields, **changes})


def web(current="as wanted", **changes):
    return nic("web", "zerotier", access(46), current, **changes)


def bridge(name="br0", fault="", filters_vlans=True, **uplinks):
    return BridgeState(name, fault, 1, uplinks, filters_vlans=filters_vlans)


def table(nics, bridges, *asked):
    """Return the lines below the table's header, each as its cells, which begin where their column's name does."""
    lines = to_table(nics, bridges, list(asked), False).splitlines()
    starts = [word.start() for word in re.finditer(r"\S+", lines[0])]
    return [[line[start:end].strip() for start, end in zip(starts, [*starts[1:], None])] for line in lines[1:]]


CARRIED = bridge(eth0=every(1))
SOME = st.sampled_from([{}, access(46), {31: "", 32: ""}, every(1)])


@given(
    st.lists(st.builds(nic, st.just("web"), st.sampled_from(["lab", "trunk"]), st.none() | SOME, st.none() | SOME)),
    st.dictionaries(st.sampled_from(["eth0", "eth1"]), SOME),
    st.booleans(),
)
def test_check_and_vlans_find_the_same_vlans_that_no_uplink_carries(nics, uplinks, filters_vlans):
    """Also of a portgroup that is called trunk, and has a list in the <metadata>."""
    bridges = [bridge(filters_vlans=filters_vlans, **uplinks)]
    found = [one.wanted for one in problems(nics, bridges) if one.code == "uplink-lacks-vlan"]

    lacking = {use.first for use in vlans_in_use(nics, bridges, [31, 32, 46]) if lacks_uplink(use)}
    assert {vid for vlans in found for vid in vlans} == lacking


@pytest.mark.parametrize(
    ("nics", "bridges", "rows"),
    [
        ([], [], []),
        ([web()], [CARRIED], [["46", "br0", "zerotier", "web", "-", "eth0", "-"]]),
        # a trunk: what is the same from 30 to 40 is one row
        ([nic("router", "lab", LAB)], [CARRIED], [
            ["10", "br0", "lab", "router", "-", "eth0", "-"],
            ["20", "br0", "lab", "-", "router", "eth0", "-"],
            ["30-40", "br0", "lab", "-", "router", "eth0", "-"],
        ]),
        # somebody else in the middle of the range
        ([nic("router", "lab", {31: "", 32: "", 33: ""}), nic("db", "server-32", access(32))], [CARRIED], [
            ["31", "br0", "lab", "-", "router", "eth0", "-"],
            ["32", "br0", "lab, server-32", "db", "router", "eth0", "-"],
            ["33", "br0", "lab", "-", "router", "eth0", "-"],
        ]),
        # an uplink that carries only half of it
        ([nic("router", "lab", {31: "", 32: ""})], [bridge(eth0={31: ""}, eth1={31: ""})], [
            ["31", "br0", "lab", "-", "router", "eth0, eth1", "-"],
            ["32", "br0", "lab", "-", "router", "-", "no uplink carries it"],
        ]),
        # the same VLAN on two bridges is two VLANs, and does not keep a range of the first one from being one row
        ([nic("a", "x", {31: "", 32: ""}), nic("b", "x", {31: "", 32: ""}, bridge="br1")], [bridge(), bridge("br1")], [
            ["31-32", "br0", "x", "-", "a", "-", "-"],
            ["31-32", "br1", "x", "-", "b", "-", "-"],
        ]),
        # two NICs of one VM, two names of one portgroup
        ([web(), nic("web", "zerotier-46", access(46)), nic("app", "zerotier", access(46), is_default=True)], [CARRIED],
         [["46", "br0", "zerotier, zerotier-46", "web, app", "-", "eth0", "-"]]),
        # tells the VMs whose tap is in another VLAN than wanted: in both
        ([web(access(1))], [CARRIED], [
            ["1", "br0", "-", "web", "-", "eth0", "in it, and should not be: web"],
            ["46", "br0", "zerotier", "-", "-", "eth0", "not in it: web"],
        ]),
        ([web(None)], [CARRIED], [["46", "br0", "zerotier", "-", "-", "eth0", "not in it: web"]]),  # off its bridge
        ([web({46: ""})], [CARRIED], [["46", "br0", "zerotier", "-", "web", "eth0", "in it with other flags: web"]]),
        # the guest's untagged frames go into the VLAN, the VLAN's frames reach the guest tagged
        ([web({46: "pvid"})], [CARRIED], [["46", "br0", "zerotier", "-", "web", "eth0",
                                           "in it with other flags: web"]]),
        # each problem in a line of its own
        ([web(access(3)), nic("db", "server", access(3), {})], [bridge(eth0={})], [
            ["3", "br0", "server", "web", "-", "-", "not in it: db"],
            ["", "", "", "", "", "", "in it, and should not be: web"],
            ["", "", "", "", "", "", "no uplink carries it"],
            ["46", "br0", "zerotier", "-", "-", "-", "not in it: web"],
            ["", "", "", "", "", "", "no uplink carries it"],
        ]),
        # nobody wants VLAN 99: no uplink need carry it
        ([web({**access(46), 99: ""})], [bridge(eth0=access(46))], [
            ["46", "br0", "zerotier", "web", "-", "eth0", "-"],
            ["99", "br0", "-", "-", "web", "-", "in it, and should not be: web"],
        ]),
        # left alone: libvirt's own <vlan>, say, or the bridge's default VLAN
        ([nic("old", "slow", None, access(1))], [bridge(eth0={})],
         [["1", "br0", "slow", "old", "-", "-", "no uplink carries it"]]),
        ([nic("old", "", None, access(1), refused=True)], [CARRIED], [["1", "br0", "-", "old", "-", "eth0", "-"]]),
        # on no bridge
        ([nic("other", "", None, None, bridge="")], [], []),
    ],
)  # fmt: skip
def test_each_vlan_in_use_has_a_row_that_says_who_is_in_it_and_what_is_missing(nics, bridges, rows):
    assert table(nics, bridges) == rows


FIREWALL = nic("fw", "all", every(1))


@pytest.mark.parametrize(
    ("nics", "bridges", "rows", "apart"),
    [
        ([FIREWALL], [CARRIED], 0, ["br0: in every VLAN: fw vnet0: wanted 1PU,2-4094, current 1PU,2-4094: right"]),
        ([FIREWALL, web()], [CARRIED], 1,
         ["br0: in every VLAN: fw vnet0: wanted 1PU,2-4094, current 1PU,2-4094: right"]),
        # wants every VLAN, and is in VLAN 1 only: a row for that, which no uplink need carry
        ([nic("fw", "all", every(1), access(1))], [bridge(eth0={})], 1,
         ["br0: in every VLAN: fw vnet0: wanted 1PU,2-4094, current 1PU: wrong"]),
        # wants one, and is in all of them
        ([web(every(46))], [CARRIED], 1,
         ["br0: in every VLAN: web vnet0: wanted 46PU, current 1-45,46PU,47-4094: wrong"]),
        ([nic("fw", "all", every(1), None, tap="")], [CARRIED], 0,
         ["br0: in every VLAN: fw -: wanted 1PU,2-4094, current -: not on bridge"]),
        ([nic("a", "", None, access(1), "virbr0"), nic("b", "", None, access(1), "virbr0")],
         [bridge("virbr0", filters_vlans=False)], 0,
         ["virbr0 does not filter VLANs, so all of its VMs reach each other: a, b"]),
        ([web()], [bridge(fault="there is no bridge br0: create it", filters_vlans=False)], 0,
         ["there is no bridge br0: create it"]),
    ],
)  # fmt: skip
def test_what_would_be_in_every_row_is_said_once(nics, bridges, rows, apart):
    lines = to_table(nics, bridges, [], False).splitlines()

    assert lines[1 + rows :] == apart


def test_a_trunk_of_every_vid_takes_no_vlan_into_use():
    uses = vlans_in_use([nic(f"fw{number}", "all", every(1)) for number in range(100)], [CARRIED], [])

    assert uses == []


def test_a_vlan_asked_for_has_a_row_for_each_bridge_and_others_have_none():
    bridges = [CARRIED, bridge("br1", eth1=access(1))]
    nics = [web(), nic("db", "server", access(3)), nic("router", "lab", {**access(46), 47: ""}), FIREWALL]

    assert table(nics, bridges, 47, 46, 46)[:4] == [
        ["46", "br0", "lab, zerotier", "web, router", "-", "eth0", "-"],
        ["46", "br1", "-", "-", "-", "-", "-"],
        ["47", "br0", "lab", "-", "router", "eth0", "-"],
        ["47", "br1", "-", "-", "-", "-", "-"],
    ]


def test_sixty_vms_in_one_vlan_keep_the_table_narrow():
    nics = [nic(f"web-{number:02}", "zerotier", access(46)) for number in range(60)]
    lines = to_table(nics, [CARRIED], [], False).splitlines()

    assert max(map(len, lines)) < 100
    names = [name.strip() for row in table(nics, [CARRIED]) for name in row[3].split(",") if name]
    assert names == [given.port.vm for given in nics]


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        ([], []),
        (["a"], ["a"]),
        (["aaa", "bbb"], ["aaa, bbb"]),
        (["aaa", "bbb", "c"], ["aaa, bbb,", "c"]),
        (["aaaa", "bbbb"], ["aaaa,", "bbbb"]),  # with a comma to come
        (["longer than that", "b"], ["longer than that,", "b"]),
    ],
)
def test_a_long_list_goes_on_in_the_next_line(names, lines):
    assert wrapped(names, 10) == lines


def test_no_name_can_bring_colours_or_lines_of_its_own():
    evil = "a\x1b[2Kb\nc"
    nics = [nic(evil, evil, access(46), access(1), network=evil), nic(evil, "", every(1))]
    bridges = [bridge(**{evil: {}}), bridge("br1", f"no {evil}"), bridge("br2", filters_vlans=False)]
    nics.append(nic(evil, bridge="br2"))

    lines = to_table(nics, bridges, [], False).splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 1 + 3 + 3  # VLAN 1 with one problem, VLAN 46 with two, and a line for each of the rest


def test_only_what_is_wrong_is_in_colour():
    wrong, plain = (to_table([web(found)], [CARRIED], [46], True).splitlines()[1] for found in ({}, access(46)))

    assert wrong.endswith("\033[31mnot in it: web\033[0m")
    assert "\033" not in plain
    many = [nic(f"a-vm-with-a-long-name-{number}", "zerotier", access(46)) for number in range(4)]
    assert "\033" not in to_table(many, [CARRIED], [], True)  # in several lines


def test_vms_with_one_problem_are_named_together():
    assert table([web({}), nic("db", "zerotier", access(46), {})], [CARRIED])[0][-1] == "not in it: web, db"


def test_json_can_be_read_by_people_too():
    assert to_json([], [], []).startswith('{\n  "vlans": ')


EVERYTHING = [
    web(), web(access(1)), web(None), nic("router", "lab", LAB, {10: "pvid"}), FIREWALL, nic("old", current=access(1)),
    nic("bad", "x", current={}, refused=True), nic("", "", None, None, bridge="", tap="", network=""),
    nic("plain", "", None, access(1), tap="", network=""),
]  # fmt: skip


@pytest.mark.parametrize("asked", [[], [46, 47]])
def test_json_is_as_the_schema_says(asked):
    bridges = [bridge(eth0=access(46)), bridge("br1", filters_vlans=False)]

    validate(json.loads(to_json(EVERYTHING, bridges, asked)), SCHEMA)


def test_json_says_what_the_table_says():
    shown = json.loads(to_json([web(access(1)), FIREWALL], [CARRIED, bridge("br1", filters_vlans=False)], []))
    named = {"vm": "web", "vm_uuid": UUID, "mac": MAC, "tap": "vnet0"}
    flags = ["PVID", "Egress Untagged"]

    assert shown == {
        "vlans": [
            {
                "vlan": 1, "bridge": "br0", "portgroups": [], "uplinks": ["eth0"], "lacks_uplink": False,
                "nics": [{**named, "current": flags, "wanted": None, "membership": "surplus"}],
            },
            {
                "vlan": 46, "bridge": "br0", "portgroups": [{"network": "lan", "portgroup": "zerotier"}],
                "uplinks": ["eth0"], "lacks_uplink": False,
                "nics": [{**named, "current": None, "wanted": flags, "membership": "missing"}],
            },
        ],
        "in_every_vlan": [{**named, "vm": "fw", "bridge": "br0", "verdict": "right"}],
        "unused_on_uplinks": [],
        "bridges_without_filtering": ["br1"],
    }  # fmt: skip


def test_json_has_a_range_as_bridge_has_it():
    (shown,) = json.loads(to_json([nic("router", "lab", {30: "", 31: ""})], [bridge(eth0={})], []))["vlans"]

    assert (shown["vlan"], shown["vlanEnd"], shown["uplinks"], shown["lacks_uplink"]) == (30, 31, [], True)


def test_what_only_a_named_uplink_carries_is_said_below_the_table():
    of = BridgeState("br0", "", 1, {"eth0": {46: "", 7: ""}}, unused={"eth0": {7: ""}, "eth1": {}})

    assert to_table([web()], [of], [], False).splitlines()[-1] == ("br0: no VM uses VLAN 7, which uplink eth0 carries")
    shown = json.loads(to_json([web()], [of], []))
    validate(shown, SCHEMA)
    assert shown["unused_on_uplinks"] == [{"bridge": "br0", "uplink": "eth0", "vlans": [{"vlan": 7, "flags": []}]}]
