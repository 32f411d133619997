# SPDX-License-Identifier: MIT
"""What happens to a running VM, as libvirt really does it: its port keeps the VLANs that libvirt granted."""

import subprocess

import pytest
from conftest import (
    LIBVIRT,
    MAC,
    MAC2,
    eventually_settled,
    leftovers,
    nic,
    nothing_left_behind,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    typed,
    version,
    virsh,
)
from iproute import ACCESS, ZEROTIER, always, eventually, vlans, wipe


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_restarting_libvirtd_repairs_what_somebody_wiped(tap, signal):
    wipe(tap)
    stop_libvirtd(signal)
    start_libvirtd()

    eventually(lambda: vlans(tap) == ZEROTIER)


def test_restarting_libvirtd_types_nothing_if_all_is_right(tap):
    before = typed()
    stop_libvirtd("TERM")
    start_libvirtd()
    eventually_settled()

    assert typed() == before
    assert vlans(tap) == ZEROTIER


def test_another_portgroup_does_not_move_a_running_vm_not_even_for_a_moment(tap):
    """libvirt 9 says success and changes nothing, libvirt 11 refuses."""
    before = typed()
    command = [*LIBVIRT, "update-device", "web", "/dev/stdin", "--live"]
    done = subprocess.run(command, input=nic(MAC, "server"), capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (version() < (10, 6))
    always(lambda: vlans(tap) == ZEROTIER, for_seconds=12)
    eventually_settled()

    assert typed() == before
    assert len(leftovers()) == 1


def test_a_link_set_down_stays_in_its_vlan(tap):
    """libvirt 9 takes the tap off the bridge and puts it back, and says port-deleted only."""
    virsh("domif-setlink", "web", tap, "down")
    eventually(lambda: vlans(tap) == ZEROTIER, within_seconds=10)
    always(lambda: vlans(tap) == ZEROTIER, for_seconds=2)

    virsh("domif-setlink", "web", tap, "up")
    always(lambda: vlans(tap) == ZEROTIER, for_seconds=2)


def test_a_link_set_down_and_the_device_updated_stays_in_its_vlan(tap):
    """libvirt 9 re-attaches the tap once more, after port-created has returned."""
    virsh("domif-setlink", "web", tap, "down")
    eventually(lambda: vlans(tap) == ZEROTIER, within_seconds=10)
    virsh("update-device", "web", "/dev/stdin", "--live", stdin=nic(MAC, "zerotier"))
    eventually(lambda: vlans(tap) == ZEROTIER, within_seconds=10)
    eventually_settled()

    assert vlans(tap) == ZEROTIER
    virsh("destroy", "web")
    nothing_left_behind()


def test_a_link_set_down_and_another_portgroup_is_in_that_soon_after(tap):
    """The NIC is a plain bridge's by then, so libvirt grants it any portgroup."""
    if version() >= (11,):
        pytest.xfail("libvirt 11 leaves the NIC its network, so it refuses")
    virsh("domif-setlink", "web", tap, "down")
    eventually(lambda: vlans(tap) == ZEROTIER, within_seconds=10)
    virsh("update-device", "web", "/dev/stdin", "--live", stdin=nic(MAC, "server"))

    eventually(lambda: vlans(tap) == {3: ACCESS})


def test_a_change_of_the_network_leaves_running_ports_alone(tap):
    virsh("net-update", "br0", "add", "portgroup", "<portgroup name='dmz-4'/>", "--live")
    virsh("net-update", "br0", "delete", "portgroup", "<portgroup name='zerotier-46'/>", "--live")

    always(lambda: vlans(tap) == ZEROTIER, for_seconds=2)


def test_stopping_the_network_leaves_running_ports_alone_and_a_restart_finds_them_again(tap):
    virsh("net-destroy", "br0")
    always(lambda: vlans(tap) == ZEROTIER, for_seconds=1)
    virsh("net-start", "br0")
    always(lambda: vlans(tap) == ZEROTIER, for_seconds=1)
    wipe(tap)
    stop_libvirtd("TERM")
    start_libvirtd()

    eventually(lambda: vlans(tap) == ZEROTIER)


def test_after_the_network_was_stopped_the_vm_can_be_started_again(tap):
    """libvirt forgets the port without a word, so its ticket is still there."""
    virsh("net-destroy", "br0")
    virsh("net-start", "br0")
    virsh("destroy", "web")
    virsh("start", "--paused", "web")
    eventually_settled()

    assert vlans(tap_of("web", MAC)) == ZEROTIER
    virsh("destroy", "web")
    nothing_left_behind()


def test_a_stopped_vm_leaves_nothing_behind(tap):
    virsh("destroy", "web")

    nothing_left_behind()


def test_a_detached_nic_leaves_nothing_behind(tap):
    """Hot-plugged: a guest without an operating system never lets go of a NIC that it was started with."""
    virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "server"))
    plugged = tap_of("web", MAC2)
    eventually(lambda: vlans(plugged) == {3: ACCESS})
    virsh("detach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "server"))
    if version() < (8,):
        always(lambda: MAC2 in virsh("dumpxml", "web"), for_seconds=5)
        pytest.xfail("Debian 11's QEMU 5.2 lets go of no NIC at all without an operating system")

    eventually(lambda: len(leftovers()) == 1)
    assert vlans(tap) == ZEROTIER
