# SPDX-License-Identifier: MIT
"""docs/versions.md says which versions these tests run with, here."""

import re
import subprocess

import pytest
from conftest import version_text
from versions import environments

VERSION_OF = "from importlib.metadata import version; print(version({!r}))"


def python(program):
    return subprocess.check_output(["/usr/bin/python3", "-I", "-c", program], text=True).strip()


def test_the_versions_here_are_in_the_table():
    with open("/etc/os-release", encoding="utf-8") as file:
        debian = re.search(r'^VERSION_ID="?([\d.]+)"?$', file.read(), re.MULTILINE)
    columns = {column["Debian"]: column for column in environments().values() if column["libvirt"] != "none"}
    if not debian or debian[1] not in columns:
        pytest.skip("the table has no column for this distribution")
    said = columns[debian[1]]
    here = {
        "libvirt": version_text(),
        "Python": python("import platform; print(platform.python_version())"),
        "iproute2": re.search(r"[\d.]+", subprocess.check_output(["/usr/sbin/bridge", "-V"], text=True))[0],
        **{package: python(VERSION_OF.format(package)) for package in ("sh", "tenacity", "defusedxml")},
    }

    # Debian 13 calls a 8.4.1 that came after its 8.4.2 "8.4.2+really8.4.1"
    here = {what: version.rpartition("+really")[2] for what, version in here.items()}
    assert {what: version for what, version in here.items() if not f"{version}.".startswith(f"{said[what]}.")} == {}
