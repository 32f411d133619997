# SPDX-License-Identifier: MIT
"""Running commands: how long that takes, and what becomes of one that hangs."""

import os
import subprocess
import time

import pytest
from iproute import eventually

from libvirt_hooks import HookError, bridge


def test_nobody_waits_for_a_command_that_is_done():
    """sh's own time limit would make each last a tenth of a second."""
    durations = []
    for _ in range(10):
        began = time.monotonic()
        bridge._run([["true"]])
        durations.append(time.monotonic() - began)

    assert min(durations) < 0.08


def test_a_command_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(bridge, "TIMEOUT_SECONDS", 0.2)
    began = time.monotonic()

    with pytest.raises(HookError, match=r"sleep 60: killed after 0\.2 s: check dmesg"):
        bridge._run([["sleep", "60"]])
    assert time.monotonic() - began < 30


def test_a_command_that_is_killed_by_somebody_says_so():
    with pytest.raises(HookError, match=r"exit -9: "):
        bridge._run([["sh", "-c", "kill -9 $$"]])


def test_a_command_that_nobody_could_end_is_ended_at_once(monkeypatch):
    def no_thread(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(bridge.threading.Timer, "start", no_thread)
    began = time.monotonic()

    with pytest.raises(HookError, match=r"sleep 60: cannot be run: can't start new thread"):
        bridge._run([["sleep", "60"]])
    assert time.monotonic() - began < 30
    eventually(lambda: subprocess.run(["pgrep", "-P", str(os.getpid()), "sleep"], check=False).returncode == 1)
