# SPDX-License-Identifier: MIT
"""A container's NIC on the host is one end of a veth pair, whose address is random.

While the container starts, the veth is the other end of the interface that the XML names. Once the container runs,
libvirt's record of it names the veth. `ip link show` makes sure that it is a veth, and whose.
The same functions as taps.py's; interfaces.py says what each does.
"""

from __future__ import annotations

from . import HookError, libvirt_records, sysfs
from .hookdata import Domain, Nic, Port, parse_domain_state, parse_port_state

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .tickets import Ticket

GUEST, INTERFACE, HOOK = "container", "veth", "lxc"
KEY_PREFIX = "veth-"
CHANGES_LIVE = False  # seen on libvirt 9.0
HAS_FDB_MANAGER = False  # source: libvirt, src/lxc/lxc_process.c, virLXCProcessSetupInterfaceTap()
TICKET_LINES: tuple[str, ...] = ("container 1",)  # release 1.0.0 tells a container's ticket by this line


def key(mac: str) -> str:
    """Given a NIC's MAC address, return the key of the NIC: that address, because the veth's own is random."""
    return f"{KEY_PREFIX}{mac}"


def daemon() -> str:
    """Return the name of the daemon that calls the lxc hook."""
    return libvirt_records.daemon("virtlxcd")


def announced(port: Port) -> tuple[str, str]:
    """Given a port that libvirt announces, return its veth if that is there already, and "".

    Each is a name, "" for none.
    """
    return _noted(port), ""


def port_at_start(domain: Domain, nic: Nic) -> Port | None:
    """Given a container that is about to run and a NIC of it, return the NIC's port, None if it is none of a network.

    The container's XML does not have the port yet (seen on libvirt 9.0), but libvirt's record of the port is there.
    Raises HookError if that is not so, or cannot be read, and the NIC has a portgroup.
    """
    records = libvirt_records.of_ports(nic.network, domain.uuid, nic.mac)
    if records:  # the newest: a daemon that was down keeps the records of earlier starts
        return parse_port_state(records[0])
    if nic.group:
        raise HookError(
            f"libvirt has no record of this NIC's port in network {nic.network}: systemctl restart "
            f"{libvirt_records.network_daemon()}, and try again"
        )
    return None


def at_start(nic: Nic) -> tuple[str, int]:
    """Given a NIC of a container that is about to run, return the name and index of the host's end of its veth pair.

    Both ends are in the host's network namespace as long as nothing runs in the container. Raises HookError if the XML
    names no such interface, or if that has another address.
    """
    if not nic.guest_end:
        raise HookError("libvirt does not name the container's interface: start the container again")
    link = _link(nic.guest_end)
    name, index = str(link.get("link", "")), sysfs.iflink(nic.guest_end)
    if _type(link) != "veth" or "link_netnsid" in link or not name:
        raise HookError(f"{nic.guest_end} is not one end of a veth pair on this host: start the container again")
    if link.get("address") != nic.mac:
        raise HookError(
            f"{nic.guest_end} has the address {link.get('address')} instead of {nic.mac}: start the container again"
        )
    if not index or sysfs.ifindex(name) != index:
        raise HookError(f"{nic.guest_end} is no longer paired with {name}: start the container again")
    return name, index


def strangers(nic: Nic, bridge: str) -> list[str]:
    """Given a NIC of a container that is about to run, return no name: no other interface can be taken for its veth."""
    return []


def seen(ticket: Ticket) -> dict[str, int]:
    """Given a ticket, return by name the ticket's veth with its index, nothing if the veth is not on its bridge."""
    name = on_bridge(ticket)
    return {name: sysfs.ifindex(name)} if name else {}


def on_bridge(ticket: Ticket) -> str:
    """Given a ticket, return the name of its veth on its bridge, "" if it is not there."""
    name = anywhere(ticket)
    return name if name and sysfs.master(name) == ticket.bridge else ""


def anywhere(ticket: Ticket) -> str:
    """Given a ticket, return the name of its veth, whether it is on the bridge or not, "" if it is gone."""
    return sysfs.still_named(*ticket.interface) if ticket.interface else _noted(ticket)


def lives(ticket: Ticket) -> bool:
    """Given a ticket, return whether its veth is still there."""
    return bool(anywhere(ticket))


def survives(ticket: Ticket) -> bool:
    """Given a ticket whose port libvirt takes back, return False: the veth goes, too."""
    return False


def check(ticket: Ticket, name: str) -> None:
    """Raise HookError if this interface is not the ticket's veth: its name can be another interface's by now."""
    if ticket.interface:
        if (name, sysfs.ifindex(name)) != ticket.interface:
            raise HookError(f"{name} is not this NIC's veth any more: try again")
        return
    link = _link(name)
    if _type(link) != "veth" or "link_netnsid" not in link:
        raise HookError(f"{name} is not one end of a container's veth pair: restart the container")


def _noted(of: Port | Ticket) -> str:
    """Given a port or its ticket, return the veth that libvirt's record of the container names for it, or ""."""
    xml = libvirt_records.of_container(of.vm, of.vm_uuid)
    container = parse_domain_state(xml) if xml else None
    # the names of the veths of a container that has ended can be others' by now
    if container is None or not libvirt_records.controller_lives(of.vm, container.pid):
        return ""
    return next((nic.tap for nic in container.nics if nic.port_uuid == of.uuid), "")


def _link(interface: str) -> dict[str, object]:
    from . import bridge  # imports sh: only for a container that has wanted VLANs

    (shown,) = bridge.type_commands([["ip", "-j", "-d", "link", "show", "dev", interface]], "")
    entries = [entry for entry in shown if isinstance(entry, dict)] if isinstance(shown, list) else []
    return next((entry for entry in entries if entry.get("ifname") == interface), {})


def _type(link: dict[str, object]) -> object:
    info = link.get("linkinfo")
    return info.get("info_kind") if isinstance(info, dict) else None
