# SPDX-License-Identifier: MIT
"""When to try again, and when to give up. Knows nothing of what is tried.

Not to be imported while libvirtd waits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

# tenacity 8.2 and 8.3 import asyncio for a class that nobody uses here: a third of the time until a process can begin.
# Other releases of tenacity have no such module.
_unused = ModuleType("tenacity._asyncio")
_unused.AsyncRetrying = object  # type: ignore[attr-defined]
sys.modules.setdefault("tenacity._asyncio", _unused)

from tenacity import (  # noqa: E402
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    stop_never,
    wait_fixed,
)

from . import HookError  # noqa: E402


def until_false(attempt: Callable[[], bool], pause: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Call attempt() until it returns False, with a sleep() of pause() seconds in between.

    There is no limit here: attempt() has one for each thing that it tries.
    """
    Retrying(retry=retry_if_result(bool), stop=stop_never, wait=lambda _: pause(), sleep=sleep, reraise=True)(attempt)


def until_unlocked(attempt: Callable[[], None], seconds: float) -> None:
    """Given what to try and a limit, call it until it raises no BlockingIOError. Raises HookError after the limit."""
    Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.05),
        retry_error_callback=_give_up,
    )(attempt)


def three_times(attempt: Callable[[], None]) -> None:
    """Given what to try, call it until it raises no HookError, three times at most. Raises the third HookError."""
    Retrying(retry=retry_if_exception_type(HookError), stop=stop_after_attempt(3), wait=wait_fixed(0.2), reraise=True)(
        attempt
    )


def _give_up(state: RetryCallState) -> NoReturn:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, HookError):
        raise error
    raise HookError(
        f"gave up after {state.seconds_since_start:.0f} s: another hook process is changing this NIC's port: try again"
    )
