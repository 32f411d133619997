# SPDX-License-Identifier: MIT
"""From libvirt's XML to ports: of NICs that run, and of those that are to start."""

import pytest
from decisions import decided
from states import MAC, UUID

from libvirt_hooks import HookError
from libvirt_hooks.hookdata import Nic, Port, parse_domain, port_of
from libvirt_hooks.tool.networks import network_of, planned_port


def domain(interfaces, attributes=" id='3'"):
    return f"<domain{attributes}><name>web</name><uuid>{UUID}</uuid><devices>{interfaces}</devices></domain>".encode()


def interface(source, kind="network", more=""):
    return f"<interface type='{kind}'><mac address='{MAC}'/><source {source}/>{more}</interface>"


PORT_ID = "portid='caa15290-e4fa-4d2b-a36b-68e22861b043'"


@pytest.mark.parametrize(
    ("xml", "plug", "bridge", "group"),
    [
        (interface(f"network='n' portgroup='g' {PORT_ID} bridge='br0'", "bridge"), "bridge", "br0", "g"),
        (interface(f"network='n' {PORT_ID} bridge='virbr0'"), "network", "virbr0", ""),
        (interface(f"network='n' portgroup='g' {PORT_ID} dev='eth0' mode='bridge'", "direct"), "direct", "", "g"),
        (interface(f"network='n' {PORT_ID}", "hostdev"), "hostdev-pci", "", ""),
        (interface("bridge='br0'", "bridge"), "bridge", "br0", ""),
    ],
)
def test_a_running_nic_is_the_port_that_the_hook_was_told_about(xml, plug, bridge, group):
    vm = parse_domain(domain(xml))
    port = port_of(vm, vm.nics[0])

    assert vm.runs
    assert (port.plug, port.bridge, port.group, port.mac, port.vm) == (plug, bridge, group, MAC, "web")


def test_a_nic_is_read_whole():
    more = f"<target dev='vnet3'/><virtualport/>{VLAN}"
    source = f"network='lan' portgroup='zerotier' {PORT_ID} bridge='br0'"
    vm = parse_domain(domain(interface(source, "bridge", more)))
    (found,) = vm.nics

    port = {"uuid": "caa15290-e4fa-4d2b-a36b-68e22861b043", "vm": "web", "vm_uuid": UUID, "mac": MAC}
    assert (found.tap, found.network) == ("vnet3", "lan")
    assert port_of(vm, found) == Port(
        **port,
        kind=None,
        group="zerotier",
        plug="bridge",
        bridge="br0",
        has_vlan=True,
        has_virtualport=True,
        isolated=False,
        fdb_managed=False,
    )


def test_a_nic_of_which_libvirt_says_little_has_little():
    vm = parse_domain(f"<domain><uuid>{UUID}</uuid><devices><interface><mac address='{MAC.upper()}'/>"
                      "</interface></devices></domain>".encode())  # fmt: skip
    nothing = dict.fromkeys(("kind", "network", "group", "bridge", "tap", "port_uuid", "guest_end"), "")

    assert (vm.name, vm.uuid, vm.runs) == ("", UUID, False)
    assert vm.nics == [
        Nic(mac=MAC, **nothing, has_vlan=False, has_virtualport=False, isolated=False, fdb_managed=False)
    ]


@pytest.mark.parametrize(
    ("nic_xml", "says"),
    [
        ("", "'' is not a MAC address"),
        ("<mac address='52:54:00'/>", "'52:54:00' is not a MAC address"),
        (f"<mac address='{MAC}'/><source {PORT_ID}/><target dev='../x'/>", "'../x' cannot be the name of an interface"),
        (f"<mac address='{MAC}'/><source portid='../x'/>", "'../x' is not a UUID"),
    ],
)
def test_a_nic_with_a_value_that_cannot_be_one_of_its_kind_is_refused(nic_xml, says):
    with pytest.raises(HookError, match=says):
        parse_domain(domain(f"<interface>{nic_xml}</interface>"))


def test_a_nic_that_is_no_port_of_a_network_is_read_without_names_that_no_interface_can_have():
    """It is not ours, so it must stop neither its VM nor the tool."""
    (found,) = parse_domain(domain(interface("bridge='a b'", "bridge", "<target dev='../x'/>"))).nics

    assert (found.bridge, found.tap, found.mac) == ("", "", MAC)


