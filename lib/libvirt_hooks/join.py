# SPDX-License-Identifier: MIT
"""What the qemu hook does when a VM's taps exist and its QEMU does not: no guest runs before its ports are right.

Usually the detached process is done by then, and a look at the ticket shows it. If not, it is done here.
"""

from __future__ import annotations

from . import HookError, sysfs, tickets
from .hookdata import Nic, parse_nics, tap_address
from .tickets import Ticket


def make_ports_right(xml: bytes) -> None:
    """Given the domain's XML, return once all its ports have their VLANs; raise HookError if one cannot have them."""
    nics = parse_nics(xml)
    for nic in nics:
        ticket = _ticket(nic)
        if ticket is None or ticket.vlans is None:
            continue
        try:
            _check_address(nic, nics)
            if not _is_right(ticket, nic.tap):
                from .convergence import join  # imports sh and tenacity: only if there is work

                join(ticket, nic.tap)
        except HookError as error:
            raise HookError(f"NIC {nic.mac}, port {nic.tap}: {error}") from error


def _ticket(nic: Nic) -> Ticket | None:
    try:
        return tickets.read(tickets.path(nic.mac, nic.port_uuid))
    except FileNotFoundError:  # it has no portgroup, or is left alone for another reason
        return None


def _check_address(nic: Nic, nics: list[Nic]) -> None:
    """Two taps of one address on one bridge cannot be told apart later; libvirt replaces the MAC's first byte in it."""
    for other in nics:
        same = tap_address(other.mac) == tap_address(nic.mac) and sysfs.master(other.tap) == sysfs.master(nic.tap)
        if other is not nic and same:
            raise HookError(f"NIC {other.mac} has the same last five bytes on the same bridge: give one another MAC")


def _is_right(ticket: Ticket, tap: str) -> bool:
    return ticket.right == (tap, sysfs.ifindex(tap)) and sysfs.master(tap) == ticket.bridge
