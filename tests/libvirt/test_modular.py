# SPDX-License-Identifier: MIT
"""virtnetworkd and virtqemud, each restarted, away or idle alone: VLANs stay, and what libvirt keeps stops nobody.

virtnetworkd calls the network hook, virtqemud the qemu hook. Each start of virtnetworkd announces all ports that it has
a record of, also those of VMs that have ended while it was away.
"""

import subprocess
from pathlib import Path

import pytest
from conftest import (
    BRIDGE,
    DAEMONS,
    LOG,
    MAC,
    MAC2,
    NETWORK_DAEMON,
    QEMU_DAEMON,
    REPOSITORY,
    eventually_settled,
    nic,
    nothing_left_behind,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    typed,
    virsh,
    virsh_fails,
    working,
)
from iproute import DEFAULT, SERVER, ZEROTIER, always, eventually, vlans, wipe
from libvirt_vlan import check, tool, verdicts
from processes import command_lines

FIRST_ON_PATH = Path("/usr/local/sbin/bridge")
PORTS = Path("/run/libvirt/network", BRIDGE, "ports")


@pytest.fixture(scope="module", autouse=True)
def _daemons_that_have_seen_the_hooks(libvirtd):
    start_libvirtd()


def test_a_start_of_virtnetworkd_repairs_what_somebody_wiped_and_a_start_of_virtqemud_changes_nothing(tap):
    before = typed()
    start_libvirtd(QEMU_DAEMON)
    eventually_settled()
    assert (vlans(tap), typed()) == (ZEROTIER, before)

    wipe(tap)
    start_libvirtd(NETWORK_DAEMON)
    eventually(lambda: vlans(tap) == ZEROTIER)


def test_show_check_and_sync_see_what_somebody_wiped_and_repair_it(tap):
    wipe(tap)
    has = f"web {MAC} {tap} zerotier: has 1 pvid untagged instead of 46 pvid untagged on br0: libvirt-vlan sync web"
    assert (check(), verdicts()) == ([has], {"zerotier": "wrong"})
    assert tool("sync")[0] == 0
    assert (vlans(tap), check(), verdicts()) == (ZEROTIER, [], {"zerotier": "right"})


def test_a_restart_of_virtqemud_while_virtnetworkd_is_away_changes_no_vlan(tap):
    before = typed()
    stop_libvirtd("TERM", NETWORK_DAEMON)
    start_libvirtd(QEMU_DAEMON)
    always(lambda: vlans(tap) == ZEROTIER, for_seconds=2)
    start_libvirtd(NETWORK_DAEMON)
    eventually_settled()

    assert (vlans(tap), typed()) == (ZEROTIER, before)
    assert virsh("domstate", "web") == "paused"
    assert check() == []


def test_the_tool_names_the_daemon_that_is_away(network, vm):
    vm("web", nic(MAC, "zerotier"), start=False)
    for daemon, verbs in ((NETWORK_DAEMON, (["plan", "web"],)), (QEMU_DAEMON, (["plan", "web"], ["check"], ["show"]))):
        stop_libvirtd("TERM", daemon)
        try:
            for verb in verbs:
                status, out, (line,) = tool(*verb)
                assert (status, out) == (2, [])
                assert line.endswith(f": systemctl status {daemon} says whether it runs")
        finally:
            start_libvirtd(daemon)


def domain(name, *nics):
    """Return the XML of a VM as `vm` defines it."""
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='armv7l' machine='virt'>hvm</type></os>"
        f"<devices>{''.join(nics)}<memballoon model='none'/></devices></domain>"
    )


def ports():
    return {file.stem for file in PORTS.iterdir()}


@pytest.fixture
def kept(tap):
    """Have a port that libvirt has kept: its VM has ended while virtnetworkd was away. Give the port's uuid."""
    (uuid,) = ports()
    stop_libvirtd("TERM", NETWORK_DAEMON)
    virsh("destroy", "web")
    assert ports() == {uuid}
    return uuid


def announced():
    """Restart virtnetworkd, and return what the hooks have logged meanwhile."""
    size = LOG.stat().st_size
    start_libvirtd(NETWORK_DAEMON)
    return LOG.read_bytes()[size:].decode()


def announced_in_vain():
    """Restart virtnetworkd, see that the hooks have left the port alone that libvirt has kept, and started nothing."""
    said = announced()
    assert working() == []
    assert "its tap is gone: libvirt has kept the port of a guest that has ended" in said
    assert "wanted on" not in said


