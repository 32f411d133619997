# SPDX-License-Identifier: MIT
"""Uplinks that a network names in its <metadata>: they get the VLANs of its NICs, tagged, before the NICs themselves.

Nothing is ever taken from an uplink, and what an uplink has, with whatever flags, stays as it is.
"""

from __future__ import annotations

from . import bridge, sysfs
from .tickets import Ticket
from .vlans import Vlans, from_bridge, ranges
from .wanted import uplink_fault


def faults(ticket: Ticket) -> list[str]:
    """Given a ticket, return why uplinks of it can carry nothing."""
    return [fault for name in ticket.uplinks if (fault := uplink_fault(sysfs.uplink(name), ticket.bridge))]


def commands(ticket: Ticket, current: dict[str, Vlans] | None = None) -> list[list[str]]:
    """Given a ticket, and the VLANs of all bridge ports if they have been read already, return the commands that add
    the wanted VLANs to each of its uplinks on its bridge that lacks them.
    """
    names = [name for name in ticket.uplinks if not uplink_fault(sysfs.uplink(name), ticket.bridge)]
    if names and current is None:
        answers = bridge.type_commands([bridge.vlan_show(name) for name in names], "")
        current = {name: from_bridge(answer) for name, answer in zip(names, answers)}
    assert ticket.vlans is not None
    return [line for name in names for line in _additions(name, (current or {}).get(name, {}), ticket.vlans)]


def around(changes: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Given the commands that change a NIC's VLANs, return those to type before and after the uplinks' commands.

    The NIC leaves its wrong VLANs first. It joins its own last: what the guest sends then is to leave this host.
    """
    deletes = [command for command in changes if "del" in command]
    return deletes, changes[len(deletes) :]


def lacking(ticket: Ticket, current: dict[str, Vlans] | None = None) -> str:
    """Given the same as commands(), return the words about the uplinks that lack VLANs, "" if none does."""
    return "; ".join(f"uplink {name} lacks VLAN {vids}" for name, vids in _lacks(ticket, current).items())


def shown(ticket: Ticket) -> str:
    """Given a ticket that is to be, return the words about what its NIC's start would add to uplinks, or ""."""
    added = [f"VLAN {vids} to uplink {name}" for name, vids in _lacks(ticket, None).items()]
    return f"and adds {', '.join(added)}" if added else ""


def _lacks(ticket: Ticket, current: dict[str, Vlans] | None) -> dict[str, str]:
    """Given the same as commands(), return by uplink the VIDs that it lacks."""
    lacks: dict[str, list[str]] = {}
    for line in commands(ticket, current):
        lacks.setdefault(line[line.index("dev") + 1], []).append(line[line.index("vid") + 1])
    return {name: ", ".join(vids) for name, vids in lacks.items()}


def _additions(name: str, current: Vlans, wanted: Vlans) -> list[list[str]]:
    missing = {vid: "" for vid in wanted if vid not in current}
    return [["bridge", "vlan", "add", "dev", name, "vid", vids, "master"] for vids, _ in ranges(missing)]
