# SPDX-License-Identifier: MIT
"""NICs as text: a table for people, JSON for programs (docs/libvirt-vlan.schema.json). Pure."""

from __future__ import annotations

import json
from typing import Any

from ..log import one_line
from ..tickets import shown_group
from ..vlans import FLAGS, Vlans, ranges
from . import next_start
from .model import LEFT_ALONE, RIGHT, NicState, verdict

HEADER = ("VM", "MAC", "TAP", "BRIDGE", "NETWORK", "GROUP", "WANTED", "CURRENT", "VERDICT")
GREEN, RED, PLAIN = "\033[32m", "\033[31m", "\033[0m"


def to_table(nics: list[NicState], colour: bool) -> str:
    """Given the NICs of the running VMs and whether in colour, return a table with a line for each."""
    return aligned([HEADER, *(_row(nic, colour) for nic in nics)])


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Given rows of equally many cells, return them in columns. The last cell of a row can be in colour."""
    widths = [max(map(len, column)) for column in zip(*rows)][:-1]
    return "\n".join(" ".join([*(map(str.ljust, row, widths)), row[-1]]) for row in rows)


def to_json(nics: list[NicState]) -> str:
    """Given the NICs of the running VMs, return them as JSON, as docs/libvirt-vlan.schema.json describes it."""
    return json.dumps({"nics": [_object(nic) for nic in nics]}, indent=2)


def in_short(vlans: Vlans | None) -> str:
    """Given VLANs, return them as in "10PU,20,30-40": P is the PVID, U leaves untagged; "-" if there are none."""
    words = [vids + "".join(word[0].upper() for word in flags.split()) for vids, flags in ranges(vlans or {})]
    return ",".join(words) or "-"


def vlans_as_json(vlans: Vlans | None) -> list[dict[str, Any]] | None:
    """Given VLANs, return them as `bridge -j -compressvlans vlan show` does."""
    if vlans is None:
        return None
    entries = []
    for vids, flags in ranges(vlans):
        first, _, last = vids.partition("-")
        end = {"vlanEnd": int(last)} if last else {}
        entries.append({"vlan": int(first), **end, "flags": [FLAGS[word] for word in flags.split()]})
    return entries


def _row(nic: NicState, colour: bool) -> tuple[str, ...]:
    port, word = nic.port, verdict(nic)
    if colour and word != LEFT_ALONE:
        word = f"{GREEN if word == RIGHT else RED}{word}{PLAIN}"
    cells = (port.vm, port.mac, nic.tap, port.bridge, nic.network, shown_group(port.group, nic.is_default))
    escaped = tuple(one_line(cell) or "-" for cell in cells)
    return (*escaped, in_short(nic.wanted), in_short(nic.current), word + _next(nic))


def _next(nic: NicState) -> str:
    """Given a running NIC, return what its next start would give, in short, "" if that is what the NIC has."""
    word = next_start.verdict(nic)
    if word == next_start.REFUSED:
        return ", next start refused"
    if word == next_start.DIFFERS and nic.planned:
        return f", next start {in_short(nic.planned.wanted)}"
    return ""


def _object(nic: NicState) -> dict[str, Any]:
    port = nic.port
    return {
        "vm": port.vm,
        "vm_uuid": port.vm_uuid,
        "mac": port.mac,
        "tap": nic.tap or None,
        "bridge": port.bridge or None,
        "network": nic.network or None,
        "portgroup": port.group or None,
        "portgroup_is_default": nic.is_default,
        "wanted": vlans_as_json(nic.wanted),
        "current": vlans_as_json(nic.current),
        "verdict": verdict(nic),
        "reason": nic.reason or None,
        "next_start": next_start.verdict(nic),
        "next_start_wanted": vlans_as_json(nic.planned.wanted if nic.planned else None),
        "next_start_reason": (nic.planned.reason if nic.planned else nic.unplanned) or None,
    }
