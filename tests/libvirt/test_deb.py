# SPDX-License-Identifier: MIT
"""The Debian package on a host, in the order in which an operator meets it: each test goes on from the one before.

libvirtd is confined by its own AppArmor profile throughout. The session has begun with make install.
"""

import os
import re
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import LOG, MAC, MAC2, PID_FILE, REPOSITORY, nic, start_libvirtd, tap_of, virsh, virsh_fails
from iproute import ACCESS, eventually, vlans
from releases import LOADING, MIXTURES, mark
from test_apparmor import PORT, UUID, confine, confinement, denials, set_free

DIRECTORY = Path(os.environ["LAB_DEB"])
HOOKS = Path("/etc/libvirt/hooks")
CONFFILES = [HOOKS / f"{hook.name}.d/50-libvirt-hooks" for hook in sorted((REPOSITORY / "hooks").iterdir())]
TOOL = "/usr/sbin/libvirt-vlan"
BACKUPS = Path("/var/backups/libvirt")
METRICS = Path("/var/lib/prometheus/node-exporter/libvirt-vlan.prom")
CALLS = Path("/run/other-calls")
OTHERS = f'#!/bin/sh\necho "${{0##*/}} $2" >>{CALLS}\n'
PYTHON, AWAY = Path("/usr/bin/python3"), Path("/usr/bin/python3.away")
LEFT_ALONE = (REPOSITORY / "tests/data/network-port-created-no-portgroup.xml").read_bytes()
LEFT_ALONE = LEFT_ALONE.replace(b"00:01'", b"00:99'")  # no VM here has such a NIC


def dpkg(*words):
    """Run dpkg with these words, and return what it says to an operator. Manual pages are not indexed: that is slow."""
    done = subprocess.run(
        ["dpkg", "--no-triggers", "--force-unsafe-io", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def package():
    (found,) = DIRECTORY.glob("*.deb")
    return found


def release(number, directory):
    """Return a package whose modules all say that they are of this release."""
    tree = directory / str(number)
    subprocess.run(["dpkg-deb", "-R", package(), tree], check=True)
    mark(tree / "usr/share/libvirt-hooks/lib/libvirt_hooks", f"1.0.{number}")
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: 1.0.{number}", control.read_text()))
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, tree.with_suffix(".deb")], check=True, stdout=subprocess.DEVNULL)
    return tree.with_suffix(".deb")


def working():
    done = subprocess.run(["pgrep", "-f", "/libvirt-hooks[^ ]*/network"], check=False, capture_output=True, text=True)
    return done.stdout.split()


def runs(operation):
    """Return the versions of the hooks that libvirt's calls for this operation have run, as the log says them."""
    lines = LOG.read_text().splitlines() if LOG.exists() else []
    return [line.rpartition(" ")[2] for line in lines if f"]: {operation}: libvirt-hooks " in line]


def call():
    """Call the network hook of a package as libvirt does, for a NIC that the hook leaves alone."""
    done = subprocess.run(
        [HOOKS / "network.d/50-libvirt-hooks", "br0", "port-created", "begin", "-"],
        input=LEFT_ALONE, env={}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def start(vm):
    """Start a VM with a NIC of portgroup zerotier as the only one in a new log; return its tap's VLANs."""
    LOG.unlink(missing_ok=True)
    vm("web", nic(MAC, "zerotier"))
    eventually(lambda: not working())
    return vlans(tap_of("web", MAC))


@pytest.fixture(scope="module", autouse=True)
def confined(libvirtd):
    confine()
    yield
    assert denials() == []
    set_free()


def test_over_a_make_install_it_is_told_what_to_remove_and_no_hook_runs_twice(vm):
    assert confinement(PID_FILE.read_text()) == "libvirtd (enforce)"
    said = dpkg("-i", package())
    assert start(vm) == {46: ACCESS}
    assert (len(runs("port-created")), len(runs("start"))) == (1, 1)
    assert "libvirt-hooks: libvirt looks for hooks when it starts. Now: systemctl restart libvirtd\n" in said

    (remove,) = re.findall(r"make install, and are used instead of the package. To remove them:\n +(rm .*)", said)
    subprocess.run(remove, shell=True, check=True)
    assert {path for path in HOOKS.rglob("*") if path.is_file()} == set(CONFFILES)
    assert [path for path in Path("/usr/local").rglob("*libvirt?vlan*") if path.is_file()] == []


def test_a_vm_is_in_its_vlan_beside_another_tools_hooks(vm):
    for hook in ("network", "qemu"):
        (HOOKS / hook).write_text(OTHERS)
        (HOOKS / hook).chmod(0o755)
    start_libvirtd()  # as told
    virsh("net-port-create", "br0", "/dev/stdin", stdin=PORT)  # a port whose tap never comes
    (waiting,) = working()
    assert confinement(waiting) == "unconfined"  # docs/install.md says so
    virsh("net-port-delete", "br0", UUID)
    assert start(vm) == {46: ACCESS}
    assert (len(runs("port-created")), len(runs("start"))) == (1, 1)

    assert {"network port-created", "qemu start"} <= set(CALLS.read_text().splitlines())
    checked = subprocess.run([TOOL, "check"], capture_output=True, text=True, check=False)
    assert [line for line in checked.stdout.splitlines() if "hooks" in line] == []
    assert checked.stderr == ""


def test_without_python_all_starts_but_what_names_a_portgroup(vm):
    PYTHON.rename(AWAY)
    try:
        virsh("net-destroy", "br0")
        virsh("net-start", "br0")
        vm("plain", nic(MAC2))
        assert vlans(tap_of("plain", MAC2)) == {1: ACCESS}
        vm("web", nic(MAC, "zerotier"), start=False)
        said = virsh_fails("start", "--paused", "web")
    finally:
        AWAY.rename(PYTHON)
    assert "/usr/bin/python3 is missing or broken, and the network hook needs Python: repair python3" in said

    virsh("start", "--paused", "web")
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}


