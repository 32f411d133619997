# SPDX-License-Identifier: MIT
"""The commands in the pages for users are run as they stand there, on the host that the README describes."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY, start_libvirtd, undefine_network, virsh
from iproute import ACCESS, add_uplink, eventually, ip, vlans

# README first: it makes the bridge; then what is done with a host that is set up
PAGES = ("README.md", "docs/operation.md")
CANNOT = {
    r"sudo sh tests/": "boots a lab, and this is one; continuous integration runs it",
    r"apt install \w": "there is no network in the lab; tests/lab/setup installs the same packages",
    r"make deb|scp |ssh ": "tests/deb builds the package, and tests/libvirt/test_deb.py installs it",
    r"journalctl ": "there is no journal in the lab; tests/libvirt/conftest.py reads the file instead",
}
SYSTEMCTL = f"""#!/bin/sh
# There is no systemd in the lab.
case "$*" in
"restart libvirtd") exec {REPOSITORY}/tests/lab/start-libvirtd ;;
*) exit 3 ;;
esac
"""


def blocks():
    """Return (page, block) for each block of shell commands in the pages, in order."""
    for page in PAGES:
        for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", (REPOSITORY / page).read_text()):
            yield page, block


def commands(block):
    """Given a block, return the commands in it that the lab can run."""
    lines = [line for line in block.splitlines() if shlex.split(line, comments=True)]
    return [line for line in lines if not any(re.match(pattern, line) for pattern in CANNOT)]


@pytest.fixture(scope="module", autouse=True)
def host(libvirtd, tmp_path_factory):
    """Give a host with an uplink eno1 and no bridge; the network and the VM come once README has made the bridge."""
    bin_directory = tmp_path_factory.mktemp("bin")
    (bin_directory / "systemctl").write_text(SYSTEMCTL)
    (bin_directory / "systemctl").chmod(0o755)
    os.environ["PATH"] = f"{bin_directory}:{os.environ['PATH']}"
    os.environ["LIBVIRT_DEFAULT_URI"] = "qemu:///system"
    shutil.rmtree("/var/backups/libvirt", ignore_errors=True)  # other tests' VMs have the same name
    ip("link", "del", "br0")
    add_uplink("eno1")
    yield
    del os.environ["LIBVIRT_DEFAULT_URI"]
    os.environ["PATH"] = os.environ["PATH"].partition(":")[2]
    Path("/run/libvirt-hooks.off").unlink(missing_ok=True)
    Path("/run/libvirt-hooks/uplinks.br0").unlink(missing_ok=True)  # check would miss eno1 in other tests
    virsh("destroy", "web")
    virsh("undefine", "web")
    undefine_network("lan")
    ip("link", "del", "eno1")
    start_libvirtd()


def run(command):
    """Run a line of a page in a shell, and see it succeed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    allowed = (0, 1) if " diff " in command else (0,)  # 1: diff has found a difference
    assert done.returncode in allowed, f"{command}: exit {done.returncode}: {done.stderr}"


def start_web():
    """Define the network and the VM of the README, and start the VM."""
    ip("link", "set", "br0", "up")
    virsh("net-define", "examples/network.xml")
    virsh("net-start", "lan")
    virsh("define", "examples/web.xml")
    virsh("start", "--paused", "web")


def test_every_command_runs_as_it_stands():
    ran = []
    for page, block in blocks():
        for command in commands(block):
            if "dmz-4" in command:  # the first command that needs the network
                start_web()
                assert vlans("vnet0") == {46: ACCESS}
            ran.append((page, command))
            run(command)

    assert {page for page, _ in ran} == set(PAGES)
    assert "portgroup name='dmz-4'" in virsh("net-dumpxml", "lan")
    assert vlans("eno1").keys() >= {3, 46}
    assert Path("/run/libvirt-hooks.off").exists()
    eventually(lambda: vlans("vnet0") == {46: ACCESS})
