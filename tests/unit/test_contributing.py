# SPDX-License-Identifier: MIT
"""Each command in CONTRIBUTING.md does what the page says, as far as that shows without the lab."""

import configparser
import fnmatch
import importlib.machinery
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text()
COMMANDS = [shlex.split(command, comments=True) for command in re.findall(r"(?m)^sh tests/check .*", PAGE)]
VARIABLES = sorted(set(re.findall(r"\b([A-Z]+_[A-Z]+)=", PAGE)))
TOX = configparser.ConfigParser(interpolation=None)
TOX.read(REPOSITORY / "tox.ini")
SELECTIONS = [command[command.index("--") + 1 :] for command in COMMANDS if "--" in command]


def environments():
    """Return the names of tox's environments, those of a section "testenv:{oldest,newest}" one by one."""
    names = set()
    for section in TOX.sections():
        if section.startswith("testenv:"):
            names.update(section.partition(":")[2].strip("{}").split(","))
    return names


def test_the_page_has_commands_selections_and_variables():
    assert (len(COMMANDS) > 5, len(SELECTIONS) > 2, len(VARIABLES) > 1) == (True, True, True)


@pytest.mark.parametrize("command", COMMANDS, ids=shlex.join)
def test_each_environment_exists(command):
    if "-e" in command:
        assert set(command[command.index("-e") + 1].split(",")) <= environments()


@pytest.mark.parametrize("selection", SELECTIONS, ids=shlex.join)
def test_each_selection_selects_tests(selection):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *selection],
        cwd=REPOSITORY, env={**os.environ, "LAB": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "::test_" in done.stdout


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_arrives_in_the_tests_in_the_lab(variable, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("lab", str(REPOSITORY / "tests/lab/run"))
    lab = importlib.util.module_from_spec(importlib.util.spec_from_loader("lab", loader))
    loader.exec_module(lab)
    monkeypatch.setenv(variable, "7")

    assert any(fnmatch.fnmatch(variable, pattern) for pattern in TOX["testenv"]["pass_env"].split())
    assert lab.environment()[variable] == "7"
    files = [file for tests in ("kernel", "bench") for file in (REPOSITORY / "tests" / tests).glob("*.py")]
    assert any(f'environ.get("{variable}"' in file.read_text() for file in files)
