# SPDX-License-Identifier: MIT
"""Going on after libvirt has been told that the hook is done."""

from __future__ import annotations

import os
from collections.abc import Callable

from . import HookError, log


def detached(work: Callable[[], None]) -> None:
    """Given some work, have a process of its own do it, and return at once. Raises HookError if there can be none.

    libvirtd waits until nobody holds the hook's stdout and stderr any more (libvirt, src/util/vircommand.c): a session
    of its own is not enough, descriptors 0 to 2 have to go too.
    """
    try:
        child = os.fork()
    except OSError as error:
        raise HookError(f"cannot start a process: {error.strerror}: mend that and try again") from error
    if child == 0:
        _work_and_exit(work)


def _work_and_exit(work: Callable[[], None]) -> None:
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        work()
        status = 0
    except HookError as error:
        log.error(str(error))
    except BaseException as error:  # nobody sees a traceback any more
        log.error(f"unexpected, please report it: {log.described(error)}")
    finally:
        os._exit(status)
