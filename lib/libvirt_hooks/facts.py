# SPDX-License-Identifier: MIT
"""Looking at everything that a decision about a port needs, once: /sys, libvirt's records and the tickets.

libvirtd waits, so nothing is read that the decision can do without. Writes no file.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

from . import HookError, container_starts, libvirt_records, lifecycle, log, sysfs, taps, tickets, veths
from .decision import Facts
from .hookdata import parse_network_state
from .lifecycle import Known
from .wanted import uplinks_of, why_not_ours

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .hookdata import Domain, Network, Nic, Port
    from .interfaces import Kind
    from .tickets import Ticket


class Start(SimpleNamespace):
    """What was read about one NIC of a guest that is about to run."""

    nic: Nic
    port: Port | None  # None: it is no port of a network
    ticket: Ticket | None  # None: it is left alone, or the network hook was not called
    network: Network | None  # only where there is no ticket; None: libvirt has no record of it
    facts: Facts | None  # only where there is a network
    error: HookError | None  # what could not be read


def kind_of(port: Port) -> Kind:
    """Given a port that libvirt announces, return the kind of its interface: libvirt does not tell the network hook."""
    kind: Kind = taps
    if container_starts.is_starting(port) or libvirt_records.of_container(port.vm, port.vm_uuid):
        kind = veths
    return kind


def kind_now(ticket: Ticket) -> Kind:
    """Given the ticket of an interface that has not come, return its kind as libvirt's records are by now."""
    kind: Kind = ticket.kind
    if libvirt_records.of_container(ticket.vm, ticket.vm_uuid):
        kind = veths
    return kind


def kind_of_domain(domain: Domain) -> Kind:
    """Given a domain, return the kind of its NICs' interfaces."""
    kind: Kind = taps
    if domain.type == "lxc":
        kind = veths
    return kind


def of_announced(port: Port, network: Network) -> Facts:
    """Given a port that libvirt announces, and its network, return what is known about the port.

    The caller holds the NIC's lock.
    """
    assert port.kind is not None
    starts = container_starts.is_starting(port)
    own, stranger = ("", "") if starts else port.kind.announced(port)
    uncalled = ""
    if port.kind is taps and libvirt_records.is_defined_container(port.vm, port.vm_uuid):
        daemon = veths.daemon()
        uncalled = f"the {veths.HOOK} hook was not called: install it, systemctl restart {daemon}, and try again"
    its_tickets = tickets.of(port.bridge, tickets.key(port))
    found = of_port(port, network, own, [stranger] if stranger else [], its_tickets)
    found.starts, found.uncalled = starts, uncalled
    found.again = libvirt_records.has_port(network.name, port.uuid)
    found.used = libvirt_records.uses_port(port.vm, port.uuid)
    return found


def of_port(port: Port, network: Network, interface: str, strangers: list[str], its_tickets: list[Ticket]) -> Facts:
    """Given a port, its network, the NIC's interface ("": the guest does not run with it yet), interfaces of others
    that could be taken for it, and the tickets of the NIC's key, return what is known about the port.
    """
    try:
        uplinks = [sysfs.uplink(name) for name in uplinks_of(network)]
    except HookError:  # the decision says it
        uplinks = []
    return Facts(
        now=time.monotonic(), bridge=sysfs.bridge(port.bridge), uplinks=uplinks, interface=interface,
        strangers=strangers, known=[known(ticket) for ticket in its_tickets], starts=False, again=False, used=False,
        uncalled="",
    )  # fmt: skip


def of_start(domain: Domain) -> list[Start]:
    """Given a guest that is about to run, return what is known about each of its NICs."""
    return [_of_nic(domain, nic, kind_of_domain(domain)) for nic in domain.nics]


def known(ticket: Ticket) -> Known:
    """Given a ticket, return what is known about its port and its interface."""
    noted = libvirt_records.has_port(ticket.network, ticket.uuid)
    used = noted and not ticket.right and libvirt_records.uses_port(ticket.vm, ticket.uuid)
    return Known(ticket=ticket, noted=noted, lives=ticket.kind.lives(ticket), used=used)


def without_forgotten(its_tickets: list[Ticket]) -> list[Ticket]:
    """Given the tickets of one interface, oldest first, return them without those whose ports libvirt has forgotten."""
    forgotten = lifecycle.forgotten([known(ticket) for ticket in its_tickets]) if len(its_tickets) > 1 else []
    return [ticket for ticket in its_tickets if ticket not in forgotten]


def _of_nic(domain: Domain, nic: Nic, kind: Kind) -> Start:
    start = Start(nic=nic, port=None, ticket=None, network=None, facts=None, error=None)
    try:
        start.port = _port(domain, nic, kind)
        if start.port:
            start.port.kind = kind
            start.ticket = tickets.of_port(start.port)
            if start.ticket is None:
                start.network = _network(nic, start.port)
        if start.port and start.network:
            its_tickets = tickets.of(start.port.bridge, tickets.key(start.port))
            start.facts = of_port(start.port, start.network, "", kind.strangers(nic, start.port.bridge), its_tickets)
    except HookError as error:
        start.error = error
    return start


def _port(domain: Domain, nic: Nic, kind: Kind) -> Port | None:
    """Given a guest, a NIC of it and its kind, return the NIC's port, None if it has none, or none that matters."""
    try:
        return kind.port_at_start(domain, nic)
    except HookError as error:
        if nic.group or b"default='yes'" in libvirt_records.network_state(nic.network):
            raise
        log.warning(f"{log.nic(domain.name, nic.mac, '', '')}: left alone, because it has no portgroup: {error}")
        return None


def _network(nic: Nic, port: Port) -> Network | None:
    """Given a NIC and its port without a ticket, return the network as libvirt has a record of it, None if it matters
    not, because nothing names a portgroup.

    Raises HookError if the record is missing, and the NIC names a portgroup.
    """
    xml = libvirt_records.network_state(nic.network)
    if why_not_ours(port) or not (port.group or b"default='yes'" in xml):
        return None
    if not xml:
        raise HookError(
            f"the network hook was not called, and libvirtd has no record of network {nic.network} that says what "
            f"portgroup '{port.group}' means: systemctl restart {libvirt_records.network_daemon()}, and try again"
        )
    return parse_network_state(xml, port)
