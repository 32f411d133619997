# SPDX-License-Identifier: MIT
"""Which guests the hooks have refused to start: kept in /run until the guest starts, so that `check` can say so.

A guest that libvirt starts by itself at boot, and that is refused, has nobody who reads virsh's error.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

from . import HookError, tickets
from .hookdata import checked_uuid
from .log import one_line

PREFIX = "refused."


class Refusal(SimpleNamespace):
    """A start that the hooks have refused."""

    vm_uuid: str
    vm: str
    seconds: float  # since 1970
    sentence: str


def note(vm_uuid: str, vm: str, sentence: str) -> None:
    """Given a guest's uuid and name and why it is refused, note that; a note that cannot be written changes nothing."""
    try:
        os.makedirs(tickets.DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(f"{_path(vm_uuid)}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{time.time()}\n{one_line(vm)}\n{one_line(sentence)}\n")
        os.replace(f"{_path(vm_uuid)}.new", _path(vm_uuid))
    except OSError:  # the log has the sentence, too
        pass


def forget(vm_uuid: str) -> None:
    """Given a guest's uuid, remove the note that it was refused, if there is one."""
    try:
        os.unlink(_path(vm_uuid))
    except OSError:
        pass


def noted() -> list[Refusal]:
    """Return what is noted, in the order of the guests' uuids."""
    found = []
    try:
        names = sorted(os.listdir(tickets.DIRECTORY))
    except OSError:
        names = []
    for name in names:
        if name.startswith(PREFIX) and not name.endswith(".new"):
            try:
                with open(f"{tickets.DIRECTORY}/{name}", encoding="utf-8", errors="replace") as file:
                    seconds, vm, sentence = file.read().splitlines()
                uuid = checked_uuid(name[len(PREFIX) :])
                found.append(Refusal(vm_uuid=uuid, vm=vm, seconds=float(seconds), sentence=sentence))
            except (OSError, ValueError, HookError):  # it has gone, or is not ours
                continue
    return found


def _path(vm_uuid: str) -> str:
    return f"{tickets.DIRECTORY}/{PREFIX}{vm_uuid}"
