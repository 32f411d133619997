# SPDX-License-Identifier: MIT
"""From an earlier release to this one and back, by each way to install, while VMs run and that release's watch repairs.

tox -e upgrade builds both: LAB_BEFORE is a checkout of the earlier release.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import MAC, MAC2, REPOSITORY, eventually_settled, nic, start_libvirtd, tap_of, typed, virsh
from iproute import SERVER, ZEROTIER, bridge, eventually, vlans

SOURCES = {"before": Path(os.environ["LAB_BEFORE"]), "now": REPOSITORY}
BUILT = Path(os.environ["LAB_UPGRADE"])
HOOKS, LOCAL, TOOL = Path("/etc/libvirt/hooks"), Path("/usr/local/sbin/libvirt-vlan"), Path("/usr/sbin/libvirt-vlan")
MAC3 = "52:54:00:00:00:03"


def run(*words):
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def by_make(release):
    run("make", "-C", SOURCES[release], "install")


def by_package(release):
    (package,) = (BUILT / release).glob("*.deb")
    run("dpkg", "--no-triggers", "--force-unsafe-io", "-i", package)


def by_files(release):
    for program, directory in (("network", HOOKS), ("qemu", HOOKS), ("lxc", HOOKS), (LOCAL.name, LOCAL.parent)):
        new = directory / f".{program}"  # as docs/install.md says: cp, then mv
        shutil.copy(BUILT / release / program, new)
        new.rename(directory / program)


@pytest.fixture(params=[by_make, by_package, by_files])
def install(libvirtd, request):
    """Give install(release) and the path of the tool; before, the earlier release is installed, and nothing else."""
    run("make", "-C", REPOSITORY, "uninstall")
    request.param("before")
    start_libvirtd()
    yield request.param, TOOL if request.param is by_package else LOCAL
    if request.param is by_package:
        run("dpkg", "--no-triggers", "-P", "libvirt-hooks")
    run("make", "-C", REPOSITORY, "install")
    start_libvirtd()


@contextlib.contextmanager
def watching(tool):
    """Have the tool's watch run until the end of the block."""
    with subprocess.Popen([tool, "watch"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def all_right(tool):
    """Assert that the tool calls each NIC of a VM right, and return how many there are."""
    shown = json.loads(subprocess.check_output([tool, "show", "--json"], text=True))["nics"]
    assert {nic["mac"]: nic["verdict"] for nic in shown if nic["verdict"] != "right"} == {}
    return len(shown)


def test_no_running_vm_leaves_its_vlan_and_each_release_cares_for_the_others_vms(vm, install):
    by_this_way, tool = install
    vm("web", nic(MAC, "zerotier"))
    vm("db", nic(MAC2, "server"))
    web, db = tap_of("web", MAC), tap_of("db", MAC2)
    eventually_settled()

    with watching(tool):
        for number, release in enumerate(("now", "before")):
            before = len(typed())
            by_this_way(release)
            vm(f"new{number}", nic(MAC3, "zerotier"))  # before libvirtd is restarted
            new = tap_of(f"new{number}", MAC3)
            start_libvirtd()
            eventually_settled()
            assert (vlans(web), vlans(db), vlans(new), all_right(tool)) == (ZEROTIER, SERVER, ZEROTIER, 3)
            new_commands = typed()[before:]
            assert [line for line in new_commands if re.search(rf"(add|del) dev ({web}|{db}) ", line)] == []

            bridge("vlan", "del", "dev", web, "vid", "46")  # that watch is the earlier release's still
            eventually(lambda: vlans(web) == ZEROTIER)
            virsh("domif-setlink", "db", db, "down")
            eventually(lambda: vlans(db) == SERVER)
            virsh("destroy", f"new{number}")
    by_this_way("now")
    with watching(tool):
        bridge("vlan", "del", "dev", web, "vid", "46")
        eventually(lambda: vlans(web) == ZEROTIER)
    for name in ("web", "db"):
        virsh("destroy", name)
        virsh("start", "--paused", name)
    assert (vlans(tap_of("web", MAC)), vlans(tap_of("db", MAC2)), all_right(tool)) == (ZEROTIER, SERVER, 2)
