# SPDX-License-Identifier: MIT
"""A tap in its VLANs: state read back from the kernel."""

import os
import subprocess
import time

import pytest
from conftest import MAC, REPOSITORY, TAP_MAC, UUID, detached, hook, logged, port_created, tickets
from frames import send
from iproute import ACCESS, DEFAULT, SERVER, ZEROTIER, always, eventually, ip, vlans
from iproute import bridge as bridge_command

OTHER_UUID = UUID[:-1] + "2"
SERVER_GROUP = ("<group>zerotier</group>", "<group>server</group>")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zerotier", ZEROTIER),
        ("whole-name", ZEROTIER),
        ("all", {1: ACCESS, **dict.fromkeys(range(2, 4095), ())}),
        ("trunk", {1: ACCESS, **dict.fromkeys(range(2, 4095), ())}),
    ],
)
def test_a_port_has_exactly_the_vlans_of_its_portgroup(bridge, name, expected):
    assert hook("port-created", port_created(name)).returncode == 0
    bridge.add_tap()

    eventually(lambda: vlans("vnet0") == expected)
    eventually(lambda: not detached())


@pytest.mark.parametrize("name", ["no-portgroup", "plain-group", "direct"])
def test_a_port_that_is_not_ours_is_left_alone(bridge, name):
    done = hook("port-created", port_created(name))
    bridge.add_tap()

    assert (done.returncode, done.stderr, detached(), tickets()) == (0, "", [], [])
    assert vlans("vnet0") == DEFAULT
    assert "left alone: " in logged()[-1]


def test_all_without_a_default_pvid_is_every_vid_tagged(bridge):
    bridge.set("vlan_default_pvid", "0")
    hook("port-created", port_created("all"))
    bridge.add_tap()

    eventually(lambda: vlans("vnet0") == dict.fromkeys(range(1, 4095), ()))


def test_a_network_of_libvirts_own_bridge_works_too(bridge):
    ip("link", "set", "br0", "down")
    ip("link", "set", "br0", "name", "virbr9")
    bridge.name = "virbr9"
    hook("port-created", port_created("nat"))
    bridge.add_tap()

    eventually(lambda: vlans("vnet0") == ZEROTIER)


def test_the_hook_returns_before_the_port_exists(bridge):
    """libvirt makes the tap only once the hook has returned and nobody holds its stdout and stderr."""
    assert hook("port-created", port_created()).returncode == 0  # with pipes, as libvirt's: returns at their end

    (process,) = detached()
    assert os.getsid(process) == process
    for descriptor in (0, 1, 2):
        assert os.readlink(f"/proc/{process}/fd/{descriptor}") == "/dev/null"


def test_saying_it_again_types_nothing(bridge, granted):
    """A restart of libvirtd says port-created again for every port that there is."""
    hook("port-created", port_created())
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
    granted(UUID)
    typed = [line for line in logged() if "+ bridge" in line]
    hook("port-created", port_created())
    eventually(lambda: not detached())

    assert [line for line in logged() if "+ bridge" in line] == typed
    assert len(typed) == 2


def test_a_restart_of_libvirtd_repairs_what_somebody_wiped(bridge, granted):
    hook("port-created", port_created())
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
    granted(UUID)
    bridge_command("vlan", "del", "dev", "vnet0", "vid", "46")
    bridge_command("vlan", "add", "dev", "vnet0", "vid", "3", "pvid", "untagged")
    hook("port-created", port_created())

    eventually(lambda: vlans("vnet0") == ZEROTIER)


def test_a_port_that_libvirt_takes_back_is_not_waited_for(bridge):
    hook("port-created", port_created())
    hook("port-deleted", port_created())

    eventually(lambda: not detached())
    assert tickets() == []


def test_twenty_ports_at_once_all_get_there(bridge):
    macs = [f"54:00:00:00:{number:02x}" for number in range(20)]
    for number, mac in enumerate(macs):
        changed = port_created(uuid=f"{UUID[:-2]}{number:02}", mac=(MAC, f"52:{mac}"))
        assert hook("port-created", changed).returncode == 0
    for number, mac in enumerate(macs):
        bridge.add_tap(f"vnet{number}", f"fe:{mac}")

    for number in range(20):
        eventually(lambda port=f"vnet{number}": vlans(port) == ZEROTIER, within_seconds=60)


# Which port is it?


def test_a_learned_address_on_another_port_is_not_taken_for_the_port(bridge):
    """A guest sends one frame with the address of a tap that is yet to come, and the bridge learns it."""
    guest = bridge.add_guest("vnet5", "fe:54:00:00:00:05")
    send(guest, source=TAP_MAC)
    shown = subprocess.check_output(["bridge", "fdb", "show", "br", "br0", "dynamic"], text=True)
    assert f"{TAP_MAC} dev vnet5 vlan 1" in shown
    hook("port-created", port_created())

    always(lambda: vlans("vnet5") == DEFAULT, for_seconds=3)
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER)
    assert vlans("vnet5") == DEFAULT


