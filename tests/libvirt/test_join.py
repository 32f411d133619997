# SPDX-License-Identifier: MIT
"""No guest runs before its ports are right: virsh start takes its time, or fails and says why."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import (
    LIBVIRT,
    MAC,
    eventually_settled,
    leftovers,
    nic,
    nothing_left_behind,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    typed,
    undefine_network,
    virsh,
    virsh_fails,
    working,
)
from iproute import ZEROTIER, vlans

FIRST_ON_PATH = Path("/usr/local/sbin/bridge")
LIB = Path("/etc/libvirt/hooks/lib")


@pytest.fixture
def bridge_that():
    """Give bridge_that(lines): from then on the hooks' `bridge` does this first, then what it should."""

    def make(lines):
        FIRST_ON_PATH.write_text(f'#!/bin/sh\n{lines}\nexec /usr/sbin/bridge "$@"\n')
        FIRST_ON_PATH.chmod(0o755)
        assert shutil.which("bridge") == str(FIRST_ON_PATH)  # libvirtd has our PATH, and its hooks have libvirtd's

    yield make
    FIRST_ON_PATH.unlink(missing_ok=True)


def detached():
    """Return the processes that the network hook has left behind: leaders of their own session, unlike the hook."""
    found = []
    for process in working():
        try:
            if os.getsid(process) == process and b"hooks/network" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def qemu_of(vm):
    return int(Path(f"/run/libvirt/qemu/{vm}.pid").read_text())


@pytest.fixture
def network_with_libvirts_mac_table(libvirtd):
    """Give network mac, for whose ports libvirt tells the bridge the guest's address itself, when its CPU starts."""
    virsh("net-define", "/dev/stdin", stdin="<network><name>mac</name><forward mode='bridge'/>"
          "<bridge name='br0' macTableManager='libvirt'/><portgroup name='zerotier-46'/></network>")  # fmt: skip
    virsh("net-start", "mac")
    yield "mac"
    undefine_network("mac")


def test_a_slow_bridge_delays_the_guest_until_its_port_is_right(network_with_libvirts_mac_table, vm, bridge_that):
    """libvirt has the guest's address in the VLANs of the moment at which the guest begins to run."""
    vm("web", nic(MAC, "zerotier", network=network_with_libvirts_mac_table), start=False)
    bridge_that("sleep 12")
    before = typed()
    virsh("start", "web")
    port = tap_of("web", MAC)
    shown = subprocess.check_output(["/usr/sbin/bridge", "-j", "fdb", "show", "dev", port])
    assert virsh("domstate", "web") == "running"
    assert vlans(port) == ZEROTIER
    virsh("destroy", "web")  # its CPU finds no operating system, and keeps looking for one

    assert {entry.get("vlan") for entry in json.loads(shown) if entry["mac"] == MAC} - {None} == {46}
    FIRST_ON_PATH.unlink()
    eventually_settled()
    assert len([command for command in typed()[len(before) :] if f"dev {port} vid 46" in command]) == 1


def test_a_bridge_that_fails_stops_the_start_until_it_is_mended(vm, bridge_that):
    vm("web", nic(MAC, "zerotier"), start=False)
    bridge_that('exec setpriv --bounding-set -net_admin /usr/sbin/bridge "$@"')
    error = virsh_fails("start", "--paused", "web")
    port = error.partition(f"VM web: NIC {MAC}, tap ")[2].partition(":")[0]
    command = f"bridge vlan del dev {port} vid 1 master"
    assert f"VM web: NIC {MAC}, tap {port}: {command}: exit 1: RTNETLINK answers: Operation not permitted" in error
    assert "Traceback" not in error
    assert virsh("domstate", "web") == "shut off"
    nothing_left_behind()

    FIRST_ON_PATH.unlink()
    virsh("start", "--paused", "web")
    assert vlans(tap_of("web", MAC)) == ZEROTIER


def test_the_detached_process_killed_at_any_moment_of_a_start(vm):
    vm("web", nic(MAC, "zerotier"), start=False)
    for wait_seconds in (0, 0.1, 0.3):
        starting = subprocess.Popen([*LIBVIRT, "start", "--paused", "web"], stdin=subprocess.DEVNULL)
        while not (processes := detached()):
            assert starting.poll() is None, "it has come and gone unseen"
        time.sleep(wait_seconds)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):  # it can be done by now
                os.kill(process, signal.SIGKILL)

        assert starting.wait() == 0
        assert vlans(tap_of("web", MAC)) == ZEROTIER
        virsh("destroy", "web")
        nothing_left_behind()


@contextlib.contextmanager
def lib_away():
    LIB.rename(f"{LIB}.away")
    try:
        yield
    finally:
        Path(f"{LIB}.away").rename(LIB)


def test_a_restart_of_libvirtd_kills_no_vm_even_if_the_lib_is_away(vm):
    """An exit status other than 0 of `reconnect` would."""
    vm("web", nic(MAC, "zerotier"))
    eventually_settled()
    before = qemu_of("web")
    for lib in (lib_away, contextlib.nullcontext):
        stop_libvirtd("TERM")
        with lib():
            start_libvirtd()
            assert virsh("domstate", "web") == "paused"
    eventually_settled()

    assert qemu_of("web") == before
    assert vlans(tap_of("web", MAC)) == ZEROTIER
    assert len(leftovers()) == 1


def test_a_vm_without_network_starts_even_if_the_lib_is_away(vm):
    with lib_away():
        vm("lonely")

    assert virsh("domstate", "lonely") == "paused"
