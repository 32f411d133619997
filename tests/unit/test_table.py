# SPDX-License-Identifier: MIT
"""NICs as a table for people, and as JSON for programs."""

import json
from pathlib import Path

import pytest
from jsonschema import validate
from states import LEFT_ALONE, MAC, REFUSED, UUID, nic

from libvirt_hooks.tool.table import in_short, to_json, to_table
from libvirt_hooks.vlans import access, every

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan.schema.json").read_text())
VLAN_46 = [{"vlan": 46, "flags": ["PVID", "Egress Untagged"]}]
TRUNK = {10: "pvid untagged", 20: "", 30: "", 31: ""}


@pytest.mark.parametrize(
    ("vlans", "text"),
    [
        (None, "-"),
        ({}, "-"),
        (access(46), "46PU"),
        (TRUNK, "10PU,20,30-31"),
        ({10: "pvid", 20: "untagged"}, "10P,20U"),
        (every(1), "1PU,2-4094"),
    ],
)
def test_vlans_in_short(vlans, text):
    assert in_short(vlans) == text


def test_a_table_of_usual_names_fits_80_characters():
    lines = to_table([nic(vm="webserver"), nic(**LEFT_ALONE, current=access(1)), nic(TRUNK, TRUNK)], False).splitlines()

    assert lines[0].startswith("VM        MAC               TAP   BRIDGE NETWORK GROUP    WANTED ")
    assert lines[1].split() == ["webserver", MAC, "vnet0", "br0", "lan", "zerotier", "46PU", "46PU", "right"]
    assert lines[2].split() == ["web", MAC, "vnet0", "br0", "lan", "-", "-", "1PU", "left", "alone"]
    assert len(to_table([nic(vm="webserver"), nic(current=access(1))], False).splitlines()[0]) <= 80


def test_colour_is_for_the_verdict_only_and_no_name_can_bring_its_own():
    red, green = (to_table([nic(current=found, vm="a\x1b[2Kb")], True).splitlines()[1] for found in ({}, access(46)))

    assert red.endswith("\033[31mwrong\033[0m")
    assert green.endswith("\033[32mright\033[0m")
    assert red.startswith(r"a\x1b[2Kb ")
    assert "\033" not in to_table([nic()], False)
    assert "\033" not in to_table([nic(**LEFT_ALONE)], True)  # neither good nor bad


@pytest.mark.parametrize(
    "given",
    [nic(), nic(TRUNK, {}), nic(every(1), None), nic(**REFUSED), nic(**LEFT_ALONE, network="", bridge="", tap="")],
)
def test_json_is_as_the_schema_says(given):
    validate(json.loads(to_json([given, given])), SCHEMA)


@pytest.mark.parametrize(
    ("given", "differs"),
    [
        (nic(), {}),
        (nic(planned=nic()), {"next_start": "same", "next_start_wanted": VLAN_46}),
        (nic(planned=nic(**REFUSED)), {"next_start": "refused", "next_start_reason": REFUSED["reason"]}),
        (nic(unplanned="two NICs"), {"next_start_reason": "two NICs"}),
        (nic(**REFUSED), {"wanted": None, "verdict": "refused", "reason": "network lan defines no portgroup 'x'"}),
        (
            nic(None, None, network="", bridge="", tap="", group=""),
            dict.fromkeys(("tap", "bridge", "network", "portgroup", "wanted", "current"), None)
            | {"verdict": "left alone"},
        ),
    ],
)
def test_json_has_what_the_table_has_and_null_for_what_there_is_not(given, differs):
    plain = {
        "vm": "web", "vm_uuid": UUID, "mac": MAC, "tap": "vnet0", "bridge": "br0", "network": "lan",
        "portgroup": "zerotier", "portgroup_is_default": False, "wanted": VLAN_46, "current": VLAN_46,
        "verdict": "right", "reason": None,
        "next_start": "unknown", "next_start_wanted": None, "next_start_reason": None,
    }  # fmt: skip

    assert json.loads(to_json([given]))["nics"] == [plain | differs]


def test_json_can_be_read_by_people_too():
    assert to_json([]).splitlines() == ["{", '  "nics": []', "}"]


def test_json_has_vlans_in_the_words_of_bridge():
    (shown,) = json.loads(to_json([nic(TRUNK, {})]))["nics"]

    assert shown["current"] == []
    assert shown["wanted"] == [
        {"vlan": 10, "flags": ["PVID", "Egress Untagged"]},
        {"vlan": 20, "flags": []},
        {"vlan": 30, "vlanEnd": 31, "flags": []},
    ]
