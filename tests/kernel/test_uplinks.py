# SPDX-License-Identifier: MIT
"""Uplinks that a network names get the VLANs of its NICs, on a real bridge, and frames leave the host there.

guest0               listener
  |                     |
vnet0 ----- br0 ----- trunk0, an uplink as the network names it
"""

import subprocess

import pytest
from captured import domain
from conftest import (
    MAC,
    REPOSITORY,
    TAP_MAC,
    UUID,
    detached,
    hook,
    logged,
    make_bridge_program,
    port_created,
    refused,
)
from frames import send
from guest import listening_behind
from iproute import DEFAULT, ZEROTIER, eventually, ip, vlans
from iproute import bridge as bridge_command

QEMU_HOOK = REPOSITORY / "hooks/qemu"
LIST = "<portgroup name='lab'><vlan trunk='yes'><tag id='10' nativeMode='untagged'/><tag id='46'/></vlan></portgroup>"


def on_network(uplinks, inside="", group="zerotier", **changes):
    """Return what the network hook is given for a port of a network that names these uplinks."""
    elements = "".join(f"<uplink dev='{name}'/>" for name in uplinks)
    metadata = (
        f"<metadata><h:portgroups xmlns:h='urn:libvirt-hooks:portgroups:1'>{elements}{inside}</h:portgroups></metadata>"
    )
    named = ("<group>zerotier</group>", f"<group>{group}</group>")
    return port_created(metadata=("<forward", f"{metadata}<forward"), group=named, **changes)


def typed():
    return [line.partition(" + ")[2] for line in logged() if " + " in line]


def make_bond():
    subprocess.run(["modprobe", "bonding", "max_bonds=0"], check=True)
    ip("link", "add", "bond0", "up", "type", "bond")


@pytest.fixture
def uplink(bridge):
    """Give a function that makes an interface of that name, an uplink of br0."""

    def make(name):
        ip("link", "add", name, "up", "type", "dummy")
        ip("link", "set", name, "master", bridge.name)
        return name

    return make


def test_a_named_uplink_carries_what_the_guest_sends(bridge):
    with listening_behind("trunk0") as heard:
        ip("link", "set", "trunk0", "master", bridge.name)
        assert hook("port-created", on_network(["trunk0"])).returncode == 0
        guest = bridge.add_guest()
        eventually(lambda: vlans("vnet0") == ZEROTIER)

        send(guest, content=b"12345678")

        eventually(lambda: set(heard()) == {46})
    assert typed() == [
        "bridge vlan del dev vnet0 vid 1 master",
        "bridge vlan add dev trunk0 vid 46 master",
        "bridge vlan add dev vnet0 vid 46 pvid untagged master",
    ]


def test_what_an_uplink_has_stays_as_it_is_and_a_bond_is_one(bridge, uplink):
    make_bond()
    ip("link", "set", "bond0", "master", bridge.name)
    own = uplink("trunk0")
    bridge_command("vlan", "add", "dev", own, "vid", "46", "pvid", "untagged")
    before = vlans(own)

    assert hook("port-created", on_network(["bond0", own], LIST, "lab")).returncode == 0
    bridge.add_tap()
    eventually(lambda: 46 in vlans("vnet0"))
    eventually(lambda: not detached())

    assert vlans("bond0") == {**DEFAULT, 10: (), 46: ()}
    assert vlans(own) == {**before, 10: ()}


def test_every_vid_adds_nothing_and_each_network_has_its_own_uplinks(bridge, uplink):
    one, other = uplink("trunk0"), uplink("trunk1")
    assert hook("port-created", on_network([one], group="all")).returncode == 0
    bridge.add_tap()
    eventually(lambda: len(vlans("vnet0")) == 4094)
    second = on_network(
        [other], mac=("52:54:00:00:00:01", "52:54:00:00:00:02"), uuid="00000000-0000-0000-0000-000000000002"
    )
    assert hook("port-created", second).returncode == 0
    bridge.add_tap("vnet1", f"{TAP_MAC[:-1]}2")
    eventually(lambda: vlans("vnet1") == ZEROTIER)

    assert (vlans(one), vlans(other)) == (DEFAULT, {**DEFAULT, 46: ()})


def test_a_start_is_refused_if_an_uplink_can_carry_nothing(bridge, uplink):
    ip("link", "add", "away", "type", "dummy")
    ip("link", "add", "br1", "type", "bridge")
    ip("link", "add", "elsewhere", "type", "dummy")
    ip("link", "set", "elsewhere", "master", "br1")
    make_bond()
    ip("link", "add", "part", "type", "dummy")
    ip("link", "set", "part", "master", "bond0")
    bridge.add_tap("vnet7", "fe:54:00:00:07:07")
    names = "<uplink dev='{}'/> in the network's <metadata> names"
    for name, says in {
        "none": "no interface of this host: correct that with virsh net-edit, or create none",
        "vnet7": "a tap, which leads to a guest: correct that with virsh net-edit",
        "br0": "the bridge itself, not an interface that leads off this host: correct that with virsh net-edit",
        "away": "an interface that is not on br0: put it there in the host's network configuration",
        "elsewhere": "an interface that is on br1 instead of br0: correct that with virsh net-edit",
        "part": "a part of bond0: name bond0 there instead, with virsh net-edit",
    }.items():
        done = hook("port-created", on_network([uplink(f"ok{name[:4]}"), name]))

        assert refused(done).endswith(f"NIC 52:54:00:00:00:01: {names.format(name)} {says}")
    assert hook("port-created", on_network(["none"], group="all")).returncode == 0  # it needs none


def test_a_running_guest_gets_its_vlans_and_a_warning_if_its_uplink_is_gone(bridge, uplink, granted):
    own = uplink("trunk0")
    assert hook("port-created", on_network([own])).returncode == 0
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER)
    eventually(lambda: not detached())
    granted("00000000-0000-0000-0000-000000000001")
    ip("link", "set", own, "nomaster")
    bridge_command("vlan", "del", "dev", "vnet0", "vid", "46")

    assert hook("port-created", on_network([own])).returncode == 0  # as a restart of libvirtd does

    eventually(lambda: vlans("vnet0") == ZEROTIER)
    assert any("<uplink dev='trunk0'/>" in line and "that is not on br0" in line for line in logged())


def test_an_uplink_that_takes_no_more_vlans_stops_a_start_and_keeps_no_running_guest_out_of_its_own(
    bridge, uplink, tmp_path, granted
):
    own = uplink("trunk0")
    full = make_bridge_program(
        tmp_path,
        f'case "$typed" in *"add dev {own}"*)\n  echo "RTNETLINK answers: No space left on device" >&2\n'
        '  [ ! "$batch" ] || echo "Command failed -:1" >&2\n  exit 2\nesac',
    )
    xml = on_network([own])
    assert hook("port-created", xml, path=full).returncode == 0
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER)  # as in a hot plug: the guest runs already
    assert vlans(own) == DEFAULT
    eventually(lambda: any("trying again" in line and "No space left" in line for line in logged()))

    started = hook("start", domain([(MAC, UUID, "vnet0")]), path=full, executable=QEMU_HOOK, name="web")

    assert "No space left on device" in refused(started)