def test_in_an_upgrade_each_call_runs_one_release(vm, tmp_path):
    dpkg("-i", release(1, tmp_path))
    newer = release(2, tmp_path)

    LOG.unlink(missing_ok=True)
    with ThreadPoolExecutor(2) as threads:
        LOADING.touch()
        loading = threads.submit(call)
        eventually(lambda: not LOADING.exists())
        unpacking = threads.submit(dpkg, "--unpack", newer)
        while not unpacking.done():
            call()
        unpacking.result()
        loading.result()
    call()
    assert len(runs("port-created")) > 3
    assert set(runs("port-created")) == {"1.0.1"}
    assert start(vm) == {46: ACCESS}  # dpkg has put the newer hook beside the older one: libvirt runs both
    assert (runs("port-created"), runs("start")) == (["1.0.1"], ["1.0.1"])
    said = dpkg("--configure", "libvirt-hooks")
    assert "systemctl restart" not in said
    assert "systemctl enable --now libvirt-vlan-watch" in said  # nothing enables it in an upgrade
    call()

    assert runs("port-created")[-1] == "1.0.2"
    assert not MIXTURES.exists()


def test_a_removed_package_stops_no_vm_and_the_log_says_that_it_is_gone(vm):
    assert start(vm) == {46: ACCESS}
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.touch()
    said = dpkg("-r", "libvirt-hooks")
    assert not METRICS.exists()
    assert "running VMs keep their VLANs. VMs that start from now on are in the default VLAN of their bridge." in said
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}
    assert not Path("/usr/share/libvirt-hooks").exists()

    virsh("destroy", "web")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("/dev/log")
        log.settimeout(5)
        virsh("start", "--paused", "web")
        lines = [log.recv(4096).decode() for _ in range(2)]
    Path("/dev/log").unlink()
    assert vlans(tap_of("web", MAC)) == {1: ACCESS}
    assert [line.partition("libvirt-hook-")[2].partition(",")[0] for line in lines] == [
        f"{hook}: nothing done: the package libvirt-hooks has been removed: apt purge libvirt-hooks removes this hook"
        for hook in ("network", "qemu")
    ]


def test_purged_it_leaves_the_backups_alone_and_says_so(vm):
    said = dpkg("-P", "libvirt-hooks")
    assert "libvirt-hooks: saved definitions stay in /var/backups/libvirt. They can hold passwords." in said

    contents = subprocess.check_output(["dpkg-deb", "-c", package()], text=True).splitlines()
    directories = {Path("/", line.split()[-1]).parent for line in contents}
    assert Path("/usr/sbin") in directories
    for directory in directories | {Path(name) for name in ("/run", "/var/lib/dpkg/info", "/var/log/libvirt")}:
        names = [path.name for path in directory.iterdir()] if directory.exists() else []
        assert [name for name in names if re.search(r"libvirt[-_](hooks|vlan)|hooks\.log", name)] == [], directory
    assert list(BACKUPS.glob("qemu/web.*/*.xml"))
    assert start(vm) == {1: ACCESS}
    for hook in ("network", "qemu"):
        (HOOKS / hook).unlink()
    shutil.rmtree(BACKUPS)
