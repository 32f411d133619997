# SPDX-License-Identifier: MIT
"""libvirt-vlan watch beside a real libvirtd: it never fights with what libvirt and its hooks do, and needs neither."""

import subprocess
from pathlib import Path

import pytest
from conftest import (
    LIBVIRT,
    LOG,
    MAC,
    MAC2,
    eventually_settled,
    nic,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    typed,
    virsh,
)
from iproute import ACCESS, SERVER, ZEROTIER, always, bridge, eventually, ip, vlans
from libvirt_vlan import TOOL


@pytest.fixture
def watch(tmp_path):
    """Give the file that has what the running watch prints, and a new log: taps' names come back as other VMs'."""
    LOG.unlink(missing_ok=True)
    output = tmp_path / "watch"
    with open(output, "wb") as file:
        process = subprocess.Popen([TOOL, "watch"], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    yield output
    process.terminate()
    assert process.wait(timeout=30) == 0


def added(tap):
    """Return how often a VLAN has been given to a tap."""
    return len([line for line in typed() if line.startswith(f"bridge vlan add dev {tap} ")])


def is_up(tap):
    return int(Path(f"/sys/class/net/{tap}/flags").read_text(), 16) & 1


def test_it_leaves_to_libvirt_what_is_libvirts(vm, watch):
    vm("web", nic(MAC, "zerotier"))
    tap = tap_of("web", MAC)
    assert vlans(tap) == ZEROTIER

    update = [*LIBVIRT, "update-device", "web", "/dev/stdin", "--live"]
    subprocess.run(update, input=nic(MAC, "server"), text=True, check=False)
    always(lambda: vlans(tap) == ZEROTIER, for_seconds=7)
    virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "server"))
    plugged = tap_of("web", MAC2)
    eventually(lambda: vlans(plugged) == SERVER)
    assert added(plugged) == 1
    virsh("domif-setlink", "web", tap, "down")
    eventually(lambda: vlans(tap) == ZEROTIER)
    virsh("domif-setlink", "web", tap, "up")
    eventually_settled()
    always(lambda: (vlans(tap), vlans(plugged)) == (ZEROTIER, SERVER), for_seconds=2)

    virsh("destroy", "web")
    virsh("update-device", "web", "/dev/stdin", "--config", stdin=nic(MAC, "server"))
    virsh("attach-device", "web", "/dev/stdin", "--config", stdin=nic(MAC2))
    virsh("start", "--paused", "web")
    tap, plain = tap_of("web", MAC), tap_of("web", MAC2)
    eventually_settled()
    always(lambda: (vlans(tap), vlans(plain)) == (SERVER, {1: ACCESS}), for_seconds=2)
    assert "taken" not in watch.read_text()


def test_it_goes_on_while_libvirtd_is_down(vm, watch):
    vm("web", nic(MAC, "zerotier"))
    tap = tap_of("web", MAC)
    eventually_settled()
    stop_libvirtd("TERM")
    try:
        bridge("vlan", "add", "dev", tap, "vid", "7")
        eventually(lambda: vlans(tap) == ZEROTIER)
        ip("link", "del", "br0")
        ip("link", "add", "br0", "up", "type", "bridge", "vlan_filtering", "1")
        eventually(lambda: vlans(tap) == ZEROTIER and is_up(tap))
    finally:
        start_libvirtd()
    eventually_settled()

    assert vlans(tap) == ZEROTIER
    assert "which was deleted and created again" in watch.read_text()
