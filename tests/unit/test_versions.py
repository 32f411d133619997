# SPDX-License-Identifier: MIT
"""docs/versions.md says what tox.ini and tests/lab/root use, and calls tested what its first table has."""

import configparser
import re
from pathlib import Path

import pytest
from versions import environments, tables

REPOSITORY = Path(__file__).resolve().parents[2]
TOX = configparser.ConfigParser(interpolation=None)
TOX.read(REPOSITORY / "tox.ini")
TABLE = environments()
RELEASES = {"bullseye": "11", "bookworm": "12", "trixie": "13"}
PACKAGES = ("sh", "tenacity", "defusedxml")


def settings(environment):
    """Given an environment, return its lines in tox.ini, with those that it takes from [corner]."""
    (section,) = [
        TOX[name] for name in TOX.sections()
        if environment in name.partition(":")[2].strip("{}").split(",")
    ]  # fmt: skip
    lines = "\n".join([*section.values(), TOX["corner"]["debian"]]).splitlines()
    factors = [re.match(r"([\w,]+): (.*)", line) for line in lines]
    return [line for line, factor in zip(lines, factors) if not factor or environment in factor[1].split(",")]


@pytest.mark.parametrize("environment", ["libvirt7", "oldest", "newest"])
def test_the_packages_are_those_that_tox_installs(environment):
    (install,) = [line for line in settings(environment) if "pip install" in line]
    wanted = {package: re.search(rf" {package}(?:==(\S+))?(?= |$)", install)[1] or "newest" for package in PACKAGES}

    assert {package: TABLE[environment][package] for package in PACKAGES} == wanted
    assert f"--python-version {TABLE[environment]['Python']} " in install


@pytest.mark.parametrize("environment", ["libvirt7", "oldest", "libvirt11", "newest"])
def test_the_debian_is_the_labs(environment):
    releases = {name for name in RELEASES for line in settings(environment) if re.search(rf"\b{name}\b", line)}

    assert {RELEASES[release] for release in releases} == {TABLE[environment]["Debian"]}
    root = (REPOSITORY / "tests/lab/root").read_text()
    assert all(f"\n{release})" in root for release in releases)


def test_tested_is_what_an_environment_has_and_nothing_else():
    for what, tested, *_ in tables()[1]:
        if what in TABLE["libvirt"]:
            has = {column[what] for column in TABLE.values()} - {"none"}
            assert (what, set(tested.split(", "))) == (what, has)


def test_the_lowest_versions_are_those_of_the_requirements():
    for package, lowest in re.findall(r"(?m)^(\w+) *>= *([\d.]+)", (REPOSITORY / "requirements.txt").read_text()):
        assert TABLE["oldest"][package] in (lowest, f"{lowest}.0")
