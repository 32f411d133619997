# SPDX-License-Identifier: MIT
"""The detached process of one guest: wait for the interfaces of its NICs, and set their VLANs.

libvirt announces a guest's NICs one after another. The first call of the network hook starts this process, and the
process serves the later ones, too: it holds the guest's lock, and looks for new tickets until it has given that back.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

from . import OFF, HookError, facts, lifecycle, locks, log, retries, setter, sysfs, tickets
from .tickets import Ticket
from .vlans import of_new_bridge_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .interfaces import Kind

WAIT_SECONDS = 300  # as lifecycle.START_SECONDS
WATCH_SECONDS = 10  # libvirt 9 takes a tap off the bridge and puts it back within a second of a live change
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.25, 5.0  # between two attempts for one NIC
LOOK_SECONDS = 0.02  # between two looks for an interface that is yet to come
ADDRESSES_AT_ONCE = 50  # read between two looks: some milliseconds
LOOKS = 60  # the longer the whole wait has lasted, the rarer are the looks: a hundred such processes can wait at once


class Wait(SimpleNamespace):
    """A NIC that the process has not finished with."""

    ticket: Ticket  # the newest
    began: float  # seconds, time.monotonic(), as all times here
    due: float  # when to try again, whatever happens
    watch_until: float  # 0: the interface is new, and nobody else changes it
    is_new: bool  # the interface, if it is there, has just come
    learned: bool  # the addresses of the bridge's other ports have been read
    seen: dict[str, int]  # the interfaces that were there at the last attempt
    said: set[str]


class Files(SimpleNamespace):
    """What the process knows of the tickets' files."""

    vm: str
    vm_uuid: str
    began: float  # seconds, time.monotonic(): the interface of an older ticket, written again, is there already
    since_ns: int  # at the first look, only tickets that have changed since (st_ctime_ns) are this process's
    changed_ns: int  # when the directory had changed last as it was read; 0: it may have changed since
    known: set[tuple[str, int]]  # names and inodes


def serve(ticket: Ticket, lock: int, began: float) -> None:
    """Given a ticket, the lock of its guest and when the hook began to decide (time.monotonic()), set the wanted VLANs
    of this and of each later ticket of the guest.

    Return once each interface has them and, in a live change, has kept them for WATCH_SECONDS, or once libvirt has
    released the port, or once the hooks are switched off. After WAIT_SECONDS, log why a NIC has none.
    """
    files = Files(
        vm=ticket.vm, vm_uuid=ticket.vm_uuid, began=began, since_ns=tickets.changed_ns(ticket), changed_ns=-1,
        known=set(),
    )  # fmt: skip
    waits: dict[tuple[str, str], Wait] = {}
    while True:
        retries.until_false(
            lambda: _attempt(waits, files), lambda: _pause(waits), lambda seconds: _sleep(waits, files, seconds)
        )
        os.close(lock)
        # whoever wrote a ticket before that has left it to this process
        _add(waits, files)
        if not waits:
            break
        try:
            lock = locks.take_guests(files.vm_uuid)
        except BlockingIOError:
            break
    tickets.sweep(older_than_seconds=WAIT_SECONDS)


def _attempt(waits: dict[tuple[str, str], Wait], files: Files) -> bool:
    """Try to finish each NIC that is due; return whether any is left."""
    if os.path.exists(OFF):
        log.warning(f"{files.vm}: stopped waiting: switched off with libvirt-vlan off")
        waits.clear()
        return False
    _add(waits, files)
    for nic, wait in list(waits.items()):
        if time.monotonic() < wait.due and tickets.is_there(wait.ticket):
            continue
        reason = _try(nic, wait)
        now = time.monotonic()
        age = now - wait.began
        wait.due = now + min(max(FIRST_PAUSE_SECONDS, age), LAST_PAUSE_SECONDS)
        if reason and age > WAIT_SECONDS:
            log.error(f"gave up after {age:.0f} s: {reason}")
        if not reason or age > WAIT_SECONDS:
            del waits[nic]
    return bool(waits)


def _try(nic: tuple[str, str], wait: Wait) -> str:
    """Given a NIC's bridge and key, try to finish it; return why to try again, "" if it is finished."""
    wait.seen = wait.ticket.kind.seen(wait.ticket)  # beforehand: an interface that comes meanwhile ends the next pause
    try:
        return try_to_set_vlans(*nic, wait.watch_until, wait.is_new)
    except BlockingIOError:
        return "another hook process is changing this NIC's port: try again"
    except (HookError, OSError) as error:  # OSError: no process, no file
        wait.is_new = False
        if str(error) not in wait.said:
            wait.said.add(str(error))
            log.warning(f"trying again: {error}")
        return str(error)


