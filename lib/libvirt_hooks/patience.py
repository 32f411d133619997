# SPDX-License-Identifier: MIT
"""When to try again, and when to give up. Knows nothing of what is tried.

Imported only once something has to be waited for: `tenacity` takes longer to import than all the rest together.
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
    """Given what to try, which returns why to try again or "", call it until it returns ""; ever less often.

    Whatever the system cannot do just now (no process, no file) is told to say(), and tried again like any other error.
    Raises HookError with the last reason after so many seconds.
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
    """Given what to try, call it until it raises no BlockingIOError. Raises HookError after so many seconds."""
    Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.05),
        retry_error_callback=_give_up,
    )(attempt)


def three_times(attempt: Callable[[], None]) -> None:
    """Given what to try, call it until it raises no HookError. Raises the third one."""
    Retrying(retry=retry_if_exception_type(HookError), stop=stop_after_attempt(3), wait=wait_fixed(0.2), reraise=True)(
        attempt
    )


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
