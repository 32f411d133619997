# SPDX-License-Identifier: MIT
"""A NIC that names no portgroup, on a network with a default one: libvirt hands over no <group> then."""

import pytest
from captured import METADATA, domain
from conftest import MAC, REPOSITORY, UUID, detached, hook, logged, port_created, tickets
from iproute import DEFAULT, LAB, SERVER, ZEROTIER, always, eventually, vlans

ABOUT = f"web {MAC} - "


def announced_with_default(name, captured="no-portgroup", **replacements):
    """Return a port-created whose network has this default portgroup."""
    by_default = (f"<portgroup name='{name}'>", f"<portgroup name='{name}' default='yes'>")
    return port_created(captured, by_default=by_default, **replacements)


def settled():
    eventually(lambda: not detached())


def test_it_gets_the_vlans_of_the_default_portgroup(bridge):
    assert hook("port-created", announced_with_default("server-3")).returncode == 0
    bridge.add_tap()
    settled()

    assert vlans("vnet0") == SERVER
    assert f"{ABOUT}server-3(default): wanted on br0: 3 pvid untagged" in logged()
    done = hook("start", domain([(MAC, UUID, "vnet0")]), executable=REPOSITORY / "hooks/qemu", name="web")
    assert (done.returncode, vlans("vnet0")) == (0, SERVER)


def test_it_gets_the_list_of_a_default_portgroup_in_the_metadata(bridge):
    xml = announced_with_default("slow", metadata=("<forward", METADATA)).replace("'slow'", "'lab'")
    assert hook("port-created", xml).returncode == 0
    bridge.add_tap()
    settled()

    assert vlans("vnet0") == LAB


def test_a_default_portgroup_without_a_vid_leaves_it_alone(bridge):
    assert hook("port-created", announced_with_default("slow")).returncode == 0
    bridge.add_tap()

    assert logged()[-1] == f"{ABOUT}slow(default): left alone: portgroup slow names no VID"
    assert (vlans("vnet0"), tickets(), detached()) == (DEFAULT, [], [])


def test_a_default_portgroup_with_a_vid_that_is_none_is_refused_by_name(bridge):
    renamed = ("<portgroup name='server-3' default", "<portgroup name='server-0' default")
    done = hook("port-created", announced_with_default("server-3", renamed=renamed))

    assert done.returncode == 1
    assert "portgroup 'server-0' of network br0 does not end in a VID" in done.stderr


def test_a_nic_that_names_a_portgroup_does_not_get_the_default_one(bridge):
    assert hook("port-created", announced_with_default("server-3", captured="zerotier")).returncode == 0
    bridge.add_tap()
    settled()

    assert vlans("vnet0") == ZEROTIER


@pytest.mark.parametrize(("default", "status"), [(" default='yes'", 1), ("", 0)])
def test_xml_that_cannot_be_read_stops_it_only_if_there_is_a_default_portgroup(bridge, default, status):
    spoiled = ("<portgroup name='server-3'>", f"<portgroup name='o'neill'{default}>")

    assert hook("port-created", port_created("no-portgroup", spoiled=spoiled)).returncode == status


def test_a_vm_that_has_run_without_it_is_not_moved_by_a_restart_of_the_daemon(bridge, granted):
    """The hooks were upgraded meanwhile, or the portgroup was made the default one."""
    bridge.add_tap()
    granted(UUID)
    assert hook("port-created", announced_with_default("server-3")).returncode == 0

    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=2)
    assert (tickets(), detached()) == ([], [])
    waits = "left alone: it runs without the network's default portgroup: server-3 will apply when its VM next starts"
    assert logged()[-1] == f"web {MAC} vnet0 server-3(default): {waits}"
    bridge.remove_tap()
    hook("port-deleted", announced_with_default("server-3"))
    hook("port-created", announced_with_default("server-3", uuid=UUID[:-1] + "2"))
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == SERVER)


def test_a_restart_of_the_daemon_repairs_one_that_has_started_with_it(bridge, granted):
    hook("port-created", announced_with_default("server-3"))
    bridge.add_tap()
    settled()
    granted(UUID)
    bridge.reattach()
    hook("port-created", announced_with_default("server-3"))

    eventually(lambda: vlans("vnet0") == SERVER)
