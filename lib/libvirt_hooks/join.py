# SPDX-License-Identifier: MIT
"""What the qemu hook does when a VM's taps exist and its QEMU does not: no guest runs before its ports are right.

Usually the detached process is done by then, and a look at the ticket shows it. If not, it is done here.
"""

from __future__ import annotations

from . import HookError, sysfs, tickets
from .hookdata import Nic, parse_nics
from .tickets import Ticket


def make_ports_right(xml: bytes) -> None:
    """Given the domain's XML, return once all its ports have their VLANs; raise HookError if one cannot have them."""
    for nic in parse_nics(xml):
        ticket = _ticket(nic)
        if ticket and ticket.vlans is not None and not _is_right(ticket, nic.tap):
            from .convergence import join  # imports sh and tenacity: only if there is work

            try:
                join(ticket, nic.tap)
            except HookError as error:
                raise HookError(f"NIC {nic.mac}, port {nic.tap}: {error}") from error


def _ticket(nic: Nic) -> Ticket | None:
    try:
        return tickets.read(tickets.path(nic.mac, nic.port_uuid))
    except FileNotFoundError:  # it has no portgroup, or is left alone for another reason
        return None


def _is_right(ticket: Ticket, tap: str) -> bool:
    return ticket.right == (tap, sysfs.ifindex(tap)) and sysfs.master(tap) == ticket.bridge
