# SPDX-License-Identifier: MIT
"""The XML that libvirt gives to the hooks, and `virsh` to the tool, as plain values. Pure.

The XML is not trusted: whatever later becomes part of a path or a command is checked here.
"""

from __future__ import annotations

from types import SimpleNamespace
from xml.dom.minidom import Element

from . import HookError
from .elements import attribute, child, children, parse, text

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .interfaces import Kind

HEX_DIGITS = frozenset("0123456789abcdef")
STDIN = "the XML on stdin"
INTERFACE_NAME_MAX = 15  # source: linux/if.h, IFNAMSIZ less the final NUL


class Port(SimpleNamespace):
    """A port of a libvirt network (<networkport>), which libvirt makes for one NIC of one VM.

    Source: libvirt, src/conf/virnetworkportdef.c, virNetworkPortDefFormatBuf().
    """

    uuid: str
    vm: str  # the VM's name, or the container's
    vm_uuid: str
    kind: Kind | None  # of the NIC's interface on the host; None: libvirt does not tell the network hook, see facts.py
    mac: str  # the NIC's
    group: str  # the portgroup that the VM's definition names, "" for none
    plug: str  # bridge, network, direct, hostdev-pci; "" for none
    bridge: str  # "" where the plug is no bridge
    has_vlan: bool  # libvirt tags the port itself
    has_virtualport: bool  # Open vSwitch and the like
    isolated: bool  # the bridge keeps the port apart from its other isolated ports (<port isolated='yes'/>)
    fdb_managed: bool  # libvirt adds the guest's address to the bridge's forwarding database (macTableManager)


class Network(SimpleNamespace):
    """A libvirt network, and with port-created and port-deleted the port that the call is about."""

    name: str
    portgroups: list[str]
    default_group: str  # the portgroup of the NICs that name none (default='yes'), "" if there is none
    metadata: Element | None
    port: Port | None


class Nic(SimpleNamespace):
    """A NIC in a domain's XML (<interface>).

    Source: https://libvirt.org/formatdomain.html#network-interfaces
    """

    mac: str
    kind: str  # its type: network, bridge, direct, ...; of a running VM what the network has made of it
    network: str  # the libvirt network that it names, "" for none
    group: str
    bridge: str  # "" unless the VM runs
    tap: str  # its interface on the host, "" unless the VM runs
    port_uuid: str  # "" if it is no port of a libvirt network, or the VM does not run
    guest_end: str  # a container's end of its veth pair, only while that is still in the host's network namespace
    has_vlan: bool
    has_virtualport: bool
    isolated: bool
    fdb_managed: bool


class Domain(SimpleNamespace):
    """A VM or a container, as its XML describes it."""

    name: str
    uuid: str
    type: str  # qemu, kvm, lxc, …
    pid: str  # of the process that runs it, only in libvirtd's own record, else ""
    runs: bool
    nics: list[Nic]


class Identity(SimpleNamespace):
    """Which domain or which network an XML document describes."""

    name: str
    uuid: str


def parse_network(xml: bytes) -> Network:
    """Given the stdin of a network hook, return the network, and its port if it has one.

    Raises HookError if the XML cannot be read, or has a MAC address, UUID or interface name that is not valid.
    """
    root = parse(xml, STDIN)
    network, port = child(root, "network"), child(root, "networkport")
    if network is None:
        raise HookError("the XML on stdin has no <network>: only libvirt may call this hook")
    return _network(network, None if port is None else _port(port))


def parse_network_state(xml: bytes, port: Port) -> Network:
    """Given libvirtd's own record of a network that runs (<networkstatus>) and a port of it, return the network.

    Raises HookError as parse_network() does.
    """
    network = child(parse(xml, "libvirtd's record of the network"), "network")
    if network is None:
        raise HookError("libvirtd's record of the network has no <network>: restart libvirtd or virtnetworkd")
    return _network(network, port)


def parse_domain(xml: bytes, origin: str = STDIN) -> Domain:
    """Given a domain's XML and the words by which an error is to call it, return the VM and its NICs.

    Raises HookError as parse_network() does.
    """
    return _domain(parse(xml, origin))


def parse_domain_state(xml: bytes) -> Domain:
    """Given libvirtd's own record of a domain that runs (<domstatus>), return the domain and its NICs.

    Raises HookError as parse_network() does.
    """
    status = parse(xml, "libvirtd's record of the container")
    element = child(status, "domain")
    if element is None:
        raise HookError("libvirtd's record of the container has no <domain>: restart libvirtd or virtlxcd")
    domain = _domain(element)
    domain.pid = status.getAttribute("pid")
    return domain


def parse_port_state(xml: bytes) -> Port:
    """Given libvirtd's own record of a port, return the port. Raises HookError as parse_network() does."""
    return _port(parse(xml, "libvirtd's record of the port"))


def port_of(domain: Domain, nic: Nic) -> Port:
    """Given a guest and one of its NICs, return the port that the network hook was told about, its kind unknown."""
    return Port(
        uuid=nic.port_uuid,
        vm=domain.name,
        vm_uuid=domain.uuid,
        kind=None,
        mac=nic.mac,
        group=nic.group,
        plug="hostdev-pci" if nic.kind == "hostdev" else nic.kind,
        bridge=nic.bridge,
        has_vlan=nic.has_vlan,
        has_virtualport=nic.has_virtualport,
        isolated=nic.isolated,
        fdb_managed=nic.fdb_managed,
    )