def test_the_same_address_on_another_bridge_is_not_taken_for_the_port(bridge):
    ip("link", "add", "br1", "type", "bridge", "vlan_filtering", "1")
    bridge.add_tap("vnet5")
    ip("link", "set", "vnet5", "master", "br1")
    hook("port-created", port_created())

    always(lambda: vlans("vnet5") == DEFAULT, for_seconds=3)
    bridge.add_tap("vnet0")
    eventually(lambda: vlans("vnet0") == ZEROTIER)
    assert vlans("vnet5") == DEFAULT


@pytest.mark.parametrize("by", ["kernel", "operator"])
def test_a_bridge_with_the_taps_address_is_not_taken_for_the_port(bridge, by):
    if by == "operator":
        ip("link", "set", "br0", "address", TAP_MAC)
    hook("port-created", port_created())
    bridge.add_tap()

    eventually(lambda: vlans("vnet0") == ZEROTIER)
    assert subprocess.check_output(["cat", "/sys/class/net/br0/address"], text=True).strip() == TAP_MAC
    assert vlans("br0") == DEFAULT


def test_an_address_that_another_vms_port_has_is_refused(bridge):
    bridge.add_tap("vnet5")
    done = hook("port-created", port_created())

    assert done.returncode == 1
    assert (
        "vnet5 on br0, which is not this VM's, has that address already: give one of the two another MAC" in done.stderr
    )
    always(lambda: vlans("vnet5") == DEFAULT, for_seconds=2)


def twin(number):
    """Return the port-created of a VM of its own, whose NIC has the captured MAC address, on a network of its own."""
    return port_created(
        uuid=f"{UUID[:-1]}{number}",
        network=("<name>br0</name>", f"<name>net{number}</name>"),
        vm=("<name>web</name>", f"<name>vm{number}</name>"),
        vm_uuid=("<uuid>14c6f67e-7f4a-4044-b0ed-336b9ee62273</uuid>", f"<uuid>{UUID[:-2]}{number}0</uuid>"),
    )


def test_a_twin_address_that_libvirt_has_not_noted_yet_is_refused(bridge):
    """Two networks on one bridge: libvirt calls the hook for the second before it has noted the first one's port."""
    assert hook("port-created", twin(1)).returncode == 0
    done = hook("port-created", twin(2))

    assert done.returncode == 1
    assert "VM vm1 has that address on br0 already: give one of the two another MAC address" in done.stderr
    assert tickets() == [f"{TAP_MAC}.{UUID[:-1]}1"]


def test_a_twin_address_whose_tap_has_been_there_and_is_gone_is_free_at_once(bridge):
    """Nobody has said port-deleted: the network hook was not executable for a while, say."""
    hook("port-created", twin(1))
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
    bridge.remove_tap()

    assert hook("port-created", twin(2)).returncode == 0
    assert tickets() == [f"{TAP_MAC}.{UUID[:-1]}2"]


def test_a_port_that_libvirt_has_kept_of_a_vm_that_is_gone_stops_no_other(bridge, granted):
    """The VM ended while its network's daemon was down, and has another uuid since it was defined again."""
    running(bridge, granted)
    bridge.remove_tap()

    assert hook("port-created", twin(2)).returncode == 0
    assert tickets() == [f"{TAP_MAC}.{UUID[:-1]}2"]


def test_a_port_that_libvirt_has_kept_is_announced_in_vain(bridge, granted):
    """Its ticket went when the VM was started again, and nobody waits for its tap."""
    granted(UUID, used=False)
    assert hook("port-created", port_created()).returncode == 0

    assert (tickets(), detached()) == ([], [])
    assert logged()[-1].endswith("left alone: its tap is gone: libvirt has kept the port of a guest that has ended")


def test_a_port_that_libvirt_has_kept_does_not_move_the_vm_that_runs_now(bridge, granted):
    """That VM has the same name and MAC address, and no portgroup."""
    bridge.add_tap()
    granted(UUID, used=False)
    assert hook("port-created", port_created()).returncode == 0

    assert (tickets(), detached()) == ([], [])
    assert "the VM runs with another port: libvirt has kept this one of an earlier run" in logged()[-1]
    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=7)  # a live change is made after five seconds


def test_of_twin_addresses_at_once_one_is_refused(bridge):
    for _ in range(5):
        calls = [
            subprocess.Popen(
                [REPOSITORY / "hooks/network", f"net{number}", "port-created", "begin", "-"],
                stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={"LC_ALL": "C"},
            )
            for number in (1, 2)
        ]  # fmt: skip
        for number, call in enumerate(calls, start=1):
            call.stdin.write(twin(number).encode())
        for call in calls:
            call.stdin.close()
        assert sorted(call.wait() for call in calls) == [0, 1]
        assert len(tickets()) == 1
        for number in (1, 2):
            hook("port-deleted", twin(number))
        eventually(lambda: not detached())


