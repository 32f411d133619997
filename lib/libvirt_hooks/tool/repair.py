# SPDX-License-Identifier: MIT
"""Making the tap of a running VM right again: back on its bridge, if it is on none, and in its wanted VLANs.

What sync and watch have in common. Each command is printed, too.
"""

from __future__ import annotations

import shlex

from .. import HookError, bridge, sysfs, tickets
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
    if current is not None:
        return changes(tap, current, ticket.vlans)
    before, after = _put_back(ticket, tap)
    return [*before, *changes(tap, of_new_bridge_port(sysfs.default_pvid(ticket.bridge)), ticket.vlans), *after]


def make_right(ticket: Ticket, tap: str, type_commands: TypeCommands) -> None:
    """Given a ticket, its tap and what types commands, put the tap back if it is on no bridge, and set its VLANs.

    The caller holds the tap's lock. Raises HookError if that fails.
    """
    before, after = ([], []) if sysfs.master(tap) == ticket.bridge else _put_back(ticket, tap)
    # a sync or watch was killed before it set the tap up
    if tickets.bridge_was_replaced(ticket) and not before and not sysfs.is_up(tap):
        after = _up(ticket, tap)
    subject = tickets.subject(ticket, tap)
    current = None  # read first
    if before:
        type_commands(before, subject)
        current = of_new_bridge_port(sysfs.default_pvid(ticket.bridge))  # as planned() has it
    try:
        set_vlans(ticket, tap, current, type_commands)
        for command in after:  # of two programs
            type_commands([command], subject)
    except HookError:
        if before:  # the next attempt then sets the tap up: it does so only with a tap that it puts back
            type_commands([_link(tap, "nomaster")], subject)
        raise
    tickets.mark_bridge(ticket)


def print_and_type(commands: list[list[str]], subject: str) -> list[object]:
    """Given commands and what their log lines begin with, print those that change something; do as type_commands()."""
    for command in commands:
        if not bridge.is_read(command):
            try:
                print(shlex.join(command), flush=True)
            except OSError:  # the reader closed the pipe; finish what is half done
                pass
    return bridge.type_commands(commands, subject)


def _put_back(ticket: Ticket, tap: str) -> tuple[list[list[str]], list[list[str]]]:
    """Given a ticket and its tap, which is not on its bridge, return the commands before and after those that set the
    VLANs.

    The tap is down in between, because the guest runs, and must not send a frame into the bridge's default VLAN, or to
    a port that it is isolated from. Raises HookError if there is no such bridge, or if somebody has put the tap on
    another.
    """
    bridge_name = ticket.bridge
    fault = bridge_fault(sysfs.bridge(bridge_name))
    if fault:
        raise HookError(fault)
    if sysfs.master(tap) or not sysfs.ifindex(tap):
        if not sysfs.master(tap):
            raise HookError(f"{tap} does not exist: restart the VM")
        raise HookError(
            f"{tap} is on {sysfs.master(tap)} instead of {bridge_name}: to put it back, ip link set dev {tap} nomaster "
            "and then libvirt-vlan sync"
        )
    return [_link(tap, "down"), _link(tap, "master", bridge_name)], _up(ticket, tap)


def _up(ticket: Ticket, tap: str) -> list[list[str]]:
    """Given a ticket and a tap that is down, return the commands that restore the bridge port and set the tap up."""
    isolated = [["bridge", "link", "set", "dev", tap, "isolated", "on"]] if ticket.isolated else []
    return [*isolated, _link(tap, "up")]


def _link(tap: str, *words: str) -> list[str]:
    return ["ip", "link", "set", "dev", tap, *words]
