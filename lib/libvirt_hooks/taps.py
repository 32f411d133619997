# SPDX-License-Identifier: MIT
"""Giving taps their wanted VLANs: what the detached process does, and the qemu hook where that was not in time.

A container's veth is a tap here: what differs is how it is found (interfaces.py, veths.py).

Everything is imported here, before any waiting: an upgrade of the hooks meanwhile must not mix two versions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import HookError, bridge, hook, interfaces, log, retries, sysfs, tickets, veths
from .hookdata import tap_address
from .statefiles import lxc_daemon
from .tickets import Ticket
from .vlans import Vlans, changes, from_bridge, of_new_bridge_port, to_text

# a function that is called like bridge.type_commands() and returns the same
TypeCommands = Callable[[list[list[str]], str], list[object]]

WAIT_SECONDS = 300  # between port-created and the tap lies whatever libvirt does first: PCI resets, storage, a TPM
WATCH_SECONDS = 10  # libvirt 9 takes a tap off the bridge and puts it back within a second of a live change
LOCK_WAIT_SECONDS = 90  # another process holds the lock for three batches at most, each of bridge.TIMEOUT_SECONDS


def wait_and_set_vlans(bridge_name: str, nic_key: str, live: bool) -> None:
    """Given a bridge, a NIC's key and whether its tap was there before, wait for the tap, set its wanted VLANs.

    Return once the tap has them and, for a live tap, has kept them for WATCH_SECONDS, or once libvirt has taken the
    port back, or once the hooks are switched off. Raises HookError with the last reason after WAIT_SECONDS.
    """
    began = time.monotonic()
    watch_until = began + WATCH_SECONDS if live else 0.0
    seen: dict[str, int] = {}
    is_new = not live

    def attempt() -> str:
        nonlocal seen, is_new
        if os.path.exists(hook.OFF):
            log.warning(f"{nic_key} on {bridge_name}: the hook waits no longer: switched off by libvirt-vlan off")
            return ""
        seen = _seen(bridge_name, nic_key)  # beforehand: a tap that comes meanwhile ends the next sleep
        try:
            return try_to_set_vlans(bridge_name, nic_key, watch_until, is_new)
        except HookError:
            is_new = False
            raise

    def sleep(seconds: float) -> None:
        _sleep_unless_tap_comes(bridge_name, nic_key, seen, began, seconds)

    said: set[str] = set()

    def say(error: BaseException) -> None:
        if str(error) not in said and not isinstance(error, BlockingIOError):
            said.add(str(error))
            log.warning(f"trying again: {error}")

    try:
        retries.until_done(attempt, sleep, say, WAIT_SECONDS)
    finally:
        tickets.sweep(older_than_seconds=WAIT_SECONDS)


def set_vlans_now(ticket: Ticket, tap: str) -> None:
    """Given a ticket and its tap, set the wanted VLANs. Raises HookError as when_unlocked() does."""
    when_unlocked(ticket, lambda: set_vlans(ticket, tap, None))


def when_unlocked(ticket: Ticket, attempt: Callable[[], None]) -> None:
    """Call attempt() with the lock of the ticket's tap held, until it raises no HookError, three times at most.

    Raises HookError if all three attempts fail, or if libvirt takes the port back meanwhile.
    """

    def hold_the_lock() -> None:
        with lock(tickets.key(ticket)):
            if not tickets.is_there(ticket):
                raise HookError("libvirt has taken the port back meanwhile: try again")
            retries.three_times(attempt)

    retries.until_unlocked(hold_the_lock, LOCK_WAIT_SECONDS)


def try_to_set_vlans(bridge_name: str, nic_key: str, watch_until: float, is_new: bool) -> str:
    """Given a bridge and a NIC's key, set the VLANs of the ticket that applies; return why to try again, or "".

    The tap is watched until watch_until, by time.monotonic(). is_new says that the tap, if it is there, has just come.
    Raises HookError if the VLANs cannot be set, BlockingIOError if another process holds the tap's lock.
    """
    with lock(nic_key):
        watching = time.monotonic() < watch_until
        known = tickets.of(bridge_name, nic_key)
        if not watching:
            known = tickets.without_forgotten(known)
        ticket = tickets.counting(known, time.monotonic())
        if ticket is None:
            return "libvirt has not decided yet" if known else ""
        if ticket.vlans is not None:
            tap = interfaces.on_bridge(ticket)
            if not tap:
                return _off_its_bridge(ticket, watching)
            _set_vlans_of_tap(ticket, tap, is_new)
        return "watching" if watching else ""


def _off_its_bridge(ticket: Ticket, watching: bool) -> str:
    """Given the ticket that applies, whose tap is not on its bridge, return why to try again, or "".

    Remove a released ticket whose tap does not come back.
    """
    if not ticket.container and interfaces.owner_is_container(ticket):
        return _set_vlans_of_container(ticket)
    if not ticket.released:
        return f"{tickets.subject(ticket)}: its tap has not appeared on {ticket.bridge}"
    if watching and interfaces.anywhere(ticket):
        return "watching"
    tickets.remove(ticket)
    return ""


def _set_vlans_of_tap(ticket: Ticket, tap: str, is_new: bool) -> None:
    """Given a ticket, its tap and whether the tap has just come, set the wanted VLANs. Raises HookError if that fails.

    The kernel gives each new bridge port the default PVID. Skip the first read of a new tap: without that read, a
    hot-plugged guest is in the default VLAN for half as long.
    """
    must_read = not is_new or ticket.right
    current = None if must_read else of_new_bridge_port(sysfs.default_pvid(ticket.bridge))
    try:
        set_vlans(ticket, tap, current)
    except HookError as error:
        raise HookError(f"{tickets.subject(ticket, tap)}: {error}") from error


def _set_vlans_of_container(ticket: Ticket) -> str:
    """Given a VM's ticket whose owner has turned out to be a container that runs, set its VLANs, rewrite the ticket.

    The lxc hook was not called, so the container has been in the default VLAN since it started. Return why to try
    again, or "".
    """
    ticket.container = True
    veth = interfaces.on_bridge(ticket)
    if not veth:
        return f"{tickets.subject(ticket)}: its veth has not appeared on {ticket.bridge}"
    log.warning(
        f"{tickets.subject(ticket, veth)}: the lxc hook was not called, so the container has started in the default "
        f"VLAN: install the lxc hook, and systemctl restart {lxc_daemon()}"
    )
    set_vlans(ticket, veth, None)
    tickets.write_as_containers(ticket)
    return ""


def set_vlans(
    ticket: Ticket, tap: str, current: Vlans | None, type_commands: TypeCommands = bridge.type_commands
) -> None:
    """Type the commands that lead from a tap's current VLANs to its wanted VLANs, read back, note that in the ticket.

    The current VLANs are read first if they are None. Raises HookError if the tap is not on its bridge, or has other
    VLANs in the end.
    """
    assert ticket.vlans is not None
    subject = tickets.subject(ticket, tap)
    inode, index = sysfs.bridge_port_inode(tap, ticket.bridge), sysfs.ifindex(tap)
    if ticket.container and ticket.veth != (tap, index):
        if ticket.veth:
            raise HookError(f"{tap} is not this NIC's veth any more: try again")
        veths.check(tap)
        ticket.veth = (tap, index)

    def type_and_read(commands: list[list[str]]) -> Vlans:
        link, vlans = type_commands([bridge.link_show(tap), *commands, bridge.vlan_show(tap)], subject)
        _check_on_bridge(link, tap, ticket.bridge)
        _check_same_tap(ticket, tap, inode)
        return from_bridge(vlans)

    was_read = current is None
    if current is None:
        current = type_and_read([])
    commands = changes(tap, current, ticket.vlans)
    if commands or not was_read:
        _check_same_tap(ticket, tap, inode)
        current = type_and_read(commands)
    if current != ticket.vlans:
        raise HookError(
            f"has {to_text(current)} instead of {to_text(ticket.vlans)}: find out what else sets the VLANs of {tap}"
        )
    tickets.mark_right(ticket, tap, index)


@contextmanager
def lock(nic_key: str) -> Iterator[None]:
    """Hold the lock of a NIC's key. Raises BlockingIOError or HookError as tickets.take_lock() does."""
    descriptor = tickets.take_lock(nic_key)
    try:
        yield
    finally:
        os.close(descriptor)