def try_to_set_vlans(bridge_name: str, nic_key: str, watch_until: float, is_new: bool) -> str:
    """Given a bridge and a NIC's key, set the VLANs of the ticket that applies; return why to try again, or "".

    The interface is watched until watch_until, by time.monotonic(). is_new says that it, if it is there, has just come.
    Raises HookError if the VLANs cannot be set, BlockingIOError if another process holds the NIC's lock.
    """
    with setter.lock(nic_key):
        watching = time.monotonic() < watch_until
        known = tickets.of(bridge_name, nic_key)
        if not watching:
            known = remove_forgotten(known)
        ticket = lifecycle.applies(known, time.monotonic())
        if ticket is None:
            return "libvirt has not decided yet" if known else ""
        if ticket.vlans is not None:
            name = ticket.kind.on_bridge(ticket)
            if not name:
                return _off_its_bridge(ticket, watching)
            _set_found(ticket, name, is_new)
            unfinished = setter.add_entries(ticket, name)
            if unfinished:
                return unfinished
        return "watching" if watching else ""


def remove_forgotten(its_tickets: list[Ticket]) -> list[Ticket]:
    """Given the tickets of one interface, remove those whose ports libvirt has forgotten, return the rest."""
    standing = facts.without_forgotten(its_tickets)
    for ticket in its_tickets:
        if ticket not in standing:
            tickets.remove(ticket)
    return standing


def _off_its_bridge(ticket: Ticket, watching: bool) -> str:
    """Given the ticket that applies, whose interface is not on its bridge, return why to try again, or "".

    Remove a released ticket whose interface does not come back.
    """
    kind = facts.kind_now(ticket)
    if kind is not ticket.kind:
        return _change_kind(kind, ticket)
    if not ticket.released:
        return f"{tickets.subject(ticket)}: its {kind.INTERFACE} has not appeared on {ticket.bridge}"
    if watching and kind.anywhere(ticket):
        return "watching"
    tickets.remove(ticket)
    return ""


def _change_kind(kind: Kind, ticket: Ticket) -> str:
    """Given a ticket whose guest runs and is of another kind, set its VLANs; return why to try again, or "".

    That kind's hook was not called, so the guest has been in the default VLAN since it started.
    """
    ticket.kind = kind
    name = kind.on_bridge(ticket)
    if not name:
        return f"{tickets.subject(ticket)}: its {kind.INTERFACE} has not appeared on {ticket.bridge}"
    tickets.write(ticket)
    log.warning(
        f"{tickets.subject(ticket, name)}: the {kind.HOOK} hook was not called, so the {kind.GUEST} has started in the "
        f"default VLAN: install the {kind.HOOK} hook, and systemctl restart {kind.daemon()}"
    )
    return setter.set_vlans(ticket, name, None)


def _set_found(ticket: Ticket, name: str, is_new: bool) -> None:
    """Given a ticket, its interface and whether that has just come, set the wanted VLANs, or raise HookError.

    The kernel gives each new bridge port the default PVID. Skip the first read of a new interface: without that read, a
    hot-plugged guest is in the default VLAN for half as long.
    """
    is_new = is_new and ticket.right is None
    current = of_new_bridge_port(sysfs.default_pvid(ticket.bridge)) if is_new else None
    try:
        fault = setter.set_vlans(ticket, name, current)
        if fault:
            raise HookError(fault)
    except HookError as error:
        raise HookError(f"{tickets.subject(ticket, name)}: {error}") from error


def _add(waits: dict[tuple[str, str], Wait], files: Files) -> None:
    """Have the NICs tried at once whose tickets are new, or were written again."""
    changed_ns = tickets.changed_ns()
    if changed_ns and changed_ns == files.changed_ns:
        return
    files.changed_ns = changed_ns
    now = time.monotonic()
    for ticket in tickets.not_in(files.known, files.since_ns):
        if ticket.vm_uuid != files.vm_uuid:
            continue
        is_new = not ticket.live and ticket.created >= files.began
        waits[ticket.bridge, tickets.key(ticket)] = Wait(
            ticket=ticket, began=now, due=now, watch_until=0.0 if is_new else now + WATCH_SECONDS, is_new=is_new,
            learned=False, seen={}, said=set(),
        )  # fmt: skip
    files.since_ns = 0  # from now on each other ticket is a new one, whatever becomes of the clock


def _pause(waits: dict[tuple[str, str], Wait]) -> float:
    """Return how long to pause before the next attempt, in seconds."""
    return max(0.0, min(wait.due for wait in waits.values()) - time.monotonic())


def _sleep(waits: dict[tuple[str, str], Wait], files: Files, seconds: float) -> None:
    """Sleep as time.sleep() does, but end once an interface of a NIC comes that was not seen there, or a ticket."""
    end = time.monotonic() + seconds
    youngest = max(wait.began for wait in waits.values())
    while (now := time.monotonic()) < end:
        for wait in waits.values():
            wait.learned = wait.learned or sysfs.learn_addresses(wait.ticket.bridge, ADDRESSES_AT_ONCE)
            there = wait.ticket.kind.seen(wait.ticket)
            if there and there != wait.seen:
                wait.due = now
        if any(wait.due <= now for wait in waits.values()):
            return
        time.sleep(min(max(LOOK_SECONDS, (now - youngest) / LOOKS), end - now))
        if not files.changed_ns or tickets.changed_ns() != files.changed_ns:
            return
