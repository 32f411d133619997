# SPDX-License-Identifier: MIT
"""What the network hook does when libvirt announces a port or takes it back.

libvirtd waits until the fork. Whatever can be refused is refused before, because nobody sees an error afterwards.
"""

from __future__ import annotations

import os
import sys
import time

from . import HookError, containers, interfaces, log, missing_package, sysfs, tickets
from .detach import run_detached
from .hookdata import Network, Port, parse_network
from .statefiles import is_defined_container, lxc_daemon, runs_with
from .tickets import Ticket
from .vlans import to_text
from .wanted import shown_group, waits_for_restart, wanted_vlans, why_left_alone

PACKAGES = ("sh", "tenacity")  # imported after the fork
LOCK_SECONDS = 5  # a detached process that types holds the lock for some milliseconds


def port_created(xml: bytes) -> None:
    """Given the XML, leave the port alone, or refuse it with HookError, or have a detached process set its VLANs."""
    network = parse_network(xml)
    port = network.port
    if port is None:
        raise HookError("port-created came without a <networkport>: these hooks need libvirt 5.5 or later")
    starts = containers.is_starting(port)
    port.container = starts or interfaces.owner_is_container(port)
    tap = "" if starts else interfaces.of_port(port)
    try:
        reason = why_left_alone(port, network) or _accept(port, network, tap, starts)
    except HookError as error:
        containers.forget_start(port.vm_uuid)  # libvirt gives the start up
        raise HookError(f"{tickets.guest(port)}, NIC {port.mac}: {error}") from error
    if reason:
        log.info(f"{log.nic(port.vm, port.mac, tap, shown_group(port, network))}: left alone: {reason}")
        known = _forget_gone_taps(port, tap)
        # a live change: the tap has VLANs from an earlier ticket
        if tap and any(other.vm_uuid == port.vm_uuid for other in known):
            tickets.write(tickets.new(port, network.name, None, live=True))


def _accept(port: Port, network: Network, tap: str, container_starts: bool) -> str:
    """Given a port, its network and its tap or "", write the port's ticket and start the detached process.

    A container that starts needs no such process: the lxc hook's `start` sets the VLANs, and nothing runs before that.
    Return why the port is left alone after all, or "". Raises HookError if the port cannot have its wanted VLANs.
    """
    lock = _wait_for_lock(tickets.key(port))  # two hooks at once must not both find the address free
    try:
        known = _forget_gone_taps(port, tap)
        reason = waits_for_restart(port, network) if tap and not known else ""
        if reason:
            return reason
        vlans = wanted_vlans(port, network, sysfs.bridge(port.bridge))
        _check_programs()
        _check_container(port, tap, known)
        tickets.check_address(port, tap, known)
        port.group = shown_group(port, network)
        ticket = tickets.new(port, network.name, vlans, live=bool(tap))
        for other in known:
            if other.uuid == port.uuid:  # the daemon was restarted and announces a port that it has already granted
                ticket.created, ticket.live, ticket.bridge_index = other.created, other.live, other.bridge_index
                ticket.right = other.right if interfaces.anywhere(other) else None
        if port.container:
            tickets.write_as_containers(ticket)
        else:
            tickets.write(ticket)
    finally:
        os.close(lock)
    log.info(f"{tickets.subject(ticket, tap)}: wanted on {port.bridge}: {to_text(vlans)}")
    try:
        if not tap:  # one that has come meanwhile is another VM's: libvirt makes this VM's later
            tickets.check_address(port, interfaces.of_port(port), [])
        if not container_starts:
            _start_detached(ticket, live=bool(tap))
    except HookError:
        if all(other.uuid != ticket.uuid for other in known):  # libvirt gives the port up without a port-deleted
            tickets.remove(ticket)
        raise
    return ""


def port_deleted(xml: bytes) -> None:
    """Given the XML, forget the port. If its tap lives on, have a detached process keep the tap's VLANs as they are."""
    port = parse_network(xml).port
    if port is None or not port.bridge:
        return
    port.container = not os.path.exists(tickets.path(port))  # libvirt does not say; the name of the ticket does
    file_name = tickets.path(port)
    try:
        ticket = tickets.read(file_name)
    except FileNotFoundError:
        return
    except HookError:
        os.unlink(file_name)
        raise
    tap = interfaces.anywhere(ticket)
    # libvirt has no live change of a container's NIC that takes a port back (seen on 9.0)
    lives = bool(tap) and not ticket.container and bool(ticket.right or runs_with(ticket.vm, tap))
    tickets.release(ticket, lives)
    if lives:
        _start_detached(ticket, live=True)


def _start_detached(ticket: Ticket, live: bool) -> None:
    def work() -> None:
        from .taps import wait_and_set_vlans  # imports sh and tenacity: not while libvirtd waits

        wait_and_set_vlans(ticket.bridge, tickets.key(ticket), live)

    run_detached(work)


def _wait_for_lock(nic_key: str) -> int:
    """Take the lock of a NIC's key, return its descriptor. Raises HookError if that takes LOCK_SECONDS."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return tickets.take_lock(nic_key)
        except BlockingIOError:
            if time.monotonic() > end:
                raise HookError("another hook process is changing this NIC's port: try again") from None
            time.sleep(0.02)


def _forget_gone_taps(port: Port, tap: str) -> list[Ticket]:
    """Given a port and its tap or "", remove the tickets of the tap's address whose taps are gone, return the rest.

    A VM that ended without a port leaves a ticket, which must not apply to the next tap with that address. The earlier
    ports of the same NIC are gone even if libvirt's file of them is there: a network daemon that was down has kept it.
    """
    known = tickets.of(port.bridge, tickets.key(port))
    gone = [
        other
        for other in known
        if not tap and other.uuid != port.uuid and (other.vm_uuid == port.vm_uuid or not tickets.is_granted(other))
        and not (other.container and interfaces.anywhere(other))
    ]  # fmt: skip
    for other in gone:
        tickets.remove(other)
    return [other for other in known if other not in gone]


def _check_container(port: Port, tap: str, known: list[Ticket]) -> None:
    """Raise HookError if a container starts and the lxc hook was not called: it would run before it has its VLANs.

    So, too, if a NIC is plugged into a container that has one with that MAC address: libvirt allows two (seen on 9.0).
    """
    own = [other for other in known if other.vm_uuid == port.vm_uuid and other.uuid != port.uuid]
    if port.container and not tap and any(map(interfaces.anywhere, own)):
        raise HookError("the container has a NIC with that address already: give one of the two another MAC address")
    if not port.container and is_defined_container(port.vm, port.vm_uuid):
        daemon = lxc_daemon()
        raise HookError(f"the lxc hook was not called: install it, systemctl restart {daemon}, and try again")


def _check_programs() -> None:
    """Raise HookError if something is missing that is imported or run only after the fork, when nobody would see it."""
    for package in PACKAGES:
        if not any(finder.find_spec(package, None) for finder in sys.meta_path):
            raise HookError(missing_package(package))
    if not any(os.access(f"{directory}/bridge", os.X_OK) for directory in os.environ["PATH"].split(":")):
        raise HookError("bridge is not installed: install it with apt install iproute2 or dnf install iproute")