def test_two_ports_of_one_address_are_both_left_as_they_are(bridge):
    """The second comes while the first is waited for: which is which cannot be told."""
    hook("port-created", port_created())
    ip("link", "set", "br0", "type", "bridge", "vlan_default_pvid", "0")
    for name in ("vnet5", "vnet6"):
        ip("tuntap", "add", name, "mode", "tap")
        ip("link", "set", name, "address", TAP_MAC)
    subprocess.run(["ip", "-batch", "-"], input=b"link set vnet5 master br0\nlink set vnet6 master br0\n", check=True)

    eventually(lambda: any("on br0 have the same address: give one of the two NICs" in line for line in logged()))
    assert vlans("vnet6") == {}


def test_a_ticket_of_a_vm_that_is_gone_does_not_count_for_the_next_tap_of_that_address(bridge, granted):
    """virsh domif-setlink, then destroy: libvirt says no port-deleted. Another VM with that MAC has no portgroup."""
    running(bridge, granted)
    hook("port-deleted", port_created())
    granted()
    eventually(lambda: not detached())
    assert len(tickets()) == 1
    bridge.remove_tap()
    hook("port-created", port_created("no-portgroup", uuid=OTHER_UUID))
    assert tickets() == []
    bridge.add_tap()

    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=2)


def test_a_guest_whose_address_begins_with_fe_has_a_tap_that_begins_with_fa(bridge):
    hook("port-created", port_created(mac=(MAC, TAP_MAC)))
    bridge.add_tap(mac="fa:54:00:00:00:01")

    eventually(lambda: vlans("vnet0") == ZEROTIER)


# Live changes


def running(bridge, granted):
    hook("port-created", port_created())
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
    granted(UUID)


def test_a_change_that_libvirt_does_not_carry_out_does_not_move_the_vm(bridge, granted):
    """virsh update-device with another portgroup: a new port, and the same port taken back."""
    running(bridge, granted)
    changed = port_created(uuid=OTHER_UUID, group=SERVER_GROUP)
    assert hook("port-created", changed).returncode == 0
    always(lambda: vlans("vnet0") == ZEROTIER, for_seconds=2)
    hook("port-deleted", changed)

    always(lambda: vlans("vnet0") == ZEROTIER, for_seconds=12)
    eventually(lambda: not detached())
    assert len(tickets()) == 1


def test_a_change_that_libvirt_carries_out_moves_the_vm(bridge, granted):
    running(bridge, granted)
    hook("port-created", port_created(uuid=OTHER_UUID, group=SERVER_GROUP))
    granted(UUID, OTHER_UUID)
    hook("port-deleted", port_created())
    granted(OTHER_UUID)

    eventually(lambda: vlans("vnet0") == SERVER)
    eventually(lambda: not detached())
    assert len(tickets()) == 1


def test_a_port_that_libvirt_forgot_gives_way(bridge, granted):
    """virsh net-destroy with a running VM: no port-deleted comes, libvirt's own record of the port is gone."""
    running(bridge, granted)
    hook("port-created", port_created(uuid=OTHER_UUID, group=SERVER_GROUP))
    granted(OTHER_UUID)

    eventually(lambda: vlans("vnet0") == SERVER)


def test_a_tap_without_a_port_keeps_its_vlans_through_a_reattachment(bridge, granted):
    """virsh domif-setlink on libvirt 9: port-deleted, and the tap has been off the bridge or soon will be."""
    running(bridge, granted)
    hook("port-deleted", port_created())
    granted()
    time.sleep(1)
    bridge.reattach()

    eventually(lambda: vlans("vnet0") == ZEROTIER, within_seconds=10)
    bridge.remove_tap()
    eventually(lambda: not detached())
    assert tickets() == []


def test_a_link_set_down_soon_after_a_restart_of_libvirtd_leaves_the_vlans_as_they_are(bridge, granted):
    running(bridge, granted)
    hook("port-created", port_created())
    hook("port-deleted", port_created())
    granted()
    bridge.reattach()

    eventually(lambda: vlans("vnet0") == ZEROTIER, within_seconds=10)


def test_a_change_to_no_portgroup_ends_our_care_for_the_port(bridge, granted):
    running(bridge, granted)
    same_vm = ("0bd22868-5ec3-4be4-a422-194870a0e042", "14c6f67e-7f4a-4044-b0ed-336b9ee62273")  # captured one by one
    hook("port-created", port_created("no-portgroup", uuid=OTHER_UUID, vm_uuid=same_vm))
    granted(OTHER_UUID)
    hook("port-deleted", port_created())
    bridge.reattach()

    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=3)


# Other operations and users


@pytest.mark.parametrize("operation", ["start", "stopped", "plugged", "unplugged", "", "no-such-operation"])
def test_every_other_operation_does_nothing(bridge, operation):
    done = hook(operation, "this is never read")

    assert (done.returncode, done.stderr, detached(), logged()) == (0, "", [], [])


def test_a_session_daemon_is_not_in_our_way(bridge, hooks_for_everybody):
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = subprocess.run(
        [*user, hooks_for_everybody / "network", "br0", "port-created", "begin", "-"],
        input=port_created().encode(), capture_output=True, env={"LC_ALL": "C"}, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr, detached()) == (0, b"", b"", [])
