# SPDX-License-Identifier: MIT
"""The port that libvirt makes, or would make, of a NIC. Pure.

decision.decide() decides for the tool as for the hooks. So the tool needs the same Port that a hook is given.
"""

from __future__ import annotations

from functools import cache
from xml.dom.minidom import Element

from ..elements import attribute, child, children, parse
from ..facts import kind_of_domain
from ..hookdata import Domain, Network, Nic, Port, checked_interface, parse_network, port_of

# forward modes whose bridge is libvirt's own. source: libvirt, docs/formatnetwork.rst, "Connectivity"
OWN_BRIDGE = ("nat", "route", "open", "none")


def planned_port(domain: Domain, nic: Nic, network_xml: bytes) -> Port:
    """Given a VM, one of its NICs and the NIC's network, return the port that libvirt would tell the hooks about.

    Source: libvirt, src/network/bridge_driver.c, networkAllocatePort(): NIC, then portgroup, then network.
    """
    root = _root(network_xml, nic.network)
    bridge = attribute(root, "bridge", "name")
    mode = "none" if child(root, "forward") is None else attribute(root, "forward", "mode") or "nat"
    with_bridge = "network" if mode in OWN_BRIDGE else "bridge"
    without_bridge = "hostdev-pci" if mode == "hostdev" else "direct"
    key, value = ("name", nic.group) if nic.group else ("default", "yes")
    places = [root, *(group for group in children(root, "portgroup") if group.getAttribute(key) == value)]
    port = port_of(domain, nic)
    port.kind = kind_of_domain(domain)
    port.plug = with_bridge if bridge else without_bridge
    port.bridge = checked_interface(bridge) if bridge else ""
    port.has_vlan = nic.has_vlan or any(child(place, "vlan") for place in places)
    port.has_virtualport = nic.has_virtualport or any(child(place, "virtualport") for place in places)
    return port


def network_of(port: Port, network_xml: bytes) -> Network:
    """Given a port and its network's XML, return the network as a hook would be given it."""
    return Network(**{**vars(_network(network_xml)), "port": port})


@cache
def _root(network_xml: bytes, name: str) -> Element:
    return parse(network_xml, f"the XML of network {name}")


@cache
def _network(network_xml: bytes) -> Network:
    return parse_network(b"<hookData>" + network_xml + b"</hookData>")
