# SPDX-License-Identifier: MIT
"""Who is in which VLAN, as text: a table for people, JSON for programs (docs/libvirt-vlan-vlans.schema.json). Pure."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import Any

from ..log import one_line
from ..vlans import FLAGS
from .members import (
    MISSING,
    OTHER_FLAGS,
    SURPLUS,
    Member,
    VlanUse,
    in_every_vlan,
    is_untagged,
    lacks_uplink,
    membership,
    portgroups,
    vlans_in_use,
    vms,
)
from .model import BridgeState, NicState, verdict
from .table import PLAIN, RED, aligned, in_short, vlans_as_json

HEADER = ("VLAN", "BRIDGE", "PORTGROUPS", "UNTAGGED", "TAGGED", "UPLINKS", "PROBLEMS")
CELL_WIDTH = 32  # of a list; a longer one goes on in the next line
WORDS = {MISSING: "not in it", SURPLUS: "in it, and should not be", OTHER_FLAGS: "in it with other flags"}
NO_UPLINK = "no uplink carries it"


def to_table(nics: list[NicState], bridges: list[BridgeState], asked: list[int], colour: bool) -> str:
    """Given the NICs of the running VMs, their bridges, VIDs (none: those in use) and whether in colour, return text.

    That is a table with a row for each VLAN, and lines about NICs in every VLAN and bridges that do not filter VLANs.
    """
    rows = [line for use in vlans_in_use(nics, bridges, asked) for line in _row(use)]
    coloured = [
        (*row[:-1], f"{RED}{row[-1]}{PLAIN}" if colour and row[-1] not in ("", "-") else row[-1]) for row in rows
    ]
    return "\n".join([aligned([HEADER, *coloured]), *_apart(nics, bridges)])


def to_json(nics: list[NicState], bridges: list[BridgeState], asked: list[int]) -> str:
    """Given the same as to_table(), return it as JSON, as docs/libvirt-vlan-vlans.schema.json describes it."""
    return json.dumps(
        {
            "vlans": [_object(use) for use in vlans_in_use(nics, bridges, asked)],
            "in_every_vlan": [
                {**_named(nic), "bridge": nic.port.bridge, "verdict": verdict(nic)}
                for nic in in_every_vlan(nics, bridges)
            ],
            "unused_on_uplinks": [
                {"bridge": bridge.name, "uplink": uplink, "vlans": vlans_as_json(vlans)}
                for bridge in bridges
                for uplink, vlans in bridge.unused.items()
                if vlans
            ],
            "bridges_without_filtering": [bridge.name for bridge in bridges if not bridge.filters_vlans],
        },
        indent=2,
    )


def what_is_wrong(use: VlanUse) -> list[str]:
    """Given a VLAN, return what is wrong with it, in a few words each."""
    found = {words: vms(use.members, word) for word, words in WORDS.items()}
    return [
        *(f"{words}: {', '.join(map(one_line, names))}" for words, names in found.items() if names),
        *([NO_UPLINK] if lacks_uplink(use) else []),
    ]


def vids(use: VlanUse) -> str:
    """Given neighbouring VLANs, return their VIDs, as in "46" or "30-40"."""
    return str(use.first) if use.first == use.last else f"{use.first}-{use.last}"


def wrapped(names: list[str], width: int, between: str = ", ") -> list[str]:
    """Given names and a width, return them as a list in lines of that width, as long as no name is longer."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(between) + len(name) < width:
            lines[-1] += between + name
        else:
            lines[-1:] = [*(line + between.rstrip() for line in lines[-1:]), name]
    return lines


def _row(use: VlanUse) -> list[tuple[str, ...]]:
    """Given a VLAN, return its row of the table, in as many lines as it takes."""
    untagged, tagged = ([m.nic.port.vm for m in _in_it(use) if is_untagged(m) == which] for which in (True, False))
    names = [[group for _, group in portgroups(use)], untagged, tagged, use.uplinks]
    lists = [wrapped(list(dict.fromkeys(map(one_line, cell))), CELL_WIDTH) for cell in names]
    cells = [[vids(use)], [use.bridge.name], *lists, what_is_wrong(use)]
    return list(zip_longest(*(cell or ["-"] for cell in cells), fillvalue=""))


def _in_it(use: VlanUse) -> list[Member]:
    return [member for member in use.members if member.current is not None]


def _apart(nics: list[NicState], bridges: list[BridgeState]) -> list[str]:
    """Given the NICs and bridges, return lines about those that are in no row of the table, or in one only in part."""
    lines = []
    for bridge in bridges:
        here = [nic for nic in nics if nic.port.bridge == bridge.name]
        if bridge.fault:
            lines.append(one_line(bridge.fault))
        elif not bridge.filters_vlans:
            names = ", ".join(dict.fromkeys(one_line(nic.port.vm) for nic in here))
            lines.append(f"{bridge.name} does not filter VLANs, so all of its VMs reach each other: {names}")
        lines += [
            f"{bridge.name}: no VM uses VLAN {in_short(vlans)}, which uplink {uplink} carries"
            for uplink, vlans in bridge.unused.items()
            if vlans
        ]
        lines += [
            f"{bridge.name}: in every VLAN: {one_line(nic.port.vm)} {nic.tap or '-'}: "
            f"wanted {in_short(nic.wanted)}, current {in_short(nic.current)}: {verdict(nic)}"
            for nic in in_every_vlan(here, [bridge])
        ]
    return lines


def _object(use: VlanUse) -> dict[str, Any]:
    return {
        "vlan": use.first,
        **({"vlanEnd": use.last} if use.last != use.first else {}),
        "bridge": use.bridge.name,
        "portgroups": [{"network": network or None, "portgroup": group} for network, group in portgroups(use)],
        "nics": [
            {
                **_named(member.nic),
                "current": _flags(member.current),
                "wanted": _flags(member.wanted),
                "membership": membership(member),
            }
            for member in use.members
        ],
        "uplinks": use.uplinks,
        "lacks_uplink": lacks_uplink(use),
    }


def _named(nic: NicState) -> dict[str, Any]:
    port = nic.port
    return {"vm": port.vm, "vm_uuid": port.vm_uuid, "mac": port.mac, "tap": nic.tap or None}


def _flags(flags: str | None) -> list[str] | None:
    return None if flags is None else [FLAGS[word] for word in flags.split()]
