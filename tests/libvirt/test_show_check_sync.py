# SPDX-License-Identifier: MIT
"""libvirt-vlan show, check and sync: one VM under a real libvirtd, spoiled in one way per test."""

import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from conftest import (
    BRIDGE,
    LIBVIRT,
    NETWORK_DAEMON,
    REPOSITORY,
    TICKETS,
    eventually_settled,
    nic,
    start_libvirtd,
    tap_of,
    undefine_network,
    virsh,
    virsh_fails,
)
from iproute import ACCESS, DEFAULT, LAB, add_uplink, bridge, eventually, ip, vlans
from jsonschema import validate
from libvirt_vlan import (
    GROUPS,
    MACS,
    NETWORK,
    NETWORK_HOOK,
    QEMU_HOOK,
    check,
    notes_aside,
    tool,
    verdicts,
)

CHECK_SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan-check.schema.json").read_text())
RIGHT = {
    "server": {3: ACCESS},
    "zerotier": {46: ACCESS},
    "lab": LAB,
    "all": {1: ACCESS, **dict.fromkeys(range(2, 4095), ())},
    None: DEFAULT,
}


@pytest.fixture(scope="module")
def web(libvirtd):
    """Give the taps, by portgroup, of one VM with a NIC in each kind of portgroup: starting a VM takes a while here."""
    start_libvirtd()  # other tests install the hooks anew, and check tells that libvirtd is older than the hooks
    virsh("net-define", "/dev/stdin", stdin=NETWORK)
    virsh("net-start", BRIDGE)
    nics = "".join(nic(mac, group) for group, mac in MACS.items())
    xml = (
        "<domain type='qemu'><name>web</name><memory unit='MiB'>16</memory>"
        "<os><type arch='armv7l' machine='virt'>hvm</type></os>"
        f"<devices>{nics}<memballoon model='none'/></devices></domain>"
    )
    virsh("define", "/dev/stdin", stdin=xml)
    virsh("start", "--paused", "web")
    yield {group: tap_of("web", mac) for group, mac in MACS.items()}
    subprocess.run([*LIBVIRT, "destroy", "web"], check=False, capture_output=True)
    virsh("undefine", "web")
    undefine_network()


@pytest.fixture
def taps(web):
    """Give the VM's taps, all of them right, whatever the test before has left."""
    eventually_settled()
    tool("sync")
    assert state(web) == RIGHT
    return web


def state(taps):
    return {group: vlans(tap) for group, tap in taps.items()}


def spoil(taps):
    """Wipe one tap, half-wipe another, leave a third in VLANs that it once had."""
    bridge("vlan", "del", "dev", taps["server"], "vid", "3")
    bridge("vlan", "del", "dev", taps["lab"], "vid", "30-35")
    bridge("vlan", "add", "dev", taps["zerotier"], "vid", "1", "pvid", "untagged")
    bridge("vlan", "add", "dev", taps["zerotier"], "vid", "99")


def test_taps_that_are_right_are_shown_so_and_are_no_problem(taps):
    _, out, _ = tool("show")
    mac, tap = MACS["zerotier"], taps["zerotier"]
    assert out[0].split() == ["VM", "MAC", "TAP", "BRIDGE", "NETWORK", "GROUP", "WANTED", "CURRENT", "VERDICT"]
    assert out[2].split() == ["web", mac, tap, "br0", "br0", "zerotier", "46PU", "46PU", "right"]
    assert len(out) == 1 + len(GROUPS)
    status, out, err = tool("check")
    assert (status, notes_aside(out), err) == (0, [], [])
    assert [
        line for line in out if line.startswith("note: br0: in VLAN 1, because no portgroup of theirs names a VID: web")
    ]
    assert tool("sync") == (0, [], [])


def test_spoiled_taps_are_found(taps):
    spoil(taps)
    assert verdicts() == {None: "left alone", "all": "right", **dict.fromkeys(("server", "zerotier", "lab"), "wrong")}
    assert check() == [
        f"web {MACS['server']} {taps['server']} server: has none instead of 3 pvid untagged on br0: "
        "libvirt-vlan sync web",
        f"web {MACS['zerotier']} {taps['zerotier']} zerotier: has 1 pvid untagged, 46 untagged, 99 instead of "
        "46 pvid untagged on br0: libvirt-vlan sync web",
        f"web {MACS['lab']} {taps['lab']} lab: has 10 pvid untagged, 20, 36-40 instead of "
        "10 pvid untagged, 20, 30-40 on br0: libvirt-vlan sync web",
    ]


