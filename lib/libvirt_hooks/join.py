# SPDX-License-Identifier: MIT
"""What the qemu and lxc hooks do at `start`: the guest's taps or veths exist, and the guest does not run yet.

No guest runs before its NICs have their wanted VLANs.

Usually the network hook's detached process has set a VM's VLANs by then, and the ticket says so. If not, the qemu hook
sets them. A container's veth is known only now: no process waits for a veth, and the lxc hook sets its VLANs. A NIC
without a ticket is left alone, or the network hook was not called for the NIC: then this hook decides.
"""

from __future__ import annotations

from . import HookError, log, sysfs, tickets
from .hookdata import Domain, Nic, Port, parse_domain, parse_network_state, parse_port_state, port_of, tap_address
from .statefiles import network_daemon, network_state, port_notes
from .tickets import Ticket
from .wanted import BRIDGE_PLUGS, shown_group, wanted_vlans, why_left_alone


def set_vlans_of(xml: bytes) -> None:
    """Given the XML of a guest that is about to run, give each of its NICs that is not left alone its wanted VLANs.

    Raises HookError if a NIC cannot have them.
    """
    domain = parse_domain(xml)
    for nic in domain.nics:
        try:
            port = _port(domain, nic)
            if not port or not _set_vlans(domain, nic, port):
                _check_left_alone(domain, nic)
        except HookError as error:
            interface = f"veth {nic.guest_end}" if domain.container else f"tap {nic.tap}"
            raise HookError(f"NIC {nic.mac}, {interface}: {error}", refuses=True) from error


def _set_vlans(domain: Domain, nic: Nic, port: Port) -> bool:
    """Given a guest, a NIC of it and the NIC's port, set the port's VLANs if that is not done yet.

    Return whether the port has wanted VLANs: if not, it is left alone.
    """
    ticket = _ticket(port) or _ticket_without_network_hook(domain, nic, port)
    if ticket is None or ticket.vlans is None:
        return False
    _check_other_nics(domain, nic, port)
    tap = nic.tap
    if port.container:
        from .veths import host_end  # imports sh

        ticket.veth = host_end(nic.guest_end, nic.mac)
        tap = ticket.veth[0]
    if not _is_right(ticket, tap):
        from .taps import set_vlans_now  # imports sh and tenacity: only if there is work

        set_vlans_now(ticket, tap)
    return True


def _check_left_alone(domain: Domain, nic: Nic) -> None:
    """Given a guest and a NIC that is left alone, raise HookError if the hooks can take its tap for another VM's.

    A process that waits for another VM's tap knows that tap by its address alone.
    """
    if domain.container or not nic.tap:
        return
    tap = (nic.tap, sysfs.ifindex(nic.tap))
    for other in tickets.of(nic.bridge, tap_address(nic.mac)):
        waits = not other.right and other.vm_uuid != domain.uuid and tickets.is_granted(other)
        if other.vlans is not None and (waits or other.right == tap):
            raise HookError(
                f"{tickets.guest(other)} has that address on {nic.bridge} already: give one of the two another MAC "
                "address"
            )


def _port(domain: Domain, nic: Nic) -> Port | None:
    """Given a guest and a NIC of it, return the NIC's port, None if the NIC is no port of a network.

    A container's XML does not have the port yet (seen on libvirt 9.0), but libvirt's record of the port is there.
    """
    if not domain.container:
        return port_of(domain, nic) if nic.port_uuid and nic.tap else None
    notes = port_notes(nic.network, domain.uuid, nic.mac)
    if notes:  # the newest: a daemon that was down keeps the notes of earlier starts
        try:
            port = parse_port_state(notes[0])
        except HookError as error:
            if nic.group or b"default='yes'" in network_state(nic.network):
                raise
            log.warning(f"{log.nic(domain.name, nic.mac, '', '')}: left alone, because it has no portgroup: {error}")
            return None
        port.container = True
        return port
    if nic.group:
        raise HookError(
            f"libvirt has no record of this NIC's port in network {nic.network}: systemctl restart {network_daemon()}, "
            "and try again"
        )
    return None


def _ticket(port: Port) -> Ticket | None:
    """Given a port, return its ticket, None if there is none."""
    try:
        return tickets.read(tickets.path(port))
    except FileNotFoundError:
        return None


def _ticket_without_network_hook(domain: Domain, nic: Nic, port: Port) -> Ticket | None:
    """Given a guest, a NIC of it and a port without a ticket, decide as the network hook would, return a ticket.

    Return None if the network hook would leave the port alone. Raises HookError if the network hook would refuse the
    port, or if nobody knows what the portgroup means.
    """
    xml = network_state(nic.network)
    if port.plug not in BRIDGE_PLUGS or not (port.group or b"default='yes'" in xml):
        return None
    daemon = network_daemon()
    if not xml:
        raise HookError(
            f"the network hook was not called, and libvirtd has no record of network {nic.network} that tells what "
            f"portgroup '{port.group}' means: systemctl restart {daemon}, and try again"
        )
    network = parse_network_state(xml, port)
    if why_left_alone(port, network):
        return None
    vlans = wanted_vlans(port, network, sysfs.bridge(port.bridge))
    _check_other_nics(domain, nic, port)
    known = tickets.of(port.bridge, tickets.key(port))
    tickets.check_address(port, "", known)
    if not port.container:
        sysfs.tap_with(tap_address(port.mac), port.bridge)
    for earlier in known:  # without the network hook nothing removes them
        tickets.remove(earlier)
    port.group = shown_group(port, network)
    ticket = tickets.new(port, network.name, vlans, live=False)
    tickets.write(ticket)
    log.warning(
        f"{tickets.subject(ticket, nic.tap or nic.guest_end)}: the network hook was not called for this port, so the "
        f"{'lxc' if port.container else 'qemu'} hook sets its VLANs: install the network hook, and systemctl restart "
        f"{daemon}"
    )
    return ticket


def _check_other_nics(domain: Domain, nic: Nic, port: Port) -> None:
    """Raise HookError if another NIC of the guest has the same address on the same bridge.

    A tap has its NIC's MAC address but for the first byte, so only the other five tell two taps apart. A veth is told
    apart by the NIC's whole address.
    """
    for other in domain.nics:
        same = other.mac == nic.mac if domain.container else tap_address(other.mac) == tap_address(nic.mac)
        if other is nic or not same:
            continue
        other_port = _port(domain, other)
        if other_port and other_port.bridge == port.bridge:
            raise HookError(
                f"NIC {other.mac} has the same last five bytes on the same bridge: give one of the two NICs another "
                "MAC address"
            )


def _is_right(ticket: Ticket, tap: str) -> bool:
    """Given a ticket and its tap, return whether this very tap has been seen with its wanted VLANs."""
    return ticket.right == (tap, sysfs.ifindex(tap)) and sysfs.master(tap) == ticket.bridge
