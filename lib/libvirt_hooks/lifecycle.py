# SPDX-License-Identifier: MIT
"""Which of an interface's tickets applies, and which have had their day. Pure: all that is read is in Known.

In a live change one tap has several tickets: `virsh update-device` makes libvirt announce a new port, decide, and take
one of the two ports back. So the ticket of a port whose tap was there before (`live`) applies only once libvirt has let
the port stand for a while. A tap can live on without any port (`virsh domif-setlink`): its last ticket is then kept as
released, and still applies.
"""

from __future__ import annotations

from types import SimpleNamespace

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .tickets import Ticket

# Between the announcement of a live change and libvirt's taking it back lie milliseconds; seconds on a busy host.
LIVE_GRACE_SECONDS = 5
# Between the end of port-created and libvirt's own record of the port lie milliseconds; seconds on a busy host.
NOTED_SECONDS = 10
# Between port-created and the interface lies whatever libvirt does first: PCI resets, storage, a TPM. If a port was
# announced this long ago, and libvirt has no record of the guest, the guest has not started.
START_SECONDS = 300


class Known(SimpleNamespace):
    """A ticket, and what was read about its port and its interface."""

    ticket: Ticket
    noted: bool  # libvirt has a record of the port
    used: bool  # libvirt's record of the running guest names the port; asked only if it is noted and was never right
    lives: bool  # the ticket's interface is known, and still there


class Release(SimpleNamespace):
    """What becomes of an interface's tickets when libvirt takes a port of it back."""

    removed: list[Ticket]
    decided: list[Ticket]  # those that are no live change any more, because libvirt has decided for them
    kept: Ticket | None  # the one to keep as released


def applies(tickets: list[Ticket], now: float) -> Ticket | None:
    """Given the tickets of one interface, oldest first, and time.monotonic(), return the one that applies, or None.

    The oldest whose port libvirt has granted applies, or else the one whose port libvirt took back last. A ticket whose
    port is only announced never applies.
    """
    standing = [ticket for ticket in tickets if not ticket.released and not _is_announced(ticket, now)]
    released = [ticket for ticket in tickets if ticket.released]
    return next(iter(standing), None) or next(iter(released), None)


def is_granted(known: Known, now: float) -> bool:
    """Given a ticket, return whether libvirt has granted its port, or may be about to, and its interface is not gone.

    libvirt notes a port only after the hook has returned. So a young ticket passes as granted, too, unless its
    interface has already come and gone. A daemon that was down keeps its record of a guest that has ended, or whose
    start has failed meanwhile.
    """
    age_seconds = now - known.ticket.created
    if known.ticket.right:
        return known.noted and known.lives
    if known.noted:
        return known.used or age_seconds < START_SECONDS
    return not known.ticket.released and age_seconds < NOTED_SECONDS


def forgotten(known: list[Known]) -> list[Ticket]:
    """Given what is known of one interface's tickets, oldest first, return those whose ports libvirt has forgotten.

    libvirt forgets a network's ports without a word when the network is stopped (`virsh net-destroy`). A younger
    ticket of the same interface shows that.
    """
    standing = [one for one in known if not one.ticket.released]
    return [one.ticket for one in standing[:-1] if not one.noted]


def gone(known: list[Known], uuid: str, vm_uuid: str, now: float) -> list[Ticket]:
    """Given what is known of the tickets of a NIC's key, and a port of that key whose interface is yet to come, return
    the tickets that must not apply to that interface.

    A guest that ended without a port leaves a ticket. The earlier ports of the same NIC are gone even if libvirt has a
    record of them: a network daemon that was down has kept it.
    """
    return [
        one.ticket
        for one in known
        if one.ticket.uuid != uuid
        and (one.ticket.vm_uuid == vm_uuid or not is_granted(one, now))
        and not (one.lives and not one.ticket.kind.CHANGES_LIVE)
    ]


def release(ticket: Ticket, others: list[Ticket], lives: bool, now: float) -> Release:
    """Given a ticket whose port libvirt takes back, the other tickets of its interface and whether the interface lives
    on, return what becomes of all of them. If the interface lives on, a ticket that applies to it stays.
    """
    standing = [other for other in others if not other.released]
    released = [other for other in others if other.released]
    if not lives:
        return Release(removed=[ticket, *released], decided=[], kept=None)
    if _is_announced(ticket, now):  # libvirt has decided against this port
        return Release(removed=[ticket], decided=[], kept=None)
    if standing:  # libvirt takes this port back, so the other one stays
        return Release(removed=[ticket], decided=standing, kept=None)
    return Release(removed=released, decided=[], kept=ticket)


def _is_announced(ticket: Ticket, now: float) -> bool:
    return ticket.live and not ticket.released and now - ticket.created < LIVE_GRACE_SECONDS