def test_programs_are_told_the_same(taps, tmp_path):
    spoil(taps)
    lines = check()
    status, out, err = tool("check", "--json")
    shown = json.loads("\n".join(out))
    validate(shown, CHECK_SCHEMA)
    assert (status, err, [one["line"] for one in shown["problems"]]) == (1, [], lines)
    assert [one["code"] for one in shown["notes"]] == ["in-default-vlan", "no-uplink", "watch-not-enabled"]

    file = tmp_path / "libvirt-vlan.prom"
    assert tool("check", "--prometheus", "--output", file) == (1, [], [])
    said = file.read_text().splitlines()
    numbers = {"right": 1, "wrong": 3, "left alone": 1, "refused": 0, "not on bridge": 0}
    assert [line for line in said if line.startswith("libvirt_vlan_nics{")] == [
        f'libvirt_vlan_nics{{bridge="br0",verdict="{verdict}"}} {number}' for verdict, number in numbers.items()
    ]
    (looked,) = (int(line.split()[1]) for line in said if line.startswith("libvirt_vlan_last_look"))
    assert abs(time.time() - looked) < 120
    assert {line.split()[1] for line in said if line.startswith("libvirt_vlan_hook_installed{")} == {"1"}


def test_a_dry_run_changes_nothing_and_prints_what_repairs_all(taps):
    spoil(taps)
    spoiled = state(taps)
    status, typed, err = tool("sync", "--dry-run")
    assert (status, err, state(taps)) == (0, [], spoiled)
    assert typed[0] == f"bridge vlan add dev {taps['server']} vid 3 pvid untagged master"
    assert all(line.startswith("bridge vlan ") for line in typed)
    subprocess.run(["sh", "-eu"], input="\n".join(typed), text=True, check=True)
    assert state(taps) == RIGHT


def test_sync_types_what_the_dry_run_prints(taps):
    spoil(taps)
    _, typed, _ = tool("sync", "--dry-run")
    assert tool("sync", "web") == (0, typed, [])
    assert state(taps) == RIGHT
    assert tool("sync") == (0, [], [])


def test_sync_of_a_vm_that_does_not_run_changes_nothing(taps):
    spoil(taps)
    spoiled = state(taps)
    assert tool("sync", "web", "no such VM") == (
        2, [], ["libvirt-vlan: no running VM named no such VM has a NIC: libvirt-vlan show lists those that do"],
    )  # fmt: skip
    assert state(taps) == spoiled


def test_a_nic_that_libvirt_has_made_plain_is_found(taps):
    tap = taps["zerotier"]
    try:
        virsh("domif-setlink", "web", tap, "down")
        eventually(lambda: vlans(tap) == {46: ACCESS})
        (line,) = check()
        assert f"{tap} zerotier: libvirt has turned it into a plain bridge NIC, as live updates do (" in line
        assert verdicts()["zerotier"] == "right"
        for ticket in TICKETS.glob("*.released"):  # as if that had been before the hooks were there
            ticket.unlink()
        (line,) = check()
        assert f"{tap} -: libvirt has turned it into a plain bridge NIC" in line
    finally:
        virsh("update-device", "web", "/dev/stdin", "--live", stdin=nic(MACS["zerotier"], "zerotier"))
    eventually(lambda: vlans(tap) == {46: ACCESS})
    assert check() == []


@contextlib.contextmanager
def uplink(vids):
    """Have an uplink that carries these VLANs and the default one."""
    add_uplink("eth9", BRIDGE)
    bridge("vlan", "add", "dev", "eth9", "vid", vids)
    try:
        yield
    finally:
        ip("link", "del", "eth9")
        (TICKETS / "uplinks.br0").unlink(missing_ok=True)  # check would miss eth9 from then on


def test_vlans_that_no_uplink_carries_are_found(taps):
    command = "; ".join(f"bridge vlan add dev eth9 vid {vids} master" for vids in ("3", "10", "30-40", "46"))
    with uplink("20"):
        assert check() == [
            "br0: no uplink (eth9) carries VLAN 3, 10, 30-40, 46 of web: if it is to leave this host by eth9, "
            f"{command} (the hooks can do that: docs/uplinks.md)"
        ]
        subprocess.run(command, shell=True, check=True)
        assert check() == []


def test_an_uplink_that_carries_nothing_any_more_is_found(taps):
    with uplink("2-4094"):
        assert check() == []
        ip("link", "set", "eth9", "down")
        assert check() == ["br0: its uplink eth9 is down: ip link set dev eth9 up"]
        ip("link", "set", "eth9", "up", "nomaster")
        assert check() == [
            "br0: has lost its uplink eth9: its VMs reach nothing beyond this host: ip link set dev eth9 master br0"
        ]
        ip("link", "add", "other9", "type", "dummy")  # another bridge port that leads nowhere
        ip("link", "set", "other9", "master", "br0")
        assert [line.partition(":")[0] for line in check()] == ["br0"]
        ip("link", "del", "other9")
        ip("link", "set", "eth9", "master", "br0")
        bridge("vlan", "add", "dev", "eth9", "vid", "2-4094")
        assert check() == []


