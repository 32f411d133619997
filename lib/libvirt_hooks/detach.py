# SPDX-License-Identifier: MIT
"""Going on in a process of its own, after libvirt has been told that the hook is done."""

from __future__ import annotations

import os
import select

from . import LACKING, HookError, log

SIGKILL = 9  # source: signal(7); the signal module would import enum, and libvirtd waits
TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from collections.abc import Callable


def run_detached(work: Callable[[], None]) -> None:
    """Start a process of its own that does this work, and return at once. Raises HookError if there can be none.

    libvirtd waits until no process holds the hook's stdout and stderr any more (libvirt, src/util/vircommand.c). So the
    process gets not only a session of its own: its descriptors 0 to 2 are replaced, too.
    """
    try:
        parent_lives, parent = os.pipe()
        child = os.fork()
    except OSError as error:
        raise HookError(f"cannot start a process: {error.strerror}: {LACKING}") from error
    if child == 0:
        os.close(parent)
        _work_and_exit(work, parent_lives)


def run_within(seconds: float, work: Callable[[], None]) -> bool:
    """Start a process that does this work, return whether the work was done in time; if not, kill the process.

    The kernel delays SIGKILL while a file system hangs. Once the file system answers again, the process dies at once:
    the process does nothing more.
    """
    try:
        done, worker = os.pipe()
        child = os.fork()
    except OSError as error:
        raise HookError(f"cannot start a process: {error.strerror}: {LACKING}") from error
    if child == 0:
        os.close(done)  # worker stays open until this process ends
        _exit_after(work)
    os.close(worker)
    if not select.select([done], [], [], seconds)[0]:
        os.kill(child, SIGKILL)
        return False
    os.waitpid(child, 0)
    return True


def _work_and_exit(work: Callable[[], None], parent_lives: int) -> None:
    def wait_and_work() -> None:
        # Wait until the parent has exited. On a single processor this child would otherwise delay the parent, and
        # libvirtd with it.
        os.read(parent_lives, 1)
        os.close(parent_lives)
        work()

    _exit_after(wait_and_work)


def _exit_after(work: Callable[[], None]) -> None:
    """Do this work without libvirtd's pipes, and end the process."""
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        work()
        status = 0
    except HookError as error:
        log.error(str(error))
    except BaseException as error:  # nobody would see a traceback
        log.error(f"internal error, please report it: {log.described(error)}")
    finally:
        os._exit(status)
