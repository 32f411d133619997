# SPDX-License-Identifier: MIT
"""Which interface on the host is a NIC's: a VM's tap, or the host's end of a container's veth pair.

A tap is known by its address, which libvirt makes of the NIC's. A veth's address is random. While the container starts,
the veth is the other end of the interface that the XML names (veths.py). Once it runs, libvirt's record of it names the
veth. A tap or a veth that has been seen with its wanted VLANs is named by the ticket: another VM's tap can have the
same address.
"""

from __future__ import annotations

from . import sysfs
from .hookdata import Port, parse_domain_state, tap_address
from .statefiles import container_note, controller_lives, runs_with

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .tickets import Ticket


def of_port(port: Port | Ticket) -> str:
    """Given a port that libvirt announces, or its ticket, return its interface's name, "" if it is not there yet."""
    if not port.container:
        taps = list(sysfs.taps_with(tap_address(port.mac), port.bridge))
        own = [tap for tap in taps if runs_with(port.vm, tap)] if len(taps) > 1 else []
        return next(iter([*own, *taps]), "")
    xml = container_note(port.vm, port.vm_uuid)
    container = parse_domain_state(xml) if xml else None
    if container is None or not controller_lives(port.vm, container.pid):  # its veths' names can be others' by now
        return ""
    return next((nic.tap for nic in container.nics if nic.port_uuid == port.uuid), "")


def on_bridge(ticket: Ticket) -> str:
    """Given a ticket, return the name of its interface on its bridge, "" if that is not there.

    Raises HookError if two bridge ports have the address of a VM's tap, and the ticket names none.
    """
    if not ticket.container and not ticket.right:
        return sysfs.tap_with(tap_address(ticket.mac), ticket.bridge)
    interface = anywhere(ticket)
    return interface if interface and sysfs.master(interface) == ticket.bridge else ""


def anywhere(ticket: Ticket) -> str:
    """Given a ticket, return the name of its interface, whether it is on the bridge or not, "" if it is gone."""
    if ticket.right:  # the name can come back as another's, the index cannot
        name, index = ticket.right
        return name if sysfs.ifindex(name) == index else ""
    return of_port(ticket) if ticket.container else sysfs.interface_with(tap_address(ticket.mac), ticket.bridge)


def owner_is_container(port: Port | Ticket) -> bool:
    """Given a port or its ticket, return whether libvirt has noted its owner as a container that runs."""
    return bool(container_note(port.vm, port.vm_uuid))
