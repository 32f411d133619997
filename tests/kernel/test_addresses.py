# SPDX-License-Identifier: MIT
"""Which bridge ports have an address: the forwarding database is asked first, and must never hide one."""

import subprocess

import pytest
from iproute import BRIDGE, ip
from iproute import bridge as bridge_command

from libvirt_hooks import sysfs

ADDRESS = "fe:54:00:00:00:01"
SOURCES = 2000  # their addresses take eight pages of the forwarding database


@pytest.fixture(autouse=True)
def nothing_read_before(monkeypatch):
    monkeypatch.setattr(sysfs, "_addresses", {})


def found():
    return sorted(sysfs.taps_with(ADDRESS, "br0"))


def test_a_tap_is_found_behind_a_large_forwarding_database(bridge):
    bridge.add_tap("vnet0", ADDRESS)
    bridge.add_tap("vnet1", "fe:54:00:00:00:02")
    lines = [f"fdb add 02:00:00:00:{n >> 8:02x}:{n & 255:02x} dev vnet1 master static\n" for n in range(SOURCES)]
    subprocess.run([BRIDGE, "-batch", "-"], input="".join(lines), text=True, check=True)
    assert found() == ["vnet0"]
    ip("link", "del", "vnet0")
    assert found() == []


def test_a_tap_is_found_that_has_the_address_of_its_bridge(bridge):
    """The forwarding database then has the address as the bridge's, and is read without what is the bridge's."""
    ip("link", "set", "br0", "address", ADDRESS)
    bridge.add_tap("vnet1", "fe:54:00:00:00:02")
    bridge.add_tap("vnet0", ADDRESS)
    assert found() == ["vnet0"]


def test_two_taps_with_one_address_are_both_found(bridge):
    bridge.add_tap("vnet0", ADDRESS)
    bridge.add_tap("vnet1", ADDRESS)
    assert found() == ["vnet0", "vnet1"]
    ip("link", "del", "vnet0")
    assert found() == ["vnet1"]


def test_a_tap_is_found_by_the_address_that_it_has_now(bridge):
    bridge.add_tap("vnet0", "fe:54:00:00:00:02")
    ip("link", "set", "vnet0", "address", ADDRESS)
    assert found() == ["vnet0"]


def test_an_address_that_the_bridge_has_learned_is_nobodys(bridge):
    bridge.add_tap("vnet0", "fe:54:00:00:00:02")
    bridge_command("fdb", "add", ADDRESS, "dev", "vnet0", "master", "static", "vlan", "1")
    assert found() == []
