# SPDX-License-Identifier: MIT
"""What the qemu and lxc hooks do at `start`: the guest's interfaces exist, and the guest does not run yet.

No guest runs before its NICs have their wanted VLANs. Usually a VM's detached process sets these, and the ticket says
so. If not, this hook sets them. A container has no such process: its veths are known only now. A NIC without a ticket
is left alone, or the network hook was not called for the NIC: then this hook decides.
"""

from __future__ import annotations

import time

from . import HookError, facts, locks, log, refusals, sysfs, tickets
from .decision import decide, why_not_beside, why_not_both
from .facts import Start
from .hookdata import Domain, parse_domain
from .libvirt_records import network_daemon
from .tickets import Ticket

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .interfaces import Kind

# The detached process has imported what this hook would have to import first, and needs milliseconds once the tap is
# there: only a process that is stuck, or a `bridge` that fails, takes as long as this.
PROCESS_SECONDS = 5
LOOK_SECONDS = 0.02  # between two looks whether the process is done


def before_guest_runs(xml: bytes) -> None:
    """Given the XML of a guest that is about to run, give each of its NICs that is not left alone its wanted VLANs.

    Raises HookError if a NIC cannot have them.
    """
    domain = parse_domain(xml)
    kind = facts.kind_of_domain(domain)
    starts = facts.of_start(domain)
    for start in starts:
        try:
            ticket = _ticket(start, kind, starts)
            if ticket is None:
                _check_left_alone(domain, start, kind)
            else:
                _wait_or_set(ticket, start, kind)
        except HookError as error:
            interface = f"{kind.INTERFACE} {start.nic.guest_end or start.nic.tap}"
            sentence = f"NIC {start.nic.mac}, {interface}: {error}"
            refusals.note(domain.uuid, domain.name, f"{kind.GUEST} {domain.name}, {sentence}")
            raise HookError(sentence, refuses=True) from error
    refusals.forget(domain.uuid)


def _ticket(start: Start, kind: Kind, starts: list[Start]) -> Ticket | None:
    """Given a NIC, its kind and all NICs of its guest, return the NIC's ticket, None if the NIC is left alone.

    Raises HookError if the NIC cannot have its wanted VLANs.
    """
    if start.error:
        raise start.error
    ticket, port = start.ticket, start.port
    if port is None or (ticket is None and start.network is None) or (ticket and ticket.vlans is None):
        return None
    decision = None
    if ticket is None:
        assert start.network is not None
        assert start.facts is not None
        decision = decide(port, start.network, start.facts)
        if decision.left_alone:
            return None
        ticket = decision.ticket
    clash = why_not_both(port, [other.port for other in starts if other.port and other is not start])
    refused = clash or (decision.refused if decision else "")
    if refused:
        raise HookError(refused)
    assert ticket is not None
    if decision:
        for gone in decision.gone:
            tickets.remove(gone)
        tickets.write(ticket)
        log.warning(
            f"{tickets.subject(ticket, start.nic.tap or start.nic.guest_end)}: the network hook was not called for "
            f"this port, so the {kind.HOOK} hook sets its VLANs: install the network hook, and systemctl restart "
            f"{network_daemon()}"
        )
    return ticket


def _wait_or_set(ticket: Ticket, start: Start, kind: Kind) -> None:
    """Given a NIC's ticket, what is known about the NIC and its kind, wait for the guest's process, or set the VLANs.

    libvirt itself names the interface: that is better evidence than the interface's address.
    """
    name, index = ticket.interface = kind.at_start(start.nic)
    if _is_right(ticket, name, index) or _was_made_right(ticket, name, index):
        return
    from .setter import set_vlans, when_unlocked  # imports sh and tenacity: only if there is work

    def attempt() -> None:
        fault = set_vlans(ticket, name, None)
        if fault:
            raise HookError(fault)

    when_unlocked(ticket, attempt)


def _was_made_right(ticket: Ticket, name: str, index: int) -> bool:
    """Given a ticket and its interface, wait until the guest's process has set the VLANs; return whether it has.

    A process that is gone, stuck, or cannot find the interface, is not waited for.
    """
    end = time.monotonic() + PROCESS_SECONDS
    while name in ticket.kind.seen(ticket) and time.monotonic() < end:
        is_alive = locks.guests_is_taken(ticket.vm_uuid)  # first: what it did before it ended counts
        try:
            now = tickets.read(tickets.path(ticket))
        except FileNotFoundError:
            return False
        if _is_right(now, name, index) or not is_alive:
            return _is_right(now, name, index)
        time.sleep(LOOK_SECONDS)
    return False


def _check_left_alone(domain: Domain, start: Start, kind: Kind) -> None:
    """Raise HookError if the hooks can take the interface of a NIC that is left alone for another guest's."""
    nic = start.nic
    if not nic.tap or not nic.bridge:
        return
    known = [facts.known(ticket) for ticket in tickets.of(nic.bridge, kind.key(nic.mac))]
    reason = why_not_beside(domain, nic, known, kind.at_start(nic), time.monotonic()) if known else ""
    if reason:
        raise HookError(reason)


def _is_right(ticket: Ticket, name: str, index: int) -> bool:
    """Given a ticket and its interface, return whether this very interface was seen with the wanted VLANs."""
    return ticket.right == (name, index) and sysfs.master(name) == ticket.bridge
