# SPDX-License-Identifier: MIT
"""One version: what lib says is what CHANGELOG.md, the packages and the Ansible collection say."""

import datetime
import re
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from libvirt_hooks import VERSION
from libvirt_hooks.tool import command

REPOSITORY = Path(__file__).parents[2]
HEADINGS = re.findall(r"(?m)^## (.*)$", (REPOSITORY / "CHANGELOG.md").read_text())


def test_the_newest_release_in_the_changelog_is_this_version_unless_it_is_the_first_and_to_come():
    """While nothing has been released, there is "Unreleased" alone."""
    releases = [heading.partition(" - ")[0] for heading in HEADINGS if heading != "Unreleased"]

    assert (releases or [VERSION])[0] == VERSION
    assert HEADINGS.count("Unreleased") == (HEADINGS[0] == "Unreleased")


def test_each_release_has_a_version_and_a_date():
    for heading in HEADINGS:
        if heading != "Unreleased":
            version, _, date = heading.partition(" - ")
            assert re.fullmatch(r"\d+\.\d+\.\d+", version)
            assert datetime.date.fromisoformat(date)


def test_the_debian_package_is_of_this_version():
    first, *_ = (REPOSITORY / "debian/changelog").read_text().splitlines()

    assert first.startswith(f"libvirt-hooks ({VERSION}) ")


def test_the_rpm_is_of_this_version_and_of_the_debian_packages_date():
    """make rpm takes the date of all files from there."""
    spec = (REPOSITORY / "rpm/libvirt-hooks.spec").read_text()
    date, version = re.findall(r"(?m)^[*] (\w+ \w+ \d+ \d+) .* - (\S+)$", spec)[0]
    debian = re.findall(r"(?m)^ -- .*  (.*)$", (REPOSITORY / "debian/changelog").read_text())[0]

    assert re.findall(r"(?m)^Version: +(\S+)$", spec) == [VERSION]
    assert version == f"{VERSION}-1"
    day = parsedate_to_datetime(debian)
    assert datetime.datetime.strptime(date, "%a %b %d %Y").date() == day.date()


def test_the_ansible_collection_has_this_version():
    galaxy = (REPOSITORY / "ansible/galaxy.yml").read_text()

    assert re.findall(r"(?m)^version: (\S+)", galaxy) == [VERSION]
    assert f"-vlan-{VERSION}.tar.gz" in (REPOSITORY / "ansible/README.md").read_text()


def test_the_tool_says_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--version"])

    assert (ended.value.code, capsys.readouterr().out) == (0, f"libvirt-vlan {VERSION}\n")
