# SPDX-License-Identifier: MIT
"""A trunk with a list of VLANs, from the network's <metadata> to the kernel's port and the frames on it."""

from conftest import detached, hook, logged, port_created
from iproute import ACCESS, eventually, vlans

METADATA = """<metadata>
      <hooks:portgroups xmlns:hooks='urn:libvirt-hooks:portgroups:1'>
        <portgroup name='zerotier'><vlan trunk='yes'>{}</vlan></portgroup>
      </hooks:portgroups>
    </metadata>
    <forward"""
# no portgroup of that name has a VID besides
RENAMED = ("<portgroup name='zerotier-46'>", "<portgroup name='other-46'>")


def in_trunk(tags):
    return port_created(metadata=("<forward", METADATA.format(tags)), renamed=RENAMED)


def test_a_port_has_exactly_the_listed_vlans(bridge):
    """Native tagged and untagged, ranges, no native at all; the default PVID is gone where it is not listed."""
    for tags, expected in (
        ("<tag id='10' nativeMode='untagged'/><tag id='20'/><tag id='30-40'/>",
         {10: ACCESS, 20: (), **dict.fromkeys(range(30, 41), ())}),
        ("<tag id='10' nativeMode='tagged'/><tag id='20'/>", {10: ("PVID",), 20: ()}),
        ("<tag id='10'/><tag id='20'/>", {10: (), 20: ()}),
    ):  # fmt: skip
        assert hook("port-created", in_trunk(tags)).returncode == 0
        bridge.add_tap()
        eventually(lambda expected=expected: vlans("vnet0") == expected)
        eventually(lambda: not detached())
        bridge.remove_tap()
        hook("port-deleted", in_trunk(tags))

    assert [line.partition(" + ")[2] for line in logged() if " + " in line][:4] == [
        "bridge vlan del dev vnet0 vid 1 master",
        "bridge vlan add dev vnet0 vid 20 master",
        "bridge vlan add dev vnet0 vid 30-40 master",
        "bridge vlan add dev vnet0 vid 10 pvid untagged master",
    ]


def test_a_list_that_is_not_clear_is_refused_and_a_port_without_portgroup_is_not(bridge):
    done = hook("port-created", in_trunk("<tag id='40-30'/>"))
    assert done.returncode == 1
    assert "VM web, NIC 52:54:00:00:00:01: network br0: <tag id='40-30'> in <portgroup name='zerotier'>" in done.stderr

    changed = port_created("no-portgroup", metadata=("<forward", METADATA.format("<tag id='40-30'/>")))
    assert hook("port-created", changed).returncode == 0
