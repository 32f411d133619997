# SPDX-License-Identifier: MIT
"""The RPM installed, upgraded and removed where there is a Python, while its hook is called all the time: in the lab.

This is a Debian, whose rpm knows of no package: so --nodeps.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from iproute import eventually
from releases import LATER, LOADING, MIXTURES

DIRECTORY = Path(os.environ["LAB_RPM"])
OLDER, NEWER = (DIRECTORY / version / f"libvirt-hooks-{version}-1.noarch.rpm" for version in LATER)
HOOKS, CODE = Path("/etc/libvirt/hooks"), Path("/usr/share/libvirt-hooks")
LOG = Path("/var/log/libvirt/hooks.log")  # there is no /dev/log in the lab
REPOSITORY = Path(__file__).resolve().parents[2]
PORT = (REPOSITORY / "tests/data/network-port-created-no-portgroup.xml").read_bytes()

pytestmark = pytest.mark.skipif(os.environ.get("LAB") != "1", reason="this machine is no place to install an RPM")


def rpm(*words):
    """Run rpm with these words, and return what it says to an operator."""
    done = subprocess.run(
        ["rpm", "--nodeps", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def call_all():
    """Call what is in network.d as libvirt does: each file that is executable. The hooks leave this NIC alone."""
    for file in sorted((HOOKS / "network.d").iterdir()):
        if os.access(file, os.X_OK):
            done = subprocess.run(
                [file, "br0", "port-created", "begin", "-"], input=PORT, env={}, capture_output=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, b"")


def runs():
    """Return the versions of the hooks that the calls have run, as the log says them."""
    return re.findall(r"(?m)\]: port-created: libvirt-hooks (\S+)$", LOG.read_text())


def compiled():
    """Return what Python has compiled of the modules: their dates do not tell two builds of one day apart."""
    return {file.name: file.read_bytes() for file in CODE.glob("lib/libvirt_hooks/__pycache__/*")}


def test_in_an_upgrade_each_call_runs_one_release():
    rpm("-U", OLDER)
    before = compiled()
    calls = 0
    with ThreadPoolExecutor(2) as threads:
        LOADING.touch()
        loading = threads.submit(call_all)
        eventually(lambda: not LOADING.exists())
        upgrading = threads.submit(rpm, "-U", NEWER)
        while not upgrading.done():
            call_all()
            calls += 1
        said = upgrading.result()
        loading.result()
    call_all()
    after = compiled()

    ran = runs()
    assert calls > 3
    assert ran == sorted(ran)
    assert (len(ran), {*ran}, ran[-1]) == (calls + 2, {*LATER}, LATER[1])
    assert not MIXTURES.exists()
    assert "libvirt-hooks: " not in said
    assert before.keys() == after.keys() != set()
    assert [name for name in before if before[name] == after[name]] == []


def test_removed_it_leaves_nothing_that_python_has_compiled():
    said = rpm("-e", "libvirt-hooks")

    assert "libvirt-hooks: running VMs keep their VLANs." in said
    assert not CODE.exists()
    assert list(HOOKS.glob("*.d")) == []