def parse_identity(xml: bytes) -> Identity:
    """Given the XML of a domain or of a network, return its name and uuid. Raises HookError as parse_network() does."""
    root = parse(xml, STDIN)
    return Identity(name=text(root, "name"), uuid=checked_uuid(text(root, "uuid")))


def changed_elements(old: bytes, new: bytes) -> list[str]:
    """Given two XML documents, return the paths of the elements, two levels deep, that are not the same in both.

    Names only, because the elements' contents can be secret. Raises HookError as parse_network() does.
    """
    before, after = (_parts(parse(xml, "the XML")) for xml in (old, new))
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def checked_mac(text: str) -> str:
    """Given what should be a MAC address, return it in lower case; raise HookError if it is not a MAC address."""
    mac = text.lower()
    parts = mac.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and HEX_DIGITS.issuperset(part) for part in parts):
        raise HookError(f"'{text}' is not a MAC address: only libvirt may call this hook")
    return mac


def checked_uuid(text: str) -> str:
    """Given what should be a UUID, return it in lower case; raise HookError if it is not a UUID."""
    uuid = text.lower()
    lengths = [len(part) for part in uuid.split("-")]
    if lengths != [8, 4, 4, 4, 12] or not HEX_DIGITS.issuperset(uuid.replace("-", "")):
        raise HookError(f"'{text}' is not a UUID: only libvirt may call this hook")
    return uuid


def checked_interface(name: str, place: str = "<bridge name=…/>") -> str:
    """Given what should be the name of a network interface and where it stands, return the name; raise HookError if the
    kernel refuses it.
    """
    if not _is_interface_name(name):
        raise HookError(f"'{name}' cannot be the name of an interface: correct {place} with virsh net-edit")
    return name


def _domain(root: Element) -> Domain:
    devices = child(root, "devices")
    return Domain(
        name=text(root, "name"),
        uuid=checked_uuid(text(root, "uuid")),
        type=root.getAttribute("type"),
        pid="",
        runs=root.hasAttribute("id"),
        nics=[_nic(interface) for interface in children(devices, "interface")] if devices else [],
    )


def _network(element: Element, port: Port | None) -> Network:
    portgroups = children(element, "portgroup")
    defaults = [group.getAttribute("name") for group in portgroups if group.getAttribute("default") == "yes"]
    return Network(
        name=text(element, "name"),
        portgroups=[group.getAttribute("name") for group in portgroups],
        default_group="".join(defaults[:1]),  # libvirt refuses a network with two
        metadata=child(element, "metadata"),
        port=port,
    )


def _port(element: Element) -> Port:
    bridge, owner = attribute(element, "plug", "bridge"), child(element, "owner")
    return Port(
        uuid=checked_uuid(text(element, "uuid")),
        vm="" if owner is None else text(owner, "name"),
        vm_uuid="" if owner is None else checked_uuid(text(owner, "uuid")),
        kind=None,
        mac=checked_mac(attribute(element, "mac", "address")),
        group=text(element, "group"),
        plug=attribute(element, "plug", "type"),
        bridge=checked_interface(bridge) if bridge else "",
        has_vlan=child(element, "vlan") is not None,
        has_virtualport=child(element, "virtualport") is not None,
        isolated=attribute(element, "port", "isolated") == "yes",
        fdb_managed=attribute(element, "plug", "macTableManager") == "libvirt",
    )


def _nic(element: Element) -> Nic:
    port_uuid, tap = attribute(element, "source", "portid"), attribute(element, "target", "dev")
    return Nic(
        mac=checked_mac(attribute(element, "mac", "address")),
        kind=element.getAttribute("type"),
        network=attribute(element, "source", "network"),
        group=attribute(element, "source", "portgroup"),
        bridge=_interface_or_none(attribute(element, "source", "bridge")),
        # the hooks do nothing to a NIC that is no port, so an odd name there must not stop the VM
        tap=checked_interface(tap) if tap and port_uuid else _interface_or_none(tap),
        port_uuid=checked_uuid(port_uuid) if port_uuid else "",
        guest_end=_interface_or_none(attribute(element, "guest", "actual")),
        has_vlan=child(element, "vlan") is not None,
        has_virtualport=child(element, "virtualport") is not None,
        isolated=attribute(element, "port", "isolated") == "yes",
        fdb_managed=attribute(element, "source", "macTableManager") == "libvirt",
    )


def _interface_or_none(name: str) -> str:
    return name if _is_interface_name(name) else ""


def _is_interface_name(name: str) -> bool:
    """Given a name, return whether the kernel takes it. Source: linux net/core/dev.c, dev_valid_name()."""
    if not 0 < len(name.encode()) <= INTERFACE_NAME_MAX or name in (".", "..") or "/" in name or ":" in name:
        return False
    return name.isprintable() and not any(c.isspace() for c in name)


def _parts(root: Element) -> dict[str, list[str]]:
    """Given a document's root, return by path the texts of its grandchildren, and of its children that have none."""
    parts: dict[str, list[str]] = {}
    for element in children(root):
        inner = [(part, f"{element.tagName}/{part.tagName}") for part in children(element)]
        for part, path in inner or [(element, element.tagName)]:
            parts.setdefault(path, []).append(part.toxml())
    return parts
