# SPDX-License-Identifier: MIT
"""What the qemu hook does when a VM's taps exist and its QEMU does not: no guest runs without its wanted VLANs.

Usually the network hook's detached process has given them by then, and the ticket says so. If not, it is done here.
"""

from __future__ import annotations

from . import HookError, sysfs, tickets
from .hookdata import Nic, parse_domain, tap_address
from .tickets import Ticket


def set_vlans_of(xml: bytes) -> None:
    """Given the XML of a VM that is about to run, give each of its taps that has a ticket its wanted VLANs.

    Raises HookError if a tap cannot have them.
    """
    nics = [nic for nic in parse_domain(xml).nics if nic.port_uuid and nic.tap]
    for nic in nics:
        ticket = _ticket(nic)
        if ticket is None or ticket.vlans is None:
            continue
        try:
            _check_address(nic, nics)
            if not _is_right(ticket, nic.tap):
                from .taps import set_vlans_now  # imports sh and tenacity: only if there is work

                set_vlans_now(ticket, nic.tap)
        except HookError as error:
            raise HookError(f"NIC {nic.mac}, tap {nic.tap}: {error}") from error


def _ticket(nic: Nic) -> Ticket | None:
    """Given a NIC, return its port's ticket, None if the NIC has no portgroup or is left alone for another reason."""
    try:
        return tickets.read(tickets.path(nic.mac, nic.port_uuid))
    except FileNotFoundError:
        return None


def _check_address(nic: Nic, nics: list[Nic]) -> None:
    """Raise HookError if another of these NICs has a tap with the same address on the same bridge.

    A tap has its NIC's MAC address but for the first byte, so only the other five tell two taps apart.
    """
    for other in nics:
        same = tap_address(other.mac) == tap_address(nic.mac) and sysfs.master(other.tap) == sysfs.master(nic.tap)
        if other is not nic and same:
            raise HookError(f"NIC {other.mac} has the same last five bytes on the same bridge: give one another MAC")


def _is_right(ticket: Ticket, tap: str) -> bool:
    """Given a ticket and its tap, return whether this very tap has been seen with its wanted VLANs."""
    return ticket.right == (tap, sysfs.ifindex(tap)) and sysfs.master(tap) == ticket.bridge
