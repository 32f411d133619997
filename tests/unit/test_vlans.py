# SPDX-License-Identifier: MIT
"""What to type between the VLANs that a port has and those that it should have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libvirt_hooks import HookError, vlans

DEFAULT = {1: "pvid untagged"}
PORT_VLANS = st.dictionaries(st.integers(1, 4094), st.sampled_from(["", "untagged"]), max_size=60)


@st.composite
def vlans_of_a_port(draw):
    """VLANs as the kernel keeps them: any flags, at most one PVID."""
    drawn = draw(PORT_VLANS)
    if drawn and draw(st.booleans()):
        pvid = draw(st.sampled_from(sorted(drawn)))
        drawn[pvid] = f"pvid {drawn[pvid]}".rstrip()
    return drawn


def typed(have, want):
    return [" ".join(command) for command in vlans.changes("vnet0", have, want)]


def kernel(have, commands):
    """A port's VLANs after `bridge` commands, as linux net/bridge/br_vlan.c does it."""
    have = dict(have)
    for _bridge, _vlan, verb, _dev, _port, _vid, vids, *flags, _master in commands:
        first, _, last = vids.partition("-")
        for vid in range(int(first), int(last or first) + 1):
            if verb == "del":
                have.pop(vid, None)
                continue
            if "pvid" in flags:
                have = {other: words.replace("pvid", "").strip() for other, words in have.items()}
            have[vid] = " ".join(flags)
    return have


@pytest.mark.parametrize(
    ("have", "want", "commands"),
    [
        # a new port of a bridge with default PVID 1: out of the wrong VLAN first
        (DEFAULT, vlans.access(46), [
            "bridge vlan del dev vnet0 vid 1 master",
            "bridge vlan add dev vnet0 vid 46 pvid untagged master",
        ]),
        # vlan_default_pvid 0: a new port is in no VLAN
        ({}, vlans.access(46), ["bridge vlan add dev vnet0 vid 46 pvid untagged master"]),
        # right already
        (vlans.access(46), vlans.access(46), []),
        # the VLAN is the default one
        (DEFAULT, vlans.access(1), []),
        # right VLAN, wrong flags: set anew, not deleted
        ({46: ""}, vlans.access(46), ["bridge vlan add dev vnet0 vid 46 pvid untagged master"]),
        ({46: "pvid untagged"}, {46: ""}, ["bridge vlan add dev vnet0 vid 46 master"]),
        # all: the default PVID stays as it is
        (DEFAULT, vlans.every(1), ["bridge vlan add dev vnet0 vid 2-4094 master"]),
        # all without a default PVID: everything tagged
        ({}, vlans.every(0), ["bridge vlan add dev vnet0 vid 1-4094 master"]),
        # from all to one
        (vlans.every(1), vlans.access(46), [
            "bridge vlan del dev vnet0 vid 1-45 master",
            "bridge vlan del dev vnet0 vid 47-4094 master",
            "bridge vlan add dev vnet0 vid 46 pvid untagged master",
        ]),
        # no range of one, no range over a gap, the PVID last though it is the lowest
        (DEFAULT, {10: "pvid untagged", 20: "", 30: "", 31: ""}, [
            "bridge vlan del dev vnet0 vid 1 master",
            "bridge vlan add dev vnet0 vid 20 master",
            "bridge vlan add dev vnet0 vid 30-31 master",
            "bridge vlan add dev vnet0 vid 10 pvid untagged master",
        ]),
    ],
)  # fmt: skip
def test_commands_are_those_an_operator_would_type(have, want, commands):
    assert typed(have, want) == commands


@pytest.mark.parametrize(("default_pvid", "has"), [(1, DEFAULT), (100, {100: "pvid untagged"}), (0, {})])
def test_a_new_port_is_in_its_bridges_default_vlan_if_there_is_one(default_pvid, has):
    assert vlans.of_new_bridge_port(default_pvid) == has


