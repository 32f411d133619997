# SPDX-License-Identifier: MIT
"""The NICs in a domain's XML as `virsh dumpxml` gives it, and the ports that they are, or would be, of a network.

Pure. What is wanted of a port is decided by portgroups alone; here it only gets the same Port that a hook is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from . import HookError
from .hookdata import Network, Port, checked_interface, checked_mac, checked_uuid, parse_network

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# forward modes whose bridge is libvirt's own. source: libvirt, docs/formatnetwork.rst, "Connectivity"
OWN_BRIDGE = ("nat", "route", "open", "none")


@dataclass(frozen=True)
class Interface:
    """A NIC of a VM."""

    vm: str
    vm_uuid: str
    mac: str
    tap: str  # "" while the VM does not run
    kind: str  # its type: bridge, network, direct, ...
    network: str  # "" if it is no port of a libvirt network
    group: str
    port_uuid: str
    bridge: str
    has_vlan: bool
    has_virtualport: bool


def parse_domain(xml: bytes) -> tuple[bool, list[Interface]]:
    """Given a domain's XML, return whether it runs, and its NICs. Raises HookError if it is no such XML."""
    root = _parse(xml)
    vm, vm_uuid = root.findtext("name") or "", checked_uuid(root.findtext("uuid") or "")
    return root.get("id") is not None, [_interface(vm, vm_uuid, nic) for nic in root.iterfind("devices/interface")]


def running_port(nic: Interface) -> Port:
    """Given a running VM's NIC, return the port that libvirt has told the hooks about."""
    plug = "hostdev-pci" if nic.kind == "hostdev" else nic.kind
    return _port(nic, plug, nic.bridge, nic.has_vlan, nic.has_virtualport)


def planned_port(nic: Interface, network_xml: bytes) -> Port:
    """Given a VM's NIC and its network's XML, return the port that libvirt would tell the hooks about at start.

    Source: libvirt, src/network/bridge_driver.c, networkAllocatePort(): NIC, then portgroup, then network.
    """
    root = _parse(network_xml)
    forward, bridge = root.find("forward"), root.find("bridge")
    mode = "none" if forward is None else forward.get("mode", "nat")
    name = "" if bridge is None else checked_interface(bridge.get("name", ""))
    with_bridge = "network" if mode in OWN_BRIDGE else "bridge"
    without_bridge = "hostdev-pci" if mode == "hostdev" else "direct"
    key, value = ("name", nic.group) if nic.group else ("default", "yes")
    places = [root, *(group for group in root.iterfind("portgroup") if group.get(key) == value)]
    return _port(
        nic,
        plug=with_bridge if name else without_bridge,
        bridge=name,
        has_vlan=nic.has_vlan or any(place.find("vlan") is not None for place in places),
        has_virtualport=nic.has_virtualport or any(place.find("virtualport") is not None for place in places),
    )


def network_of(port: Port, network_xml: bytes) -> Network:
    """Given a port and its network's XML, return the network as a hook would be given it."""
    network = parse_network(b"<hookData>" + network_xml + b"</hookData>")
    network.port = port
    return network


def _port(nic: Interface, plug: str, bridge: str, has_vlan: bool, has_virtualport: bool) -> Port:
    return Port(
        uuid=nic.port_uuid, vm=nic.vm, vm_uuid=nic.vm_uuid, mac=nic.mac, group=nic.group, plug=plug,
        bridge=bridge, has_vlan=has_vlan, has_virtualport=has_virtualport,
    )  # fmt: skip


def _interface(vm: str, vm_uuid: str, element: Element) -> Interface:
    source, tap = _attributes(element.find("source")), _attributes(element.find("target")).get("dev")
    port_uuid, bridge = source.get("portid"), source.get("bridge")
    return Interface(
        vm=vm,
        vm_uuid=vm_uuid,
        mac=checked_mac(_attributes(element.find("mac")).get("address", "")),
        tap=checked_interface(tap) if tap else "",
        kind=element.get("type", ""),
        network=source.get("network", ""),
        group=source.get("portgroup", ""),
        port_uuid=checked_uuid(port_uuid) if port_uuid else "",
        bridge=checked_interface(bridge) if bridge else "",
        has_vlan=element.find("vlan") is not None,
        has_virtualport=element.find("virtualport") is not None,
    )


def _attributes(element: Element | None) -> dict[str, str]:
    return {} if element is None else dict(element.attrib)


def _parse(xml: bytes) -> Element:
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise HookError(f"virsh answered what is no XML: {error}") from error
    return root
