# SPDX-License-Identifier: MIT
"""When to try again, and when to give up. Knows nothing of what is tried.

Not to be imported while libvirtd waits: `tenacity` can import asyncio.
"""

from __future__ import annotations

from collections.abc import Callable
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

from . import HookError


def until_done(
    attempt: Callable[[], str],
    sleep: Callable[[float], None],
    say: Callable[[BaseException], None],
    seconds: float,
) -> None:
    """Call attempt() until it returns "", less and less often. Raises HookError with the last reason when time is up.

    attempt() returns why to try again, or raises HookError or OSError (no process, no file). say() is given each error.
    """

    def say_why(state: RetryCallState) -> None:
        error = _outcome(state)
        if error:
            say(error)

    Retrying(
        retry=retry_if_exception_type((HookError, OSError)) | retry_if_result(bool),
        stop=stop_after_delay(seconds),
        wait=wait_exponential(multiplier=0.25, exp_base=2, max=5),
        sleep=sleep,
        before_sleep=say_why,
        retry_error_callback=_give_up,
    )(attempt)


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
    error = _outcome(state)
    if isinstance(error, HookError):
        raise error
    reason = error or (state.outcome and state.outcome.result())
    if isinstance(error, BlockingIOError):
        reason = "another hook process is changing this NIC's port: try again"
    raise HookError(f"given up after {state.seconds_since_start:.0f} s: {reason}")


def _outcome(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome and state.outcome.failed else None