@given(vlans_of_a_port(), vlans_of_a_port())
def test_commands_lead_from_any_vlans_to_any_others(have, want):
    assert kernel(have, vlans.changes("vnet0", have, want)) == want


@given(vlans_of_a_port(), vlans_of_a_port(), st.data())
def test_commands_cut_short_leave_no_foreign_vlan_beside_an_own_one(have, want, data):
    commands = vlans.changes("vnet0", have, want)
    after = kernel(have, commands[: data.draw(st.integers(0, len(commands)))])

    newly_own = {vid for vid in after if vid in want and vid not in have}
    assert not newly_own or set(after) <= set(want)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ([], {}),  # a port without any VLAN is missing
        ([{"ifname": "vnet0", "vlans": [{"vlan": 46, "flags": ["PVID", "Egress Untagged"]}]}], {46: "pvid untagged"}),
        ([{"ifname": "vnet0", "vlans": [{"vlan": 5, "flags": ["Egress Untagged"]}]}], {5: "untagged"}),
        ([{"ifname": "vnet0", "vlans": [{"vlan": 5, "flags": ["PVID"]}]}], {5: "pvid"}),
        ([{"ifname": "vnet0", "vlans": [{"vlan": 46}]}], {46: ""}),  # iproute2 6.1: no flags at all
        ([{"ifname": "vnet0", "vlans": [{"vlan": 2, "vlanEnd": 4, "flags": []}]}], {2: "", 3: "", 4: ""}),
    ],
)
def test_from_bridge_reads_what_bridge_shows(shown, expected):
    assert vlans.from_bridge(shown) == expected


@pytest.mark.parametrize(
    "shown", [None, 5, {"a": 1}, {}, "", [{}], [{"vlans": 5}], [{"vlans": [{}]}], [{"vlans": [{"vlan": "x"}]}]]
)
def test_from_bridge_refuses_anything_else(shown):
    with pytest.raises(HookError, match="not a list of VLANs"):
        vlans.from_bridge(shown)


@pytest.mark.parametrize(("text", "vid"), [("1", 1), ("46", 46), ("046", 46), ("000000046", 46), ("4094", 4094)])
def test_checked_vid_takes_numbers_from_1_to_4094(text, vid):
    assert vlans.checked_vid(text) == vid


@pytest.mark.parametrize(
    "text",
    [
        "0",  # IEEE 802.1Q: a priority tag
        "4095",  # reserved
        "4096",  # more than 12 bits
        "-1",
        "",
        "x",
        "5x",  # bridge would take it for 5
        "4-3",
        " 5",
        "+5",
        "5.0",
        "٤٦",  # digits, but not ASCII's
        "²",  # isdigit(), but no int()
        "0000000046",  # ten digits are no VID that somebody meant
        "9" * 5000,  # int() itself refuses it
    ],
)
def test_checked_vid_refuses_what_is_none(text):
    with pytest.raises(HookError, match="is not a VID: a VID is a number from 1 to 4094"):
        vlans.checked_vid(text)


@given(vlans_of_a_port())
def test_from_text_reads_what_to_text_wrote(some):
    assert vlans.from_text(vlans.to_text(some)) == some


@pytest.mark.parametrize(
    ("some", "text"),
    [
        ({}, "none"),
        (vlans.access(46), "46 pvid untagged"),
        (vlans.every(1), "1 pvid untagged, 2-4094"),
        ({10: "pvid untagged", 20: "", 30: "", 31: ""}, "10 pvid untagged, 20, 30-31"),
    ],
)
def test_to_text_is_short(some, text):
    assert vlans.to_text(some) == text


@pytest.mark.parametrize("text", ["", "46 pvid unta", "46  untagged", "4095", "x", "46,47", "1-4095", "none, 5"])
def test_from_text_refuses_what_to_text_never_wrote(text):
    with pytest.raises(HookError, match=r"are not flags of a VLAN|is not a VID"):
        vlans.from_text(text)
