# SPDX-License-Identifier: MIT
"""The XML that libvirt writes to a hook's stdin, as plain values.

Nothing here is trusted further than its syntax: what later becomes part of a path or a command is checked here.
"""

from __future__ import annotations

from types import SimpleNamespace
from xml.dom.minidom import Element
from xml.parsers.expat import ExpatError

from defusedxml import DefusedXmlException, expatbuilder

from . import HookError

HEX_DIGITS = frozenset("0123456789abcdef")
INTERFACE_NAME_MAX = 15  # source: linux/if.h, IFNAMSIZ less the final NUL


class Port(SimpleNamespace):
    """A port of a libvirt network: one NIC of one VM. Source: libvirt docs/hooks.rst, "port-created"."""

    uuid: str
    vm: str
    vm_uuid: str
    mac: str
    group: str  # "" where the domain names no portgroup
    plug: str  # bridge, network, direct, hostdev-pci; "" for none
    bridge: str  # "" where the plug is no bridge
    has_vlan: bool  # libvirt tags the port itself
    has_virtualport: bool  # Open vSwitch and the like


class Network(SimpleNamespace):
    """A libvirt network, and with port-created and port-deleted the port that the call is about."""

    name: str
    portgroups: list[str]
    metadata: Element | None
    port: Port | None


class Nic(SimpleNamespace):
    """A NIC of a domain that is a port of a libvirt network, once its tap exists."""

    mac: str
    port_uuid: str
    tap: str


class Definition(SimpleNamespace):
    """What a domain's or a network's XML is about."""

    name: str
    uuid: str


def parse_network(xml: bytes) -> Network:
    """Given the stdin of a network hook, return the network and its port, if it has one.

    Raises HookError if it is not well-formed, has a DTD or entities, or has a value that cannot be one of its kind.
    """
    root = _parse(xml)
    network = _child(root, "network")
    if network is None:
        raise HookError("the XML on stdin has no <network>: this hook is to be called by libvirt")
    port = _child(root, "networkport")
    return Network(
        name=_text(network, "name"),
        portgroups=[group.getAttribute("name") for group in _children(network, "portgroup")],
        metadata=_child(network, "metadata"),
        port=None if port is None else _port(port),
    )


def parse_nics(xml: bytes) -> list[Nic]:
    """Given the stdin of the qemu hook's `start`, return the domain's NICs that are ports of libvirt networks.

    Raises HookError as parse_network() does.
    """
    devices = _child(_parse(xml), "devices")
    nics = []
    for interface in _children(devices, "interface") if devices else ():
        mac, source, target = (_child(interface, name) for name in ("mac", "source", "target"))
        if mac and source and target and source.getAttribute("portid"):
            nics.append(
                Nic(
                    mac=checked_mac(mac.getAttribute("address")),
                    port_uuid=checked_uuid(source.getAttribute("portid")),
                    tap=checked_interface(target.getAttribute("dev")),
                )
            )
    return nics


def parse_definition(xml: bytes) -> Definition:
    """Given the XML of a domain or of a network, return whose it is; raise HookError as parse_network() does."""
    root = _parse(xml)
    return Definition(name=_text(root, "name"), uuid=checked_uuid(_text(root, "uuid")))


def changed_elements(old: bytes, new: bytes) -> list[str]:
    """Given two XML documents, return the paths of the elements, two levels deep, that are not the same in both.

    Names only: what is in the elements can be secret. Raises HookError as parse_network() does.
    """
    before, after = (_parts(_parse(xml)) for xml in (old, new))
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def tap_address(mac: str) -> str:
    """Given a guest's MAC address, return that of its tap: the same with the first byte FE, or FA if that is FE.

    Source: libvirt, src/util/virnetdevtap.c, virNetDevTapCreateInBridgePort().
    """
    return ("fa" if mac.startswith("fe") else "fe") + mac[2:]


def checked_mac(text: str) -> str:
    """Given what should be a MAC address, return it in lower case; raise HookError if it is none."""
    mac = text.lower()
    parts = mac.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and HEX_DIGITS.issuperset(part) for part in parts):
        raise HookError(f"'{text}' is no MAC address: this hook is to be called by libvirt")
    return mac


def checked_uuid(text: str) -> str:
    """Given what should be a UUID, return it in lower case; raise HookError if it is none."""
    uuid = text.lower()
    lengths = [len(part) for part in uuid.split("-")]
    if lengths != [8, 4, 4, 4, 12] or not HEX_DIGITS.issuperset(uuid.replace("-", "")):
        raise HookError(f"'{text}' is no UUID: this hook is to be called by libvirt")
    return uuid


def checked_interface(name: str) -> str:
    """Given what should be the name of a network interface, return it; raise HookError if the kernel has no such names.

    Source: linux net/core/dev.c, dev_valid_name().
    """
    valid = 0 < len(name.encode()) <= INTERFACE_NAME_MAX and name not in (".", "..")
    if not valid or "/" in name or ":" in name or not name.isprintable() or any(c.isspace() for c in name):
        raise HookError(f"'{name}' cannot be the name of an interface: correct <bridge name=…/> with virsh net-edit")
    return name


def _port(element: Element) -> Port:
    owner, plug, mac = _child(element, "owner"), _child(element, "plug"), _child(element, "mac")
    bridge = "" if plug is None else plug.getAttribute("bridge")
    return Port(
        uuid=checked_uuid(_text(element, "uuid")),
        vm="" if owner is None else _text(owner, "name"),
        vm_uuid="" if owner is None else checked_uuid(_text(owner, "uuid")),
        mac=checked_mac("" if mac is None else mac.getAttribute("address")),
        group=_text(element, "group"),
        plug="" if plug is None else plug.getAttribute("type"),
        bridge=checked_interface(bridge) if bridge else "",
        has_vlan=_child(element, "vlan") is not None,
        has_virtualport=_child(element, "virtualport") is not None,
    )


def _parse(xml: bytes) -> Element:
    try:
        root = expatbuilder.parseString(xml, forbid_dtd=True).documentElement
    # LookupError and ValueError: an encoding that is unknown, or that the bytes are not in
    except (ExpatError, DefusedXmlException, LookupError, ValueError) as error:
        raise HookError(f"the XML on stdin cannot be read ({error}): this hook is to be called by libvirt") from error
    assert isinstance(root, Element)
    return root


def _parts(root: Element) -> dict[str, list[str]]:
    """Given a document's root, return by path the texts of its grandchildren, and of its children that have none."""
    parts: dict[str, list[str]] = {}
    for child in (node for node in root.childNodes if isinstance(node, Element)):
        grandchildren = [node for node in child.childNodes if isinstance(node, Element)]
        for part, path in [(part, f"{child.tagName}/{part.tagName}") for part in grandchildren] or [
            (child, child.tagName)
        ]:
            parts.setdefault(path, []).append(part.toxml())
    return parts


def _children(element: Element, name: str) -> list[Element]:
    return [node for node in element.childNodes if isinstance(node, Element) and node.tagName == name]


def _child(element: Element, name: str) -> Element | None:
    found = _children(element, name)
    return found[0] if found else None


def _text(element: Element, name: str) -> str:
    """Given an element and a child's name, return the child's text, "" without child."""
    child = _child(element, name)
    if child is None:
        return ""
    return "".join(node.data for node in child.childNodes if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE))
