# SPDX-License-Identifier: MIT
"""Locks: each is one byte of one file, so that there are no lock files to tidy up.

A lock belongs to an open file. A process that is forked has the lock, too, and the kernel frees the lock when the last
of these processes has closed the file, or is dead. Source: fcntl_locking(2), "Open file description locks".
"""

from __future__ import annotations

import fcntl
import os
import struct
import time

from . import HookError, interfaces, tickets

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from collections.abc import Callable

FLOCK = struct.Struct("hhqqi0q")  # source: fcntl_locking(2), struct flock
# the first bytes of the locks of guests and of saved definitions: those of NICs are below
GUESTS, DEFINITIONS = 1 << 60, 1 << 61


def take_within(seconds: float, take: Callable[[str], int], of: str, why: str) -> int:
    """Given a limit, one of the functions below, what that takes, and what to say, take the lock as soon as it is free.

    Raises HookError with these words after the limit. Without tenacity, because libvirtd can be waiting.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return take(of)
        except BlockingIOError:
            if time.monotonic() > end:
                raise HookError(why) from None
            time.sleep(0.02)


def take_nics(key: str) -> int:
    """Given a NIC's key, take its lock, so that two processes never decide or type for one interface.

    Return a descriptor, to be closed. Raises BlockingIOError if another process holds the lock, HookError if there can
    be no such file. So do the others.
    """
    return _take(interfaces.lock_place(key))


def take_guests(uuid: str) -> int:
    """Given a guest's uuid, take the lock of the detached process that sets the VLANs of the guest."""
    return _take(_place(GUESTS, uuid))


def take_definitions(uuid: str) -> int:
    """Given the uuid of a guest or a network, take the lock of the process that saves its definition."""
    return _take(_place(DEFINITIONS, uuid))


def guests_is_taken(uuid: str) -> bool:
    """Given a guest's uuid, return whether a process sets its VLANs.

    A try to take the lock would look like such a process to the next hook.
    """
    try:
        descriptor = os.open(_file(), os.O_RDWR)
    except OSError:
        return False
    try:
        asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _place(GUESTS, uuid), 1, 0)
        return bool(FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def _take(place: int) -> int:
    try:
        os.makedirs(tickets.DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(_file(), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HookError(f"cannot lock {_file()}: {error.strerror}: {tickets.LOOK}") from error
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _place(first: int, uuid: str) -> int:
    """Given a first byte and a uuid, return the number of a byte: of 2**60 uuids, two have the same.

    "" is the uuid of the owner of a port that `virsh net-port-create` has made.
    """
    return first + int(uuid.replace("-", "") or "0", 16) % (GUESTS - 1)  # so that each digit counts


def _file() -> str:
    return f"{tickets.DIRECTORY}/lock"
