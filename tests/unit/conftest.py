# SPDX-License-Identifier: MIT
"""Unit tests leave the machine alone: what they log goes nowhere near its log."""

import pytest

from libvirt_hooks import log


@pytest.fixture(autouse=True)
def _no_machines_log(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "SYSLOG_SOCKET", str(tmp_path / "no-dev-log"))
    monkeypatch.setattr(log, "FILE", str(tmp_path / "log" / "hooks.log"))
