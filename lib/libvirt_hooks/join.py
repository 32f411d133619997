# SPDX-License-Identifier: MIT
"""What the qemu hook does when a VM's taps exist and its QEMU does not: no guest runs without its wanted VLANs.

Usually the network hook's detached process has set the VLANs by then, and the ticket says so. If not, this hook does.
A NIC without a ticket is left alone, or the network hook was not called for it: then this hook decides.
"""

from __future__ import annotations

from . import HookError, log, sysfs, tickets
from .hookdata import Domain, Nic, parse_domain, parse_network_state, port_of, tap_address
from .statefiles import network_daemon, network_state
from .tickets import Ticket
from .wanted import BRIDGE_PLUGS, shown_group, wanted_vlans, why_left_alone


def set_vlans_of(xml: bytes) -> None:
    """Given the XML of a VM that is about to run, give each of its taps that is not left alone its wanted VLANs.

    Raises HookError if a tap cannot have them.
    """
    domain = parse_domain(xml)
    nics = [nic for nic in domain.nics if nic.port_uuid and nic.tap]
    for nic in nics:
        try:
            ticket = _ticket(nic) or _ticket_of_forgotten_port(domain, nic, nics)
            if ticket is None or ticket.vlans is None:
                continue
            _check_address(nic, nics)
            if not _is_right(ticket, nic.tap):
                from .taps import set_vlans_now  # imports sh and tenacity: only if there is work

                set_vlans_now(ticket, nic.tap)
        except HookError as error:
            raise HookError(f"NIC {nic.mac}, tap {nic.tap}: {error}", refuses=True) from error


def _ticket(nic: Nic) -> Ticket | None:
    """Given a NIC, return its port's ticket, None if there is none."""
    try:
        return tickets.read(tickets.path(nic.mac, nic.port_uuid))
    except FileNotFoundError:
        return None


def _ticket_of_forgotten_port(domain: Domain, nic: Nic, nics: list[Nic]) -> Ticket | None:
    """Given a VM, a NIC of it without a ticket, and all of its NICs, decide as the network hook would, return a ticket.

    Return None if the network hook would leave the port alone. Raises HookError if the network hook would refuse the
    port, or if nobody knows what the portgroup means.
    """
    port, xml = port_of(domain, nic), network_state(nic.network)
    if port.plug not in BRIDGE_PLUGS or not (port.group or b"default='yes'" in xml):
        return None
    daemon = network_daemon()
    if not xml:
        raise HookError(
            f"the network hook was not called, and libvirtd has no note of network {nic.network} that tells what "
            f"portgroup '{port.group}' means: systemctl restart {daemon}, and try again"
        )
    network = parse_network_state(xml, port)
    if why_left_alone(port, network):
        return None
    vlans = wanted_vlans(port, network, sysfs.bridge(port.bridge))
    _check_address(nic, nics)
    address = tap_address(port.mac)
    known = tickets.of(port.bridge, address)
    tickets.check_address(port, "", known)
    sysfs.tap_with(address, port.bridge)
    for earlier in known:  # without the network hook nothing removes them
        tickets.remove(earlier)
    port.group = shown_group(port, network)
    ticket = tickets.new(port, network.name, vlans, live=False)
    tickets.write(ticket)
    log.warning(
        f"{tickets.subject(ticket, nic.tap)}: the network hook was not called for this port, so the qemu hook sets its "
        f"VLANs: install the network hook, and systemctl restart {daemon}"
    )
    return ticket


def _check_address(nic: Nic, nics: list[Nic]) -> None:
    """Raise HookError if another of these NICs has a tap with the same address on the same bridge.

    A tap has its NIC's MAC address but for the first byte, so only the other five tell two taps apart.
    """
    for other in nics:
        same = tap_address(other.mac) == tap_address(nic.mac) and sysfs.master(other.tap) == sysfs.master(nic.tap)
        if other is not nic and same:
            raise HookError(
                f"NIC {other.mac} has the same last five bytes on the same bridge: give one of the two NICs another "
                "MAC address"
            )


def _is_right(ticket: Ticket, tap: str) -> bool:
    """Given a ticket and its tap, return whether this very tap has been seen with its wanted VLANs."""
    return ticket.right == (tap, sysfs.ifindex(tap)) and sysfs.master(tap) == ticket.bridge
