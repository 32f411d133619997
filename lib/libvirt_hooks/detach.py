# SPDX-License-Identifier: MIT
"""Going on after libvirt has been told that the hook is done."""

from __future__ import annotations

import os

from . import HookError, log

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from collections.abc import Callable


def detached(work: Callable[[], None]) -> None:
    """Given some work, have a process of its own do it, and return at once. Raises HookError if there can be none.

    libvirtd waits until nobody holds the hook's stdout and stderr any more (libvirt, src/util/vircommand.c): a session
    of its own is not enough, descriptors 0 to 2 have to go too.
    """
    try:
        parent_lives, parent = os.pipe()
        child = os.fork()
    except OSError as error:
        raise HookError(f"cannot start a process: {error.strerror}: mend that and try again") from error
    if child == 0:
        os.close(parent)
        _work_and_exit(work, parent_lives)


def _work_and_exit(work: Callable[[], None], parent_lives: int) -> None:
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.read(parent_lives, 1)  # until it has ended: on one processor we would keep it, and so libvirtd, from that
        os.close(parent_lives)
        work()
        status = 0
    except HookError as error:
        log.error(str(error))
    except BaseException as error:  # nobody sees a traceback any more
        log.error(f"unexpected, please report it: {log.described(error)}")
    finally:
        os._exit(status)
