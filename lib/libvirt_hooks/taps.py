# SPDX-License-Identifier: MIT
"""A VM's NIC on the host is a tap, which is known by its address: libvirt makes that of the NIC's.

Two NICs can have taps of one address. So once a tap is known for sure, its name and index tell it apart: the qemu
hook's `start` names the tap, and so does the ticket of a tap that has had its wanted VLANs.
The same functions as veths.py's; interfaces.py says what each does.
"""

from __future__ import annotations

from . import HookError, libvirt_records, log, sysfs
from .hookdata import Domain, Nic, Port, port_of

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .tickets import Ticket

GUEST, INTERFACE, HOOK = "VM", "tap", "qemu"
KEY_PREFIX = ""
CHANGES_LIVE = True
HAS_FDB_MANAGER = True
TICKET_LINES: tuple[str, ...] = ()


def key(mac: str) -> str:
    """Given a NIC's MAC address, return its tap's: the same with the first byte FE, or FA if that is FE.

    Source: libvirt, src/util/virnetdevtap.c, virNetDevTapCreateInBridgePort().
    """
    return ("fa" if mac.startswith("fe") else "fe") + mac[2:]


def daemon() -> str:
    """Return the name of the daemon that calls the qemu hook."""
    return libvirt_records.daemon("virtqemud")


def announced(port: Port) -> tuple[str, str]:
    """Given a port that libvirt announces, return its tap if that is there already, and another guest's of its address.

    Each is a name, "" for none.
    """
    taps = sysfs.taps_with(key(port.mac), port.bridge)
    own = next((tap for tap in taps if libvirt_records.runs_with(port.vm, tap)), "")
    return own, "" if own else next(iter(taps), "")


def port_at_start(domain: Domain, nic: Nic) -> Port | None:
    """Given a VM that is about to run and a NIC of it, return the NIC's port, None if it is no port of a network."""
    return port_of(domain, nic) if nic.port_uuid and nic.tap else None


def at_start(nic: Nic) -> tuple[str, int]:
    """Given a NIC of a VM that is about to run, return the name and index of its tap: the XML names it."""
    return nic.tap, sysfs.ifindex(nic.tap)


def strangers(nic: Nic, bridge: str) -> list[str]:
    """Given a NIC of a VM that is about to run and its bridge, return the other bridge ports with its tap's address."""
    return [tap for tap in sysfs.taps_with(key(nic.mac), bridge) if tap != nic.tap]


def seen(ticket: Ticket) -> dict[str, int]:
    """Given a ticket, return by name the bridge ports that can be the ticket's tap, each with its inode in /sys."""
    return sysfs.taps_with(key(ticket.mac), ticket.bridge)


def on_bridge(ticket: Ticket) -> str:
    """Given a ticket, return the name of its tap on its bridge, "" if it is not there.

    Raises HookError if two bridge ports have the tap's address, and the ticket names none.
    """
    if ticket.interface:
        name = anywhere(ticket)
        return name if name and sysfs.master(name) == ticket.bridge else ""
    return sysfs.tap_with(key(ticket.mac), ticket.bridge)


def anywhere(ticket: Ticket) -> str:
    """Given a ticket, return the name of its tap, whether it is on the bridge or not, "" if it is gone."""
    if ticket.interface:
        return sysfs.still_named(*ticket.interface)
    return sysfs.interface_with(key(ticket.mac), ticket.bridge)


def lives(ticket: Ticket) -> bool:
    """Given a ticket, return whether its tap is known for sure, and still there: cheap, unlike anywhere()."""
    return bool(ticket.interface and sysfs.still_named(*ticket.interface))


def survives(ticket: Ticket) -> bool:
    """Given a ticket whose port libvirt takes back, return whether its tap lives on: then it is a live change."""
    name = anywhere(ticket)
    return bool(name) and bool(ticket.right or libvirt_records.runs_with(ticket.vm, name))


def check(ticket: Ticket, name: str) -> None:
    """Raise HookError if this interface is not the ticket's tap: its name can be another tap's by now.

    A tap that is known by its index needs no address. Something has changed it: most likely udev, which does so to an
    interface that is new. Source: systemd.link(5), MACAddressPolicy=.
    """
    address = sysfs.address(name)
    if ticket.interface:
        if (name, sysfs.ifindex(name)) != ticket.interface:
            raise HookError(f"{name} is not this NIC's tap any more: try again")
        if address != key(ticket.mac):
            log.warning_once(
                f"{name} of {GUEST} {ticket.vm} has the address {address} instead of {key(ticket.mac)}: if udev has "
                "changed it, a .link file with [Match] OriginalName=vnet* and [Link] MACAddressPolicy=none stops that"
            )
    elif address != key(ticket.mac):
        raise HookError(f"{name} does not have the address of this NIC's tap, {key(ticket.mac)}: try again")
