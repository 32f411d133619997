# SPDX-License-Identifier: MIT
"""Making the tap of a running VM right again: back on its bridge, if it is on none, and in its wanted VLANs.

What sync, apply and watch have in common. sync and apply print each command, too.
"""

from __future__ import annotations

import shlex

from .. import HookError, bridge, settings, sysfs, tickets, uplinks
from ..setter import TypeCommands, missing_entries, set_vlans
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
    deletes, adds = uplinks.around(changes(tap, current, ticket.vlans))
    return [*before, *deletes, *uplinks.commands(ticket), *adds, *_rest(ticket, tap, is_new=bool(before))]


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
        fault = set_vlans(ticket, tap, current, type_commands)
        for command in _rest(ticket, tap, is_new=bool(before)):  # ip and bridge: no batch takes both
            type_commands([command], subject)
    except HookError:
        if before:  # off its bridge, the tap is seen to be wrong
            type_commands([_link(tap, "nomaster")], subject)
        raise
    tickets.mark_link(ticket, down=False)
    tickets.mark_bridge(ticket)
    if fault:
        raise HookError(fault)


def what_is_not_whole(ticket: Ticket, tap: str) -> str:
    """Given a ticket and its tap, which is on its bridge in the wanted VLANs, return what else is wrong, or "".

    Raises HookError if that cannot be found out.
    """
    return next((wrong for wrong, _ in _not_whole(ticket, tap)), "")


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

    A new bridge port lacks all that libvirt has set there.
    """
    if is_new:
        restored = settings.commands(tap, settings.wanted(ticket))
        return [*restored, *settings.entries(ticket, tap), _link(tap, "up")]
    return [command for _, command in _not_whole(ticket, tap)]


def _not_whole(ticket: Ticket, tap: str) -> list[tuple[str, list[str]]]:
    """Given a ticket and its tap on its bridge, return what is wrong besides VLANs, each with the command for it."""
    lacks = settings.lacking(ticket, tap)
    wrong = [(f"its bridge port has {settings.instead(lacks)}", command) for command in settings.commands(tap, lacks)]
    no_entry = f"the forwarding database of {ticket.bridge} lacks a static entry for {ticket.mac}"
    wrong += [(no_entry, command) for command in missing_entries(ticket, tap)]
    if ticket.link_down and not sysfs.is_up(tap):
        wrong.append((f"{tap} has been down since it was put back on {ticket.bridge}", _link(tap, "up")))
    return wrong


def _link(tap: str, *words: str) -> list[str]:
    return ["ip", "link", "set", "dev", tap, *words]
