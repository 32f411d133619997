# SPDX-License-Identifier: MIT
"""Which guests are containers: the network hook is given a guest's name and uuid only, and waits for taps of VMs.

libvirt calls the lxc hook's `prepare` before it announces a container's ports, so that hook leaves a note of the uuid.
For a container that runs, libvirt has a record of its own. Neither the note nor the record is a guess. Of a container
that starts and has no definition, libvirt has no other file (seen on 9.0).
"""

from __future__ import annotations

import os
import time

from . import HookError, libvirt_records, tickets

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .hookdata import Port

OLD_SECONDS = 300  # between `prepare` and `start` lies what libvirt does to make a container: seconds


def note_start(uuid: str) -> None:
    """Note that the container of this uuid starts. Raises HookError if that fails.

    `start`, or a refused port, ends the note. If libvirt itself gives up a start in between, the next container's start
    removes the note. libvirt's `release` is no sign: it can come twice, and late (seen on 9.0).
    """
    tickets.sweep(OLD_SECONDS)
    try:
        for name in os.listdir(tickets.DIRECTORY) if os.path.isdir(tickets.DIRECTORY) else []:
            path = f"{tickets.DIRECTORY}/{name}"
            if path.startswith(_path("")) and time.time() - os.stat(path).st_mtime > OLD_SECONDS:
                os.unlink(path)
        os.makedirs(tickets.DIRECTORY, mode=0o700, exist_ok=True)
        os.close(os.open(_path(uuid), os.O_WRONLY | os.O_CREAT, 0o600))
        os.utime(_path(uuid))
    except OSError as error:
        raise HookError(f"cannot write {_path(uuid)}: {error.strerror}: {tickets.LOOK}") from error


def forget_start(uuid: str) -> None:
    """Remove the note that the container of this uuid starts, if there is one."""
    try:
        os.unlink(_path(uuid))
    except OSError:
        pass


def is_starting(port: Port) -> bool:
    """Given a port, return whether its owner is a container that starts: the lxc hook will set the VLANs.

    A note that is old, or older than libvirt's own record of the running container, is left from a start that was cut
    short.
    """
    note = _path(port.vm_uuid)
    try:
        age_seconds = time.time() - os.stat(note).st_mtime
    except OSError:
        return False
    return age_seconds <= OLD_SECONDS and not libvirt_records.container_is_newer(port.vm, note)


def _path(uuid: str) -> str:
    return f"{tickets.DIRECTORY}/starting.{uuid}"
