# SPDX-License-Identifier: MIT
"""`bridge -o monitor link`: which interfaces the kernel has just reported.

The lines are read in chunks from a pipe: `sh` would call a function for each line, and look for new ones ten times a
second. They have no JSON, and netlink can lose events.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import threading

import sh

from .patience import MINUTE

COMMAND = ["bridge", "-o", "monitor", "link"]
CHUNK_BYTES = 1 << 16  # as much as a pipe holds
PR_SET_PDEATHSIG = 1  # source: linux/prctl.h
# "3: vnet0: <BROADCAST,…", "Deleted 4: veth0@eth0: <BROADCAST,…"; no interface's name has a colon or a space
LINE = re.compile(rb"(?:Deleted )?(\d+): ([^ :]+): ")


class Events:
    """What one `bridge monitor` after another says. All times are time.monotonic()'s, in seconds."""

    def __init__(self, now: float) -> None:
        """Start the first one."""
        self.descriptor = start()  # -1: none runs
        self.restart_due = 0.0  # 0: one runs
        self._started, self._pause = now, 1.0
        self._rest, self._why = b"", ""

    def read(self, now: float) -> tuple[dict[int, str], bool, str]:
        """Read what there is; return names of interfaces by index, whether others can be missing, and what to say."""
        chunk = os.read(self.descriptor, CHUNK_BYTES)
        lines, newline, self._rest = (self._rest + chunk).rpartition(b"\n")
        names, other = interfaces(lines + newline)
        self._why = other or self._why
        if chunk:
            return names, bool(other), ""
        os.close(self.descriptor)
        self.descriptor = -1
        self._pause = 1.0 if now - self._started > MINUTE else min(2 * self._pause, MINUTE)
        self.restart_due = now + self._pause
        return names, bool(other), f"{shlex.join(COMMAND)} has ended ({self._why or 'killed'}) and is started again"

    def restart(self, now: float) -> bool:
        """Start the next one if that is due, and return whether it was: events can be missing then."""
        if not self.restart_due or now < self.restart_due:
            return False
        self.descriptor, self.restart_due = start(), 0.0
        self._started, self._rest, self._why = now, b"", ""
        return True


def start() -> int:
    """Start `bridge monitor`, return a descriptor to read its lines from; end of file: it has ended."""
    reader, writer = os.pipe()
    threading.Thread(target=_run, args=(writer,), daemon=True).start()
    return reader


def interfaces(lines: bytes) -> tuple[dict[int, str], str]:
    """Given whole lines, return the names of the interfaces in them by index, and the last line that is of none.

    Such a line says that events were lost, or why `bridge` ends.
    """
    names, other = {}, ""
    for line in lines.splitlines():
        found = LINE.match(line)
        if found:
            names[int(found[1])] = found[2].decode(errors="replace")
        elif line.strip():
            other = line.decode(errors="replace").strip()
    return names, other


def _run(writer: int) -> None:
    """Run `bridge monitor` until `bridge monitor` ends, and write its lines to this descriptor.

    The kernel kills `bridge monitor` when this thread ends. So a SIGKILL of watch leaves no `bridge monitor` behind.
    """
    libc, watch = ctypes.CDLL(None), os.getpid()

    def end_with_watch() -> None:
        # setpriv --pdeathsig does not ask whether its parent has died before
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != watch:
            os._exit(1)

    with open(writer, "wb", buffering=0) as file, open(os.devnull, "rb") as nothing:
        try:
            program = sh.Command(COMMAND[0]).bake(_in=nothing, _out=file, _err=file, _tty_out=False)
            environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
            program(*COMMAND[1:], _env=environment, _preexec_fn=end_with_watch)
        except sh.CommandNotFound:
            file.write(b"bridge is not installed: install iproute2\n")
        except sh.ErrorReturnCode:  # `bridge` has written why to the pipe
            pass
        except (sh.ForkException, OSError, RuntimeError, ValueError) as error:
            file.write(f"cannot be run: {error}".splitlines()[-1].encode() + b"\n")