BRIDGED = "<forward mode='bridge'/><bridge name='br0'/>"
VLAN = "<vlan><tag id='5'/></vlan>"
NO_LINUX_BRIDGE = "its plug is {}, no Linux bridge"


@pytest.mark.parametrize(
    ("group", "network", "more", "reason"),
    [
        ("a", BRIDGED, "", ""),
        ("a", "<forward mode='nat'/><bridge name='virbr0'/>", "", ""),
        ("a", "<bridge name='virbr0'/>", "", ""),  # isolated: no <forward>
        ("a", "<forward/><bridge name='virbr0'/>", "", ""),  # nat is the default mode
        ("a", "<forward mode='bridge'><interface dev='eth0'/></forward>", "", NO_LINUX_BRIDGE.format("direct")),
        ("a", "<forward mode='passthrough'/>", "", NO_LINUX_BRIDGE.format("direct")),
        ("a", "<forward mode='hostdev'/>", "", NO_LINUX_BRIDGE.format("hostdev-pci")),
        ("", BRIDGED, "", "it has no portgroup"),
        ("a", BRIDGED, VLAN, "it has a <vlan>"),  # the NIC's own
        ("a", BRIDGED + VLAN, "", "it has a <vlan>"),  # its network's
        ("a", BRIDGED + f"<portgroup name='a'>{VLAN}</portgroup>", "", "it has a <vlan>"),  # its portgroup's
        ("a", BRIDGED + f"<portgroup name='b'>{VLAN}</portgroup>", "", ""),  # another's
        ("", BRIDGED + f"<portgroup name='b' default='yes'>{VLAN}</portgroup>", "", "it has a <vlan>"),
        ("a", BRIDGED + f"<portgroup name='b' default='yes'>{VLAN}</portgroup>", "", ""),  # it names one
        ("a", BRIDGED + "<virtualport type='openvswitch'/>", "", "it has a <virtualport>"),
    ],
)
def test_a_planned_nic_is_the_port_that_the_hook_will_be_told_about(group, network, more, reason):
    xml = f"<network><name>n</name>{network}</network>".encode()
    vm = parse_domain(domain(interface(f"network='n' portgroup='{group}'", more=more), ""))
    port = planned_port(vm, vm.nics[0], xml)

    assert not vm.runs
    assert network_of(port, xml).port is port
    left_alone = decided(port, network_of(port, xml)).left_alone
    assert left_alone.startswith(reason)
    assert bool(reason) == bool(left_alone)


# source: libvirt, src/network/bridge_driver.c, networkAllocatePort()
@pytest.mark.parametrize(
    ("network", "plug"),
    [
        (BRIDGED, "bridge"),
        ("<bridge name='virbr0'/>", "network"),
        ("<forward/><bridge name='virbr0'/>", "network"),
        ("<forward mode='open'/><bridge name='virbr0'/>", "network"),
        ("<forward mode='private'/>", "direct"),
        ("<forward mode='hostdev'/>", "hostdev-pci"),
    ],
)
def test_a_network_of_each_kind_has_plugs_of_its_kind(network, plug):
    vm = parse_domain(domain(interface("network='n'"), ""))

    assert planned_port(vm, vm.nics[0], f"<network><name>n</name>{network}</network>".encode()).plug == plug


def test_a_network_whose_bridge_has_a_name_that_none_can_have_is_refused():
    vm = parse_domain(domain(interface("network='n'"), ""))

    with pytest.raises(HookError, match="'a b' cannot be the name of an interface"):
        planned_port(vm, vm.nics[0], b"<network><name>n</name><bridge name='a b'/></network>")


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (b"", "the XML of VM web cannot be read"),
        (b"error: failed", "the XML of VM web cannot be read \\(syntax error"),
        (b"<domain/>", "'' is not a UUID"),
        (b"<!DOCTYPE x>" + domain(""), "cannot be read \\(DTDForbidden"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><domain>&a;</domain>", "cannot be read"),
    ],
)
def test_what_virsh_should_not_say_is_refused(xml, says):
    with pytest.raises(HookError, match=says):
        parse_domain(xml, "the XML of VM web")
