# SPDX-License-Identifier: MIT
"""Giving an interface the wanted VLANs of its ticket: for the detached process, the hooks' `start`, and the tool.

Everything is imported here, before any waiting: an upgrade of the hooks meanwhile must not mix two versions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import HookError, bridge, locks, log, retries, settings, sysfs, tickets, uplinks
from .tickets import Ticket
from .vlans import Vlans, changes, from_bridge, instead

# a function that is called like bridge.type_commands() and returns the same
TypeCommands = Callable[[list[list[str]], str], list[object]]

LOCK_WAIT_SECONDS = 90  # a process that types holds the lock for milliseconds; one whose `bridge` hangs, for far longer


def when_unlocked(ticket: Ticket, attempt: Callable[[], None]) -> None:
    """Call attempt() with the lock of the ticket's NIC held, until it raises no HookError, three times at most.

    Raises HookError if all three attempts fail, or if libvirt takes the port back meanwhile.
    """

    def hold_the_lock() -> None:
        with lock(tickets.key(ticket)):
            if not tickets.is_there(ticket):
                raise HookError("libvirt has since released the port: try again")
            retries.three_times(attempt)

    retries.until_unlocked(hold_the_lock, LOCK_WAIT_SECONDS)


def set_vlans(
    ticket: Ticket, name: str, current: Vlans | None, type_commands: TypeCommands = bridge.type_commands
) -> str:
    """Type the commands that lead from an interface's current VLANs to the ticket's, read back, and note that; return
    why an uplink cannot get these VLANs, "" if each has them.

    The current VLANs are read first if they are None. Raises HookError if the interface is not on its bridge, or has
    other VLANs in the end.
    """
    assert ticket.vlans is not None
    subject = tickets.subject(ticket, name)
    inode, index = sysfs.bridge_port_inode(name, ticket.bridge), sysfs.ifindex(name)
    ticket.kind.check(ticket, name)
    ticket.interface = (name, index)

    def type_and_read(commands: list[list[str]]) -> Vlans:
        link, vlans = type_commands([bridge.link_show(name), *commands, bridge.vlan_show(name)], subject)
        _check_on_bridge(link, name, ticket.bridge)
        _check_same(ticket, name, inode)
        return from_bridge(vlans)

    is_new = current is not None  # then it has the VLANs that the kernel gives to each new bridge port
    if current is None:
        current = type_and_read([])
    commands, fault = changes(name, current, ticket.vlans), ""
    if ticket.uplinks:
        deletes, commands = uplinks.around(commands)
        if deletes:
            _check_same(ticket, name, inode)
            current = type_and_read(deletes)
        fault = _add_to_uplinks(ticket, subject, type_commands)
    if commands or is_new:
        _check_same(ticket, name, inode)
        current = type_and_read(commands)
    if current != ticket.vlans:
        raise HookError(f"has {instead(current, ticket.vlans)}: find out what else sets the VLANs of {name}")
    if not fault:
        tickets.mark_right(ticket, name, index)
    return fault


def _add_to_uplinks(ticket: Ticket, subject: str, type_commands: TypeCommands) -> str:
    """Given a ticket, add the wanted VLANs to each uplink of the ticket that lacks some; return why that failed, or "".

    An uplink that is not on the bridge is only worth a warning. The guest runs already: its start would be refused.
    """
    for fault in uplinks.faults(ticket):
        log.warning_once(f"{subject}: {fault}")
    try:
        added = uplinks.commands(ticket)
        if added:
            type_commands(added, subject)
    except HookError as error:
        return str(error)
    return ""


def add_entries(ticket: Ticket, name: str) -> str:
    """Given a ticket and its interface with the wanted VLANs, add the guest's address to the bridge's forwarding
    database where libvirt does so and these VLANs lack it; return why to try again, "" if that is done.

    Raises HookError if it fails.
    """
    if settings.has_entries(ticket) and settings.may_add_entries(ticket, name) is None:
        return f"{tickets.subject(ticket, name)}: libvirt has not plugged it in yet"
    for command in missing_entries(ticket, name):
        bridge.type_commands([command], tickets.subject(ticket, name))
    return ""


def missing_entries(ticket: Ticket, name: str) -> list[list[str]]:
    """Given a ticket and its interface on its bridge, return the command of settings.entries() if one of the wanted
    VLANs has no entry for the guest's address.
    """
    assert ticket.vlans is not None
    commands = settings.entries(ticket, name)
    if not commands:
        return []
    (shown,) = bridge.type_commands([bridge.fdb_show(name)], "")
    return commands if settings.lacks_entry(ticket, ticket.vlans, shown) else []


@contextmanager
def lock(nic_key: str) -> Iterator[None]:
    """Hold the lock of a NIC's key. Raises BlockingIOError or HookError as locks.take_nics() does."""
    descriptor = locks.take_nics(nic_key)
    try:
        yield
    finally:
        os.close(descriptor)


def _check_on_bridge(link: object, name: str, bridge_name: str) -> None:
    """Given what `bridge -j link show dev NAME` has answered, raise HookError unless it is on this bridge."""
    masters = [entry.get("master") for entry in link if isinstance(entry, dict)] if isinstance(link, list) else []
    if masters != [bridge_name]:
        raise HookError(
            f"{name} is not on {bridge_name}: try again; if that stays so, find out which network service takes it off"
        )


def _check_same(ticket: Ticket, name: str, inode: int) -> None:
    """Raise HookError if this interface has left its bridge since the bridge port had this inode, or is another NIC's.

    Commands know an interface by its name, and a name can come back as another guest's. An interface that was off the
    bridge for a moment has other VLANs than were read.
    """
    if not inode or sysfs.bridge_port_inode(name, ticket.bridge) != inode:
        raise HookError(f"{name} has left {ticket.bridge}: try again")
    ticket.kind.check(ticket, name)
