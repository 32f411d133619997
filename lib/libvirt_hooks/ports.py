# SPDX-License-Identifier: MIT
"""What the network hook does when libvirt announces a port or takes it back.

libvirtd waits until the fork. Whatever can be refused is refused before, because nobody sees an error afterwards.
"""

from __future__ import annotations

import os
import sys
import time

from . import (
    HookError,
    container_starts,
    facts,
    libvirt_records,
    lifecycle,
    locks,
    log,
    missing_package,
    refusals,
    tickets,
)
from .decision import decide, name_clash
from .detach import run_detached
from .hookdata import Port, parse_network
from .tickets import Ticket
from .vlans import to_text

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .decision import Facts

PACKAGES = ("sh", "tenacity")  # imported after the fork
LOCK_SECONDS = 5  # a process that types holds the lock for some milliseconds
BUSY = "another hook process is changing this NIC's port: try again"


def port_created(xml: bytes) -> None:
    """Given the XML, leave the port alone, or refuse it with HookError, or have a detached process set its VLANs."""
    network = parse_network(xml)
    port = network.port
    if port is None:
        raise HookError("port-created has no <networkport>: these hooks need libvirt 5.5 or later")
    port.kind = facts.kind_of(port)
    try:
        # two hooks at once must not both find the address free
        lock = locks.take_within(LOCK_SECONDS, locks.take_nics, tickets.key(port), BUSY)
        try:
            found = facts.of_announced(port, network)
            decision = decide(port, network, found)
            if decision.refused:
                raise HookError(decision.refused)
            if decision.vlans is not None:
                _check_programs()
            for ticket in decision.gone:
                tickets.remove(ticket)
            if decision.ticket:
                tickets.write(decision.ticket)
        finally:
            os.close(lock)
        subject = log.nic(port.vm, port.mac, found.interface, tickets.shown_group(decision.group, decision.is_default))
        if decision.left_alone:
            log.info(f"{subject}: left alone: {decision.left_alone}")
            return
        assert decision.vlans is not None
        assert decision.ticket is not None
        log.info(f"{subject}: wanted on {port.bridge}: {to_text(decision.vlans)}")
        _set_detached(port, decision.ticket, found)
    except HookError as error:
        container_starts.forget_start(port.vm_uuid)  # libvirt gives the start up
        sentence = f"{tickets.guest(port)}, NIC {port.mac}: {error}"
        if not libvirt_records.has_started(port.vm):  # else it goes on: a hot plug, or a daemon that was restarted
            refusals.note(port.vm_uuid, port.vm, sentence)
        raise HookError(sentence) from error


def _set_detached(port: Port, ticket: Ticket, found: Facts) -> None:
    """Given a port, its ticket and what is known about the port, have the port's VLANs set.

    A container that starts needs no process: its hook's `start` sets the VLANs, and nothing runs before that. Raises
    HookError, without the new ticket, if another guest's interface has come meanwhile, or if there can be no process.
    """
    try:
        if not found.interface and not found.starts:
            assert port.kind is not None
            # whoever's interface comes before its own hook sees this ticket; who came before is seen here
            _, stranger = port.kind.announced(port)
            if stranger:
                raise HookError(name_clash(port, stranger))
        if not found.starts:
            _have_served(ticket, found.now)
    except HookError:
        is_new = all(one.ticket.uuid != port.uuid for one in found.known)
        if is_new:  # libvirt gives the port up without a port-deleted
            tickets.remove(ticket)
        raise


def port_deleted(xml: bytes) -> None:
    """Given the XML, forget the port. If its tap lives on, have a detached process keep the tap's VLANs as they are."""
    port = parse_network(xml).port
    if port is None or not port.bridge:
        return
    try:
        ticket = tickets.of_port(port)
    except HookError:
        tickets.forget(port)
        raise
    if ticket is None:
        return
    others = [other for other in tickets.of(ticket.bridge, tickets.key(ticket)) if other.uuid != ticket.uuid]
    lives = ticket.kind.survives(ticket)
    now = time.monotonic()
    end = lifecycle.release(ticket, others, lives, now)
    for gone in end.removed:
        tickets.remove(gone)
    for decided in end.decided:
        decided.live = False
        tickets.write(decided)
    if end.kept:
        tickets.keep_released(end.kept)
    if lives:
        _have_served(ticket, now)


def _have_served(ticket: Ticket, began: float) -> None:
    """Given a ticket that is written and when the hook began to decide, have the guest's detached process see to it.

    That is the process that there is, or a new one.

    The process gives up its lock, and then looks for tickets once more. So either the process sees the ticket, or the
    lock is free here.
    """
    try:
        lock = locks.take_guests(ticket.vm_uuid)
    except BlockingIOError:
        return

    def work() -> None:
        from .waiting import serve  # imports sh and tenacity: not while libvirtd waits

        serve(ticket, lock, began)

    try:
        run_detached(work)
    finally:
        os.close(lock)  # the process has its own


def _check_programs() -> None:
    """Raise HookError if something is missing that is imported or run only after the fork, when nobody would see it."""
    for package in PACKAGES:
        if not any(finder.find_spec(package, None) for finder in sys.meta_path):
            raise HookError(missing_package(package))
    if not any(os.access(f"{directory}/bridge", os.X_OK) for directory in os.environ["PATH"].split(":")):
        raise HookError("bridge is not installed: install it with apt install iproute2 or dnf install iproute")
