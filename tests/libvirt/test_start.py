# SPDX-License-Identifier: MIT
"""virsh start: the VM's ports are in their VLANs when it returns, or it says why they cannot be."""

from conftest import (
    MAC,
    MAC2,
    define_network,
    leftovers,
    nic,
    nothing_left_behind,
    tap_of,
    undefine_network,
    virsh,
    virsh_fails,
)
from iproute import ACCESS, DEFAULT, EVERY, eventually, ip, vlans

KINDS = {
    "zerotier": {46: ACCESS},
    "zerotier-46": {46: ACCESS},
    "server": {3: ACCESS},
    "all": EVERY,
    "trunk": EVERY,
    "slow": DEFAULT,  # defined without a VID: left alone
    None: DEFAULT,  # no portgroup: left alone
}


def test_each_nic_is_in_exactly_its_vlans_when_virsh_start_returns(vm):
    macs = {group: f"52:54:00:00:01:{number:02x}" for number, group in enumerate(KINDS)}
    vm("web", *(nic(mac, group) for group, mac in macs.items()))

    assert {group: vlans(tap_of("web", mac)) for group, mac in macs.items()} == KINDS
    virsh("destroy", "web")
    nothing_left_behind()


def test_a_nic_plugged_in_later_is_in_its_vlan_soon_after(vm):
    vm("web", nic(MAC, "server"))
    virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "zerotier"))

    tap = tap_of("web", MAC2)
    eventually(lambda: vlans(tap) == {46: ACCESS})
    assert vlans(tap_of("web", MAC)) == {3: ACCESS}


def test_a_saved_vm_is_in_its_vlan_when_it_is_restored(vm):
    vm("web", nic(MAC, "zerotier"))
    virsh("managedsave", "web")
    assert leftovers() == []
    virsh("start", "--paused", "web")

    assert vlans(tap_of("web", MAC)) == {46: ACCESS}


def test_a_portgroup_that_cannot_work_stops_the_start(libvirtd, vm, network):
    undefine_network()
    define_network(["dmz-4", "zerotier-46", "zerotier-47", "wide-4095", "odd-x"])
    for group, says in (
        (
            "lan",
            "network br0 defines no portgroup 'lan' or 'lan-VID' (it has dmz-4, zerotier-46, zerotier-47, ",
        ),
        ("zerotier", "portgroup 'zerotier' could be any of zerotier-46, zerotier-47 in network br0: "),
        ("wide", "'4095' is not a VID: a VID is a number from 1 to 4094"),
        ("odd", "'x' is not a VID: a VID is a number from 1 to 4094"),
    ):
        vm(group, nic(MAC, group), start=False)
        error = virsh_fails("start", group)
        assert f"VM {group}, NIC {MAC}: " in error
        assert says in error
        assert "Traceback" not in error
        assert leftovers() == []


def test_a_bridge_that_does_not_filter_vlans_stops_the_start(vm):
    vm("web", nic(MAC, "zerotier"), start=False)
    ip("link", "set", "br0", "type", "bridge", "vlan_filtering", "0")
    error = virsh_fails("start", "web")
    command = "ip link set dev br0 type bridge vlan_filtering 1"
    assert f"bridge br0 does not filter VLANs: turn that on with {command}" in error

    ip(*command.split()[1:])
    virsh("start", "--paused", "web")
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}


def test_a_bridge_that_does_not_exist_stops_the_start(vm):
    ip("link", "set", "br0", "down")
    ip("link", "set", "br0", "name", "br7")
    try:
        error = virsh_fails("start", vm("web", nic(MAC, "zerotier"), start=False))
    finally:
        ip("link", "set", "br7", "name", "br0")
        ip("link", "set", "br0", "up")

    assert "there is no bridge br0: create it" in error


def test_an_address_that_another_vm_has_on_the_bridge_stops_the_start(vm):
    vm("web", nic(MAC, "zerotier"))
    error = virsh_fails("start", vm("clone", nic(MAC, "server"), start=False))

    assert f"{tap_of('web', MAC)} on br0, which is not this VM's, has that address already" in error
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}


def test_two_nics_whose_taps_have_one_address_stop_the_start(vm):
    """libvirt replaces the first byte of the MAC address in the tap's."""
    vm("web", nic("52:54:00:00:00:01", "zerotier"), nic("50:54:00:00:00:01", "server"), start=False)

    assert "has the same last five bytes on the same bridge: give one of the two NICs" in virsh_fails("start", "web")
    nothing_left_behind()


def test_a_vm_without_portgroup_starts_whatever_is_wrong(vm):
    ip("link", "set", "br0", "type", "bridge", "vlan_filtering", "0")
    try:
        vm("web", nic(MAC))
    finally:
        ip("link", "set", "br0", "type", "bridge", "vlan_filtering", "1")

    assert vlans(tap_of("web", MAC)) == DEFAULT
