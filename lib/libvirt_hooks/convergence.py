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
from typing import NoReturn

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
)

from . import HookError, bridge, log, sysfs, tickets
from .hookdata import tap_address
from .tickets import Ticket
from .vlans import commands, to_text

Change = Callable[[list[str], str], None]  # types a command, given that and what its log line begins with

WAIT_SECONDS = 300  # between port-created and the tap lies whatever libvirt does first: PCI resets, storage, a TPM
WATCH_SECONDS = 10  # libvirt 9 takes a tap off the bridge and puts it back within a second of a live change
JOIN_SECONDS = 150  # as long as one look may take: five commands, each of bridge.TIMEOUT_SECONDS


def follow(bridge_name: str, address: str, live: bool) -> None:
    """Given a bridge, a tap's address and whether the tap was there before, wait for the tap's port and make it right.

    Ends once it is right and, for a live one, has stayed so for WATCH_SECONDS, or once libvirt has taken the port back.
    Whatever the system cannot do just now (no process, no file) is tried again like any other error.
    Raises HookError with the last reason after WAIT_SECONDS.
    """
    watch_until = time.monotonic() + WATCH_SECONDS if live else 0.0
    said: set[str] = set()
    before: dict[str, int] = {}

    def attempt() -> str:
        nonlocal before
        before = sysfs.ports(bridge_name)  # before the look, so that none comes unseen in between
        return look(bridge_name, address, watch_until)

    def say_why(state: RetryCallState) -> None:
        error = _outcome(state)
        if error and not isinstance(error, BlockingIOError) and str(error) not in said:
            said.add(str(error))
            log.warning(f"tried again: {error}")

    Retrying(
        retry=retry_if_exception_type((HookError, OSError)) | retry_if_result(bool),
        stop=stop_after_delay(WAIT_SECONDS),
        wait=wait_exponential(multiplier=0.25, exp_base=2, max=5),
        sleep=lambda seconds: _sleep_until_it_comes(bridge_name, address, before, seconds),
        before_sleep=say_why,
        retry_error_callback=_give_up,
    )(attempt)
    tickets.sweep(older_than_seconds=WAIT_SECONDS)


def look(bridge_name: str, address: str, watch_until: float) -> str:
    """Given a bridge, a tap's address and a time.monotonic(), make its port right, return why to look again or "".

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
            port = bridge.port_with(address, bridge_name)
            if port:
                try:
                    make_right(ticket, port)
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

    Raises HookError if that fails three times.
    """
    patiently = Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_delay(JOIN_SECONDS),
        wait=wait_fixed(0.05),
        retry_error_callback=_give_up,
    )
    again = Retrying(
        retry=retry_if_exception_type(HookError), stop=stop_after_attempt(3), wait=wait_fixed(0.2), reraise=True
    )

    def locked() -> None:
        with lock(tap_address(ticket.mac)):
            again(make_right, ticket, port, change)

    patiently(locked)


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


def make_right(ticket: Ticket, port: str, change: Change = bridge.change) -> None:
    """Given a ticket and its port, type what differs, read back, note it. Raises HookError if it is not right then."""
    assert ticket.vlans is not None
    subject = tickets.subject(ticket, port)
    index = sysfs.ifindex(port)
    to_type = commands(port, bridge.vlans_of(port), ticket.vlans)
    for command in to_type:
        _still_there(ticket, port, index)
        change(command, subject)
    have = bridge.vlans_of(port) if to_type else ticket.vlans
    _still_there(ticket, port, index)
    if have != ticket.vlans:
        raise HookError(f"it has {to_text(have)} instead of {to_text(ticket.vlans)}: who else sets its VLANs?")
    tickets.mark_right(ticket, port, index)


def _still_there(ticket: Ticket, port: str, index: int) -> None:
    """A tap that goes can come back as another VM's: the commands know it by name only."""
    if not index or sysfs.ifindex(port) != index or sysfs.master(port) != ticket.bridge:
        raise HookError(f"{port} has left {ticket.bridge}")
    if sysfs.address(port) != tap_address(ticket.mac):
        raise HookError(f"{port} has not the address of this NIC's tap, {tap_address(ticket.mac)}")


def _sleep_until_it_comes(bridge_name: str, address: str, before: dict[str, int], seconds: float) -> None:
    """As time.sleep(), but ends once a port with that address has come to the bridge that was not among those before.

    Listing one directory costs next to nothing, so this can be done often.
    """
    end, step = time.monotonic() + seconds, 0.02
    while time.monotonic() < end:
        now = sysfs.ports(bridge_name)
        if any(before.get(name) != number and sysfs.address(name) == address for name, number in now.items()):
            return
        before = now
        time.sleep(min(step, seconds))
        step = min(step * 1.2, 0.25)


def _give_up(state: RetryCallState) -> NoReturn:
    error = _outcome(state)
    if isinstance(error, HookError):
        raise error
    reason = error or (state.outcome and state.outcome.result())
    if isinstance(error, BlockingIOError):
        reason = "another process is at it"
    raise HookError(f"given up after {state.seconds_since_start:.0f} s: {reason}")


def _outcome(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome and state.outcome.failed else None