def test_a_vlan_that_does_not_forward_is_found(taps):
    tap = taps["zerotier"]
    bridge("vlan", "set", "dev", tap, "vid", "46", "state", "blocking")
    command = f"bridge vlan set dev {tap} vid 46 state forwarding"
    assert check() == [f"web {MACS['zerotier']} {tap} zerotier: no frame passes in VLAN 46 blocking: {command}"]
    subprocess.run(command.split(), check=True)
    assert check() == []


def test_a_start_that_was_refused_is_found_until_the_vm_starts(taps):
    """Nobody reads virsh's error when libvirt starts a VM by itself."""
    xml = (
        "<domain type='qemu'><name>db</name><memory unit='MiB'>16</memory>"
        "<os><type arch='armv7l' machine='virt'>hvm</type></os>"
        f"<devices>{nic('52:54:00:00:00:99', '{}')}<memballoon model='none'/></devices></domain>"
    )
    virsh("define", "/dev/stdin", stdin=xml.format("nonsense"))
    error = virsh_fails("start", "--paused", "db")
    (line,) = check()
    assert re.match(
        r"db: its last start was refused at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: VM db, NIC 52:54:00:00:00:99: ", line
    )
    assert line.partition("NIC ")[2] in error
    virsh(
        "define",
        "/dev/stdin",
        stdin=xml.format("zerotier").replace("<name>", f"<uuid>{virsh('domuuid', 'db')}</uuid><name>"),
    )
    virsh("start", "--paused", "db")
    virsh("destroy", "db")
    assert check() == []
    virsh("undefine", "db")


def test_a_bridge_that_does_not_filter_vlans_is_found_once(taps):
    """Once for the bridge, not again for each NIC on it, also not for one that libvirt has just announced anew."""
    virsh("domif-setlink", "web", taps["zerotier"], "down")
    virsh("update-device", "web", "/dev/stdin", "--live", stdin=nic(MACS["zerotier"], "zerotier"))
    ip("link", "set", BRIDGE, "type", "bridge", "vlan_filtering", "0")
    try:
        found = check()
    finally:
        ip("link", "set", BRIDGE, "type", "bridge", "vlan_filtering", "1")
    assert [line for line in found if "filter" in line] == [
        "bridge br0 does not filter VLANs: turn that on with ip link set dev br0 type bridge vlan_filtering 1"
    ]


def test_hooks_that_cannot_be_called_or_trusted_are_found(taps):
    NETWORK_HOOK.chmod(0o666)
    QEMU_HOOK.rename("/tmp/qemu")
    try:
        assert check() == [
            f"{NETWORK_HOOK} runs as root, and others can change it: chown root:root {NETWORK_HOOK} && "
            f"chmod go-w {NETWORK_HOOK}",
            f"{NETWORK_HOOK} is not executable, so libvirt ignores it: chmod 755 {NETWORK_HOOK}",
            f"{NETWORK_HOOK} was installed or changed after {NETWORK_DAEMON} started, so {NETWORK_DAEMON} may not have "
            f"noticed it: systemctl restart {NETWORK_DAEMON}",
            f"{QEMU_HOOK} does not exist, or belongs to another tool: install the hooks with make install, or with the "
            "Ansible role",
        ]
    finally:
        NETWORK_HOOK.chmod(0o755)
        os.rename("/tmp/qemu", QEMU_HOOK)
        start_libvirtd()


def test_a_tap_that_is_off_its_bridge_is_found_and_put_back(taps):
    tap = taps["server"]
    ip("link", "set", tap, "nomaster")
    assert check() == [f"web {MACS['server']} {tap} server: {tap} is not on br0: libvirt-vlan sync web puts it back"]
    link = f"ip link set dev {tap}"
    typed = [
        f"{link} down",
        f"{link} master br0",
        f"bridge vlan del dev {tap} vid 1 master",
        f"bridge vlan add dev {tap} vid 3 pvid untagged master",
        f"{link} up",
    ]
    assert tool("sync", "--dry-run") == (0, typed, [])
    assert tool("sync") == (0, typed, [])
    assert vlans(tap) == {3: ACCESS}


def test_a_tap_that_could_not_be_put_back_is_by_the_next_sync(taps, tmp_path):
    tap = taps["server"]
    ip("link", "set", tap, "nomaster")
    program = tmp_path / "bridge"
    program.write_text('#!/bin/sh\ncase "$*" in *-batch*) exit 1;; esac\nexec /usr/sbin/bridge "$@"\n')
    program.chmod(0o755)
    status, _, (line,) = tool("sync", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (status, line.partition(": ")[2].startswith(f"web {MACS['server']} {tap} server: ")) == (1, True)
    assert not Path(f"/sys/class/net/{tap}/master").exists()

    status, typed, _ = tool("sync")
    assert (status, typed[-1]) == (0, f"ip link set dev {tap} up")
    assert vlans(tap) == {3: ACCESS}
