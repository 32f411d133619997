# SPDX-License-Identifier: MIT
"""tests/check in full runs every environment, and two halves of tests are the whole of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_full_run_has_every_environment():
    script = (REPOSITORY / "tests/check").read_text().partition('\n"")\n')[2].partition(";;")[0]
    listed = [name for names in re.findall(r"set -- ([\w -]+)", script) for name in names.split()]
    (known,) = re.findall(r"(?m)^env_list = (.*)$", (REPOSITORY / "tox.ini").read_text())
    whole = {name.removesuffix("-1") for name in listed if f"{name.removesuffix('1')}2" in listed}
    halves = {f"{name}-{half}" for name in whole for half in "12"}

    assert (set(listed) - halves) | whole == set(known.split(", "))


def collected(tests, half):
    """Given a directory and "1", "2" or "" for both, return the tests that pytest collects there."""
    shown = subprocess.check_output(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", tests],
        cwd=REPOSITORY, env={**os.environ, "LAB": "1", "LAB_HALF": half}, text=True,
    )  # fmt: skip
    return [line for line in shown.splitlines() if "::" in line]


@pytest.mark.parametrize("tests", ["tests/kernel", "tests/libvirt"])
@pytest.mark.skipif("LAB" in os.environ, reason="in the lab, there is not always a libvirtd")
def test_the_halves_are_the_whole_and_about_as_large(tests):
    first, second = collected(tests, "1"), collected(tests, "2")

    assert sorted(first + second) == sorted(collected(tests, ""))
    assert abs(len(first) - len(second)) < 20
