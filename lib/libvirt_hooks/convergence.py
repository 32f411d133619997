# SPDX-License-Identifier: MIT
"""Making ports right, and waiting for them: what the detached process does, and the qemu hook if that is not done.

Always the same step, which may be repeated at any time: which ticket counts, which port is it, what differs, type that.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import HookError, bridge, log, sysfs, tickets
from .hookdata import tap_address
from .tickets import Ticket
from .vlans import Vlans, commands, of_new_port, to_text

Change = Callable[[list[list[str]], str], None]  # types commands, given them and what their log lines begin with

WAIT_SECONDS = 300  # between port-created and the tap lies whatever libvirt does first: PCI resets, storage, a TPM
SOON_SECONDS = 1  # usually it comes within these, and then tenacity need not be imported
WATCH_SECONDS = 10  # libvirt 9 takes a tap off the bridge and puts it back within a second of a live change
JOIN_SECONDS = 90  # as long as one look may take: three commands, each of bridge.TIMEOUT_SECONDS


def follow(bridge_name: str, address: str, live: bool) -> None:
    """Given a bridge, a tap's address and whether the tap was there before, wait for the tap's port and make it right.

    Ends once it is right and, for a live one, has stayed so for WATCH_SECONDS, or once libvirt has taken the port back.
    Raises HookError with the last reason after WAIT_SECONDS.
    """
    began = time.monotonic()
    watch_until = began + WATCH_SECONDS if live else 0.0
    before: dict[str, int] = {}
    is_new = not live

    def attempt() -> str:
        nonlocal before, is_new
        before = sysfs.ports_with(address, bridge_name)  # before the look, so that none comes unseen in between
        try:
            return look(bridge_name, address, watch_until, is_new)
        except HookError:
            is_new = False
            raise

    def sleep(seconds: float) -> None:
        _sleep_until_it_comes(bridge_name, address, before, began, seconds)

    said: set[str] = set()

    def say(error: BaseException) -> None:
        if str(error) not in said and not isinstance(error, BlockingIOError):
            said.add(str(error))
            log.warning(f"tried again: {error}")

    if not live:
        sleep(SOON_SECONDS)
        try:
            if not attempt():
                return
        except (HookError, OSError) as error:
            say(error)
    from .patience import until_done

    until_done(attempt, sleep, say, WAIT_SECONDS)
    tickets.sweep(older_than_seconds=WAIT_SECONDS)


def look(bridge_name: str, address: str, watch_until: float, is_new: bool) -> str:
    """Given a bridge, a tap's address, until when to watch it by time.monotonic(), and whether its port is new if it is
    there, make that right, return why to look again or "".

    A port that is new has what the kernel gives to new ports: with one read less, its guest is where it does not belong
    for half as long. What it has then is read back in any case.
    Raises HookError if it cannot be made right, BlockingIOError if another process is at it.
    """
    with lock(address):
        watching = time.monotonic() < watch_until
        known = tickets.of(bridge_name, address)
        if not watching:
            known = tickets.without_forgotten(known)
        ticket = tickets.counting(known, time.monotonic())
        if ticket is None:
            return "libvirt has not decided yet" if known else ""
        if ticket.vlans is not None:
            port = sysfs.port_with(address, bridge_name)
            if port:
                is_known = not is_new or ticket.right
                try:
                    make_right(ticket, port, have=None if is_known else of_new_port(sysfs.default_pvid(bridge_name)))
                except HookError as error:
                    raise HookError(f"{tickets.subject(ticket, port)}: {error}") from error
            elif not ticket.released:
                return f"{tickets.subject(ticket)}: its port has not come to {bridge_name}"
            elif not watching or not sysfs.interface_with(address, bridge_name):
                tickets.remove(ticket)
                return ""
        return "watched" if watching else ""


def join(ticket: Ticket, port: str, change: Change = bridge.change) -> None:
    """Given a ticket, the name of its port and what types a command, make the port right, as make_right() does.

    Raises HookError if that fails three times, or if libvirt has taken the port back meanwhile.
    """
    from .patience import three_times, until_unlocked

    def locked() -> None:
        with lock(tap_address(ticket.mac)):
            if not tickets.is_there(ticket):
                raise HookError("libvirt has taken the port back meanwhile: try again")
            three_times(lambda: make_right(ticket, port, change))

    until_unlocked(locked, JOIN_SECONDS)


@contextmanager
def lock(address: str) -> Iterator[None]:
    """Given a tap's address, hold its lock: two processes never type for one port. BlockingIOError if another has it.

    One byte of one file for each address: no lock files to tidy up, and the kernel frees it when a process dies.
    Raises HookError if there can be no such file.
    """
    path = f"{tickets.DIRECTORY}/lock"
    try:
        os.makedirs(tickets.DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise HookError(f"cannot lock {path}: {error.strerror}: mend that and try again") from error
    with open(descriptor, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(address.replace(":", ""), 16))
        yield


def make_right(ticket: Ticket, port: str, change: Change = bridge.change, have: Vlans | None = None) -> None:
    """Given a ticket, its port and, if known, the port's VLANs, type what differs, read back, note it.

    Raises HookError if it is not right then.
    """
    assert ticket.vlans is not None
    subject = tickets.subject(ticket, port)
    number = sysfs.port_number(port, ticket.bridge)
    index = sysfs.ifindex(port)
    found = bridge.vlans_of(port) if have is None else have
    to_type = commands(port, found, ticket.vlans)
    _still_there(ticket, port, number)
    change(to_type, subject)
    if to_type or have is not None:
        found = bridge.vlans_of(port)
    _still_there(ticket, port, number)
    if found != ticket.vlans:
        raise HookError(f"it has {to_text(found)} instead of {to_text(ticket.vlans)}: who else sets its VLANs?")
    tickets.mark_right(ticket, port, index)


def _still_there(ticket: Ticket, port: str, number: int) -> None:
    """A tap that goes can come back as another VM's: the commands know it by name only.

    One that was off the bridge for a moment has other VLANs than were read.
    """
    if not number or sysfs.port_number(port, ticket.bridge) != number:
        raise HookError(f"{port} has left {ticket.bridge}")
    if sysfs.address(port) != tap_address(ticket.mac):
        raise HookError(f"{port} has not the address of this NIC's tap, {tap_address(ticket.mac)}")


def _sleep_until_it_comes(bridge_name: str, address: str, before: dict[str, int], began: float, seconds: float) -> None:
    """As time.sleep(), but ends once a port with that address has come to the bridge that was not there before.

    Looks the less often the longer it is since it all began: there can be a hundred such processes.
    """
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        there = sysfs.ports_with(address, bridge_name)
        if there and there != before:
            return
        time.sleep(min(max(0.02, (now - began) / 40), end - now))