def _check_on_bridge(link: object, tap: str, bridge_name: str) -> None:
    """Given what `bridge -j link show dev TAP` has answered, raise HookError unless the tap is on this bridge."""
    masters = [entry.get("master") for entry in link if isinstance(entry, dict)] if isinstance(link, list) else []
    if masters != [bridge_name]:
        raise HookError(f"{tap} is not on {bridge_name}: try again")


def _check_same_tap(ticket: Ticket, tap: str, inode: int) -> None:
    """Raise HookError if this tap has left its bridge since the bridge port had this inode, or is another NIC's.

    Commands know a tap by its name, and a name can come back as another VM's. A tap that was off the bridge for a
    moment has other VLANs than were read.
    """
    if not inode or sysfs.bridge_port_inode(tap, ticket.bridge) != inode:
        raise HookError(f"{tap} has left {ticket.bridge}: try again")
    if ticket.container:
        if (tap, sysfs.ifindex(tap)) != ticket.veth:
            raise HookError(f"{tap} is not this NIC's veth any more: try again")
    elif sysfs.address(tap) != tap_address(ticket.mac):
        raise HookError(f"{tap} does not have the address of this NIC's tap, {tap_address(ticket.mac)}: try again")


def _seen(bridge_name: str, nic_key: str) -> dict[str, int]:
    """Given a bridge and a NIC's key, return the NIC's interfaces there, each with a number that tells it apart."""
    if not nic_key.startswith(tickets.VETH):
        return sysfs.taps_with(nic_key, bridge_name)
    names = [interfaces.on_bridge(ticket) for ticket in tickets.of(bridge_name, nic_key)]
    return {name: sysfs.ifindex(name) for name in names if name}


def _sleep_unless_tap_comes(bridge_name: str, nic_key: str, seen: dict[str, int], began: float, seconds: float) -> None:
    """Sleep as time.sleep() does, but end once an interface of the NIC comes to the bridge that was not seen there.

    The longer the whole wait has lasted, the rarer are the looks: a hundred such processes can wait at once.
    """
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        there = _seen(bridge_name, nic_key)
        if there and there != seen:
            return
        time.sleep(min(max(0.02, (now - began) / 60), end - now))
