# SPDX-License-Identifier: MIT
"""Uplinks that a network names in its <metadata>: they get the VLANs of its NICs, tagged, before the NICs themselves.

Nothing is ever taken from an uplink, and what an uplink has, with whatever flags, stays as it is.
"""

from __future__ import annotations

from . import bridge, log, sysfs
from .tickets import Ticket
from .vlans import Vlans, from_bridge, ranges
from .wanted import uplink_fault


def commands(ticket: Ticket, current: dict[str, Vlans] | None = None) -> list[list[str]]:
    """Given a ticket, and the VLANs of all bridge ports if they have been read already, return the commands that add
    the wanted VLANs to each of its uplinks that lacks them.

    An uplink that is not on the bridge is left out, with a warning: the guest runs already.
    """
    on_bridge = []
    for name in ticket.uplinks:
        fault = uplink_fault(sysfs.uplink(name), ticket.bridge)
        if fault:
            log.warning_once(f"{ticket.network}: {fault}")
        else:
            on_bridge.append(name)
    if on_bridge and current is None:
        answers = bridge.type_commands([bridge.vlan_show(name) for name in on_bridge], "")
        current = {name: from_bridge(answer) for name, answer in zip(on_bridge, answers)}
    assert ticket.vlans is not None
    return [line for name in on_bridge for line in _additions(name, (current or {}).get(name, {}), ticket.vlans)]


def lacking(ticket: Ticket, current: dict[str, Vlans] | None = None) -> str:
    """Given the same as commands(), return the words about the uplinks that lack VLANs, "" if none does."""
    lacks: dict[str, list[str]] = {}
    for line in commands(ticket, current):
        name, vids = line[line.index("dev") + 1], line[line.index("vid") + 1]
        lacks.setdefault(name, []).append(vids)
    return "; ".join(f"uplink {name} lacks VLAN {', '.join(vids)}" for name, vids in lacks.items())


def _additions(name: str, current: Vlans, wanted: Vlans) -> list[list[str]]:
    missing = {vid: "" for vid in wanted if vid not in current}
    return [["bridge", "vlan", "add", "dev", name, "vid", vids, "master"] for vids, _ in ranges(missing)]
