# SPDX-License-Identifier: MIT
"""The command line, and the man page, which says the same."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from libvirt_hooks.tool import command

REPOSITORY = Path(__file__).resolve().parents[2]


def words(text):
    return set(re.findall(r"--[a-z-]+", text))


def test_the_man_page_has_the_verbs_and_options_of_the_command_line():
    page = (REPOSITORY / "man/libvirt-vlan.8").read_text().replace(r"\-", "-")
    top = command.parser()
    (verbs,) = [action.choices for action in top._actions if action.choices]
    options = words(top.format_help()).union(*(words(verb.format_help()) for verb in verbs.values()))

    synopsis = page.partition(".SH DESCRIPTION")[0]
    assert re.findall(r"^\.B libvirt-vlan ([a-z]+)$", synopsis, re.MULTILINE) == list(verbs)
    assert re.findall(r"^\.TP\n\.B ([a-z]+)$", page, re.MULTILINE) == list(verbs)
    assert words(page.replace("--inactive", "")) == options
    assert set(re.findall(r"^\.B ([012])$", page, re.MULTILINE)) == set(re.findall(r"\b[012]\b", top.epilog))


@pytest.mark.parametrize("arguments", ["", "mend", "show --yaml", "plan", "plan a b", "show web"])
def test_what_is_not_understood_is_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(shlex.split(arguments))

    assert ended.value.code == 2
    assert "usage: libvirt-vlan" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_or_written_is_one_line_and_exit_2(monkeypatch, capfd):
    monkeypatch.setattr(command, "_VERBS", {"show": lambda _: os.close(os.open("/no/such", os.O_RDONLY))})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    stdout = sys.stdout.fileno()  # pytest's own, not always 1
    kept = os.dup(stdout)
    try:
        assert command.main(["show"]) == 2
    finally:
        os.dup2(kept, stdout)

    assert capfd.readouterr().err == "libvirt-vlan: /no/such: No such file or directory\n"
