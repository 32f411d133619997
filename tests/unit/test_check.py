# SPDX-License-Identifier: MIT
"""tests/check full runs every environment, and two halves of tests are the whole of them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from halves import half, seconds_by_file

REPOSITORY = Path(__file__).resolve().parents[2]


SCRIPT = (REPOSITORY / "tests/check").read_text()


def environments(text):
    """Given a part of the script, return the environments that it lists, halves as they are."""
    return [name for names in re.findall(r'here="([\w $-]+)"', text) for name in names.split() if name != "$here"]


def without_halves(listed):
    """Given environments, return the names of those that they are, or are halves of."""
    whole = {name.removesuffix("-1") for name in listed if f"{name.removesuffix('1')}2" in listed}
    return (set(listed) - {f"{name}-{half}" for name in whole for half in "12"}) | whole


def test_a_full_run_has_every_environment():
    (known,) = re.findall(r"(?m)^env_list = (.*)$", (REPOSITORY / "tox.ini").read_text())

    assert without_halves(environments(SCRIPT.partition("\nfull)\n")[2].partition(";;")[0])) == set(known.split(", "))


def test_without_arguments_all_that_is_about_this_code_here_is_tested():
    assert without_halves(environments(SCRIPT.partition("case ")[0])) == {
        "lint", "type", "unit", "lab", "kernel", "libvirt"
    }  # fmt: skip


@pytest.mark.parametrize("tests", ["tests/kernel", "tests/libvirt"])
@pytest.mark.skipif("LAB" in os.environ, reason="in the lab, there is not always a libvirtd")
def test_the_halves_are_the_whole_and_take_about_as_long(tests, monkeypatch):
    shown = subprocess.check_output(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", tests],
        cwd=REPOSITORY, env={**os.environ, "LAB": "1", "LAB_HALF": ""}, text=True,
    )  # fmt: skip
    items = [SimpleNamespace(path=Path(line.partition("::")[0])) for line in shown.splitlines() if "::" in line]
    halves = []
    for number in "12":
        monkeypatch.setenv("LAB_HALF", number)
        halves.append(half(items))

    assert len(items) > 50
    assert sorted(map(id, halves[0] + halves[1])) == sorted(map(id, items))
    seconds = [sum(seconds_by_file(part).values()) for part in halves]
    assert max(seconds) < 1.1 * min(seconds)
