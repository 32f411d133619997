# SPDX-License-Identifier: MIT
"""Log lines: one each, whatever they are made of."""

import os

import pytest

from libvirt_hooks import log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web: + bridge vlan add dev vnet0", "web: + bridge vlan add dev vnet0"),
        ("a\nb", r"a\nb"),  # a second line
        ("a\r\x1b[2Kb", r"a\r\x1b[2Kb"),  # a terminal's "erase this line"
        ("a\u2028b", r"a\u2028b"),  # a line separator
        ("a\u202eb", r"a\u202eb"),  # text from right to left
        ("a\x00b", r"a\x00b"),  # syslog(3) would end here
        ("a\udcffb", r"a\udcffb"),  # what Python makes of a byte that is no UTF-8
        ("naïve €", "naïve €"),
    ],
)
def test_one_line_lets_nothing_forge_or_hide_a_line(text, expected):
    assert log.one_line(text) == expected


@pytest.fixture
def file(tmp_path):
    """Where there is no /dev/log, as conftest.py sees to: the file that lines go to instead."""
    log.start("libvirt-hook-network")
    return tmp_path / "log" / "hooks.log"


def test_without_syslog_lines_go_to_a_file_whole(file):
    log.info("x" * 5000)
    log.error("second\nline")

    first, second = file.read_text().splitlines()
    assert first.endswith(f" libvirt-hook-network[{os.getpid()}]: " + "x" * 5000)
    assert second.endswith(r": second\nline")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_goes_to_stderr(file, capsys):
    file.parent.write_text("a file where the directory should be")
    log.error("the message")

    assert "the message" in capsys.readouterr().err
