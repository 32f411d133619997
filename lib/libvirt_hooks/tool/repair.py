# SPDX-License-Identifier: MIT
"""Making the tap of a running VM right again: back on its bridge, if it is on none, and in its wanted VLANs.

What sync and watch have in common. Each command is printed, too.
"""

from __future__ import annotations

import shlex

from .. import HookError, bridge, settings, sysfs, tickets
from ..setter import TypeCommands, set_vlans
from ..tickets import Ticket
from ..vlans import Vlans, changes, of_new_bridge_port
from ..wanted import bridge_fault


def planned(ticket: Ticket, tap: str, current: Vlans | None) -> list[list[str]]:
    """Given a ticket, its tap and the tap's current VLANs, return the commands that make the tap right.

    If the tap is not on its bridge, its current VLANs are None, and the first commands put the tap back.
    Raises HookError if the tap cannot be put back on its bridge.
    """
    assert ticket.vlans is not None
    before = _put_back(ticket, tap) if current is None else []
    if current is None:
        current = of_new_bridge_port(sysfs.default_pvid(ticket.bridge))
    return [*before, *changes(tap, current, ticket.vlans), *_rest(ticket, tap, is_new=bool(before))]


def make_right(ticket: Ticket, tap: str, type_commands: TypeCommands) -> None:
    """Given a ticket, its tap and what types commands, put the tap back if it is on no bridge, and set its VLANs.

    The caller holds the tap's lock. Raises HookError if that fails.
    """
    before = [] if sysfs.master(tap) == ticket.bridge else _put_back(ticket, tap)
    subject = tickets.subject(ticket, tap)
    current = None  # read first
    if before:
        tickets.mark_link(ticket, down=True)  # first: whoever finds the tap down knows why
        type_commands(before, subject)
        current = of_new_bridge_port(sysfs.default_pvid(ticket.bridge))  # as planned() has it
    try:
        set_vlans(ticket, tap, current, type_commands)
        for command in _rest(ticket, tap, is_new=bool(before)):  # of two programs
            type_commands([command], subject)
    except HookError:
        if before:  # off its bridge, the tap is seen to be wrong
            type_commands([_link(tap, "nomaster")], subject)
        raise
    tickets.mark_link(ticket, down=False)
    tickets.mark_bridge(ticket)


def what_is_not_whole(ticket: Ticket, tap: str) -> str:
    """Given a ticket and its tap, which is on its bridge in the wanted VLANs, return what else is wrong, or ""."""
    lacks = settings.lacking(ticket, tap)
    if lacks:
        return f"its bridge port has {settings.instead(lacks)}"
    if _missing_entries(ticket, tap):
        return f"the forwarding database of {ticket.bridge} lacks a static entry for {ticket.mac}"
    if ticket.link_down and not sysfs.is_up(tap):
        return f"{tap} has been down since it was put back on {ticket.bridge}"
    return ""


def print_and_type(commands: list[list[str]], subject: str) -> list[object]:
    """Given commands and what their log lines begin with, print those that change something; do as type_commands()."""
    for command in commands:
        if not bridge.is_read(command):
            try:
                print(shlex.join(command), flush=True)
            except OSError:  # the reader closed the pipe; finish what is half done
                pass
    return bridge.type_commands(commands, subject)


def _put_back(ticket: Ticket, tap: str) -> list[list[str]]:
    """Given a ticket and its tap, which is not on its bridge, return the commands that put the tap back.

    Until all is right, the tap is down, because the guest runs, and must not send a frame into the bridge's default
    VLAN, or to a port that it is isolated from. Raises HookError if there is no such bridge, or if somebody has put the
    tap on another.
    """
    bridge_name = ticket.bridge
    fault = bridge_fault(sysfs.bridge(bridge_name))
    if fault:
        raise HookError(fault)
    if not sysfs.ifindex(tap):
        raise HookError(f"{tap} does not exist: restart the VM")
    if sysfs.master(tap):
        raise HookError(
            f"{tap} is on {sysfs.master(tap)} instead of {bridge_name}: to put it back, ip link set dev {tap} nomaster "
            "and then libvirt-vlan sync"
        )
    return [_link(tap, "down"), _link(tap, "master", bridge_name)]


def _rest(ticket: Ticket, tap: str, is_new: bool) -> list[list[str]]:
    """Given a ticket, its tap and whether the tap has just joined its bridge, return what follows the VLANs' commands.

    A new bridge port lacks what libvirt has set there.
    """
    lacks = settings.wanted(ticket) if is_new else settings.lacking(ticket, tap)
    entries = _entries(ticket, tap) if is_new else _missing_entries(ticket, tap)
    up = [_link(tap, "up")] if is_new or (ticket.link_down and not sysfs.is_up(tap)) else []
    return [*settings.commands(tap, lacks), *entries, *up]


def _entries(ticket: Ticket, tap: str) -> list[list[str]]:
    """Given a ticket and its tap, return the command that adds the guest's address to the forwarding database.

    None if libvirt does not do so, or will do it itself: when the CPUs of a VM that is paused run again.
    """
    if settings.has_entries(ticket) and settings.may_add_entries(ticket, tap):
        return [settings.add_entries(ticket, tap)]
    return []


def _missing_entries(ticket: Ticket, tap: str) -> list[list[str]]:
    """Given a ticket and its tap on its bridge, return the command of _entries() if one of its VLANs has no entry."""
    assert ticket.vlans is not None
    command = _entries(ticket, tap)
    shown = bridge.type_commands([bridge.fdb_show(tap)], "")[0] if command else []
    return command if settings.lacks_entry(ticket, ticket.vlans, shown) else []


def _link(tap: str, *words: str) -> list[str]:
    return ["ip", "link", "set", "dev", tap, *words]
