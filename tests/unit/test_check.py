# SPDX-License-Identifier: MIT
"""tests/check full runs every environment, and the parts of tests are the whole of them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from parts import own_part, seconds_by_file

REPOSITORY = Path(__file__).resolve().parents[2]


SCRIPT = (REPOSITORY / "tests/check").read_text()


def environments(text):
    """Given a part of the script, return the environments that it lists, parts as they are."""
    return [name for names in re.findall(r'here="([\w $-]+)"', text) for name in names.split() if name != "$here"]


def parts_as_wholes(listed):
    """Given names of environments, return them, with the name of the whole in place of all parts of an environment."""
    counted = re.findall(r"(?m)^\[testenv:\{(\w+)((?:,\w+-\d)+)\}\]", (REPOSITORY / "tox.ini").read_text())
    parts = {whole: {*names.strip(",").split(",")} for whole, names in counted}
    assert len(parts) == 2
    whole = {name for name in parts if parts[name] <= set(listed)}
    return (set(listed) - {part for name in whole for part in parts[name]}) | whole


def test_a_full_run_has_every_environment():
    (known,) = re.findall(r"(?m)^env_list = (.*)$", (REPOSITORY / "tox.ini").read_text())

    assert parts_as_wholes(environments(SCRIPT.partition("\nfull)\n")[2].partition(";;")[0])) == set(known.split(", "))


def test_without_arguments_all_that_is_about_this_code_here_is_tested():
    assert parts_as_wholes(environments(SCRIPT.partition("case ")[0])) == {
        "lint", "type", "unit", "lab", "kernel", "libvirt"
    }  # fmt: skip


@pytest.mark.parametrize(("tests", "count"), [("tests/kernel", 2), ("tests/libvirt", 3)])
@pytest.mark.skipif("LAB" in os.environ, reason="in the lab, there is not always a libvirtd")
def test_the_parts_are_the_whole_and_take_about_as_long(tests, count, monkeypatch):
    shown = subprocess.check_output(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", tests],
        cwd=REPOSITORY, env={**os.environ, "LAB": "1", "LAB_PART": ""}, text=True,
    )  # fmt: skip
    items = [SimpleNamespace(path=Path(line.partition("::")[0])) for line in shown.splitlines() if "::" in line]
    parts = []
    for number in range(1, count + 1):
        monkeypatch.setenv("LAB_PART", f"{number} of {count}")
        parts.append(own_part(items))

    assert len(items) > 50
    assert sorted(id(item) for items in parts for item in items) == sorted(map(id, items))
    seconds = [sum(seconds_by_file(items).values()) for items in parts]
    assert max(seconds) < 1.1 * min(seconds)