def test_a_port_that_libvirt_has_kept_stops_no_other_vm_and_moves_none(kept):
    """A VM defined anew, without a portgroup, and a transient one without a uuid of its own have its address."""
    announced_in_vain()
    virsh("undefine", "web")
    virsh("define", "/dev/stdin", stdin=domain("web", nic(MAC)))
    virsh("start", "--paused", "web")
    assert "the VM runs with another port: libvirt has kept this one of an earlier run" in announced()
    always(lambda: vlans(tap_of("web", MAC)) == DEFAULT, for_seconds=7)  # a live change is made after five
    virsh("destroy", "web")
    virsh("undefine", "web")

    virsh("create", "--paused", "/dev/stdin", stdin=domain("web", nic(MAC, "server")))
    assert vlans(tap_of("web", MAC)) == SERVER
    announced()
    eventually_settled()
    assert vlans(tap_of("web", MAC)) == SERVER
    virsh("destroy", "web")
    assert ports() == {kept}
    announced_in_vain()  # its ticket went when the transient VM started
    virsh("define", "/dev/stdin", stdin=domain("web"))  # for who tidies up
    virsh("start", "--paused", "web")
    forget(kept)


def forget(uuid):
    """Have libvirt forget a port, as the refusal says it."""
    subprocess.run(["virsh", "-c", "network:///system", "net-port-delete", BRIDGE, uuid], check=True)
    assert ports() == set()
    nothing_left_behind()


@pytest.fixture
def failed_start(vm):
    """Have virtnetworkd end in the middle of a VM's start, so that the start fails and leaves a port. Give its uuid."""
    vm("web", nic(MAC, "zerotier"), start=False)
    FIRST_ON_PATH.write_text("#!/bin/sh\nkill $(cat /run/virtnetworkd.pid)\nexit 1\n")
    FIRST_ON_PATH.chmod(0o755)
    try:
        virsh_fails("start", "--paused", "web")
    finally:
        FIRST_ON_PATH.unlink()
    start_libvirtd(NETWORK_DAEMON)
    (uuid,) = ports()
    return uuid


def test_a_port_whose_vm_may_be_about_to_start_is_named_with_the_command_that_removes_it(failed_start, vm):
    vm("db", nic(MAC, "server"), start=False)
    command = f"virsh -c network:///system net-port-delete {BRIDGE} {failed_start}"
    says = (
        f"VM web has that address on {BRIDGE} already: give one of the two another MAC address; if VM web does not "
        f"start, {command} removes what libvirt has kept of it"
    )
    assert says in virsh_fails("start", "--paused", "db")
    (line,) = [line for line in check() if line.startswith("db: ")]
    assert line.endswith(says)

    forget(failed_start)
    virsh("start", "--paused", "db")
    assert vlans(tap_of("db", MAC)) == SERVER


def running(daemon):
    return any(
        words[0].endswith(daemon.encode()) and b"on-demand" not in b"".join(words) for _, words in command_lines()
    )


@pytest.fixture
def on_demand():
    """Have both daemons started on demand, and end when they have been idle for some seconds."""
    stop_libvirtd("TERM")
    holders = [
        subprocess.Popen([REPOSITORY / "tests/lab/on-demand", daemon], stdin=subprocess.DEVNULL) for daemon in DAEMONS
    ]
    eventually(lambda: all(Path(f"/run/libvirt/{daemon}-admin-sock").exists() for daemon in DAEMONS))
    yield
    for holder in holders:
        holder.terminate()
        holder.wait()
    for daemon in DAEMONS:
        if running(daemon):
            stop_libvirtd("TERM", daemon)
    start_libvirtd()


def test_daemons_that_end_when_idle_and_are_started_on_demand(network, vm, on_demand):
    """virtnetworkd stays while a network is active, virtqemud while a VM runs. Nothing is wrong while they are away."""
    vm("web", nic(MAC, "zerotier"), start=False)
    virsh("net-destroy", BRIDGE)
    eventually(lambda: not any(map(running, DAEMONS)))
    assert check() == []
    virsh("net-start", BRIDGE)
    virsh("start", "--paused", "web")
    tap = tap_of("web", MAC)
    assert vlans(tap) == ZEROTIER
    always(lambda: all(map(running, DAEMONS)), for_seconds=6)

    stop_libvirtd("TERM", NETWORK_DAEMON)
    virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "server"))
    plugged = tap_of("web", MAC2)
    eventually(lambda: vlans(plugged) == SERVER)
    assert vlans(tap) == ZEROTIER
    assert check() == []
