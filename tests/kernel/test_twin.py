# SPDX-License-Identifier: MIT
"""A VM that the hooks leave alone has the MAC address of another VM's NIC: it never gets the other VM's VLANs.

Its NIC names no portgroup, or is none of a libvirt network. Both taps have one address, by which the hooks find a tap.
"""

import re

import pytest
from captured import domain, networkport, state_files
from conftest import MAC, REPOSITORY, TAP_MAC, UUID, detached, hook, logged, port_created, tickets
from iproute import DEFAULT, ZEROTIER, always, eventually, vlans
from iproute import bridge as bridge_command
from test_join import kill_detached

DB_UUID, DB_PORT = UUID[:-1] + "d", UUID[:-1] + "7"
WEB = domain([(MAC, UUID, "vnet0")])
WITHOUT_PORTGROUP = domain([(MAC, DB_PORT, "vnet5", "")], vm="db")
PLAIN = re.sub(r"<source [^>]*/>", "<source bridge='br0'/>", WITHOUT_PORTGROUP)


def start(vm, xml):
    return hook("start", xml, executable=REPOSITORY / "hooks/qemu", name=vm)


def web_runs(bridge):
    """Have web run on vnet0, in its VLAN."""
    hook("port-created", port_created())
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
    state_files([UUID], {"web": ["vnet0"]})


@pytest.mark.parametrize(("xml", "taken"), [(WITHOUT_PORTGROUP, True), (PLAIN, False)])
def test_it_does_not_start_while_the_others_tap_is_waited_for(bridge, xml, taken):
    """The process that waits for the tap of web, which starts, has taken the tap of db for it, or may do so yet."""
    hook("port-created", port_created())
    if taken:
        bridge.add_tap("vnet5")
        eventually(lambda: vlans("vnet5") == ZEROTIER and not detached())
    else:
        kill_detached()
        bridge.add_tap("vnet5")
    done = start("db", xml)

    assert done.returncode == 1
    assert (
        f"VM db: NIC {MAC}, tap vnet5: VM web has that address on br0 already: give one of the two another MAC address"
    ) in done.stderr
    bridge.remove_tap("vnet5")  # as libvirt does then
    bridge.add_tap()
    assert (start("web", WEB).returncode, vlans("vnet0")) == (0, ZEROTIER)


def test_it_starts_beside_the_other_and_stays_as_it_is_whatever_becomes_of_that(bridge):
    web_runs(bridge)
    assert hook("port-created", networkport(DB_PORT, "", vm="db", vm_uuid=DB_UUID)).returncode == 0
    assert tickets() == [f"{TAP_MAC}.{UUID}"]
    bridge.add_tap("vnet5")
    before = logged()
    assert [start("db", xml).returncode for xml in (WITHOUT_PORTGROUP, PLAIN)] == [0, 0]
    assert logged() == before
    state_files([UUID], {"web": ["vnet0"], "db": ["vnet5"]})
    bridge.remove_tap()
    hook("port-deleted", port_created())
    state_files([], {"db": ["vnet5"]})

    always(lambda: vlans("vnet5") == DEFAULT, for_seconds=3)
    assert tickets() == []


def test_it_stays_as_it_is_when_the_others_start_fails(bridge):
    hook("port-created", port_created())
    kill_detached()
    eventually(lambda: not detached())
    bridge.add_tap("vnet5")
    hook("port-deleted", port_created())

    always(lambda: vlans("vnet5") == DEFAULT, for_seconds=3)
    assert tickets() == []


def test_a_restart_of_the_daemon_repairs_the_other_alone(bridge):
    web_runs(bridge)
    bridge.add_tap("vnet5")
    state_files([UUID], {"web": ["vnet0"], "db": ["vnet5"]})
    bridge_command("vlan", "add", "dev", "vnet0", "vid", "9", "master")
    hook("port-created", port_created())
    hook("port-created", networkport(DB_PORT, "", vm="db", vm_uuid=DB_UUID))

    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
    assert vlans("vnet5") == DEFAULT
