# SPDX-License-Identifier: MIT
"""What there is: the NICs of the running VMs, with the VLANs that they are to have and have, and their bridges.

Looks only. What a NIC is to have says its ticket, as for the hooks; without one, portgroups, as at its start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache

from . import HookError, bridge, ports, sysfs, tickets, virsh
from .hookdata import Port, parse_definition, tap_address
from .interfaces import Interface, network_of, parse_domain, planned_port, running_port
from .portgroups import why_left_alone
from .tickets import Ticket
from .vlans import Vlans

NO_NETWORK = "it is no port of a libvirt network"
MADE_PLAIN = "libvirt has made it a plain bridge NIC, as virsh domif-setlink does"


@dataclass(frozen=True)
class Nic:
    """A NIC of a VM, what it is to have and what it has."""

    port: Port
    network: str
    tap: str
    wanted: Vlans | None  # None: its VLANs are not ours to set, or it cannot have them
    found: Vlans | None  # None: it is not on its bridge
    reason: str  # why wanted is None
    refused: bool  # it cannot have them
    made_plain: bool  # libvirt has forgotten that it is a port of a network
    ticket: Ticket | None  # the one that counts


@dataclass(frozen=True)
class Bridge:
    """A bridge that VMs use."""

    name: str
    fault: str  # why it keeps VMs out of their VLANs, "" if it does not
    default_pvid: int
    uplinks: dict[str, Vlans]  # its ports that are no VM's


def running_nics() -> tuple[list[Nic], list[str]]:
    """Return the NICs of all running VMs, and what is to be said of VMs that went away while they were looked at."""
    interfaces, gone = [], []
    for uuid in virsh.running():
        runs, found = _domain(uuid)
        if runs:
            interfaces += found
        else:
            gone.append(uuid)
    lost = {nic.vm_uuid for nic in interfaces if nic.tap and not sysfs.ifindex(nic.tap)}
    if lost:
        still_there = virsh.running()
        gone += sorted(lost.difference(still_there))
        interfaces = [nic for nic in interfaces if nic.vm_uuid not in gone]
    shown = bridge.vlans_of_all()
    return [_nic(nic, shown) for nic in interfaces], [f"VM {uuid} went away meanwhile" for uuid in gone]


def planned_nics(vm: str) -> list[Nic]:
    """Given the name or uuid of a defined VM, return its NICs as they would be at its next start.

    Raises HookError if there is no such VM.
    """
    return [_planned(nic) for nic in _defined(vm)]


def bridges(nics: list[Nic]) -> list[Bridge]:
    """Given the NICs of all running VMs, return the bridges that any of them uses."""
    shown = bridge.vlans_of_all()
    taps = {nic.tap for nic in nics}
    ours = {nic.port.bridge for nic in nics if nic.wanted is not None}
    return [
        Bridge(
            name=name,
            fault=_fault(name) if name in ours else "",
            default_pvid=sysfs.default_pvid(name),
            uplinks={port: shown.get(port, {}) for port in sorted(sysfs.ports(name)) if port not in taps},
        )
        for name in sorted({nic.port.bridge for nic in nics if nic.port.bridge})
    ]


def _nic(interface: Interface, shown: dict[str, Vlans]) -> Nic:
    """Given a running VM's NIC and the VLANs of all ports, return it with what it is to have and has."""
    port, network = running_port(interface), interface.network
    known = tickets.of(port.bridge, tap_address(port.mac)) if port.bridge else []
    ticket = tickets.counting(known, time.monotonic())
    if ticket and ticket.released and ticket.right != (interface.tap, sysfs.ifindex(interface.tap)):
        ticket = None  # of an earlier tap: nothing is called when a VM ends without a port
    made_plain = interface.kind == "bridge" and not network and _was_port(port, ticket)
    if made_plain and ticket:  # all that still knows
        port.group, network = ticket.group, ticket.network
    on_bridge = port.bridge and sysfs.master(interface.tap) == port.bridge
    nic = Nic(
        port=port,
        network=network,
        tap=interface.tap,
        wanted=ticket.vlans if ticket else None,
        found=shown.get(interface.tap, {}) if on_bridge else None,
        reason=MADE_PLAIN if made_plain else "",
        refused=False,
        made_plain=made_plain,
        ticket=ticket,
    )
    return nic if made_plain or nic.wanted is not None else _decided(nic, known)


def _planned(interface: Interface) -> Nic:
    xml = _network(interface.network) if interface.network else b""
    port = planned_port(interface, xml) if xml else running_port(interface)
    address = tap_address(port.mac)
    tap = next(iter(sysfs.ports_with(address, port.bridge)), "")
    nic = Nic(port, interface.network, tap, None, None, "", refused=False, made_plain=False, ticket=None)
    return _decided(nic, tickets.of(port.bridge, address) if port.bridge else [])


def _decided(nic: Nic, known: list[Ticket]) -> Nic:
    """Given a NIC and its tap's tickets, return it with what the network hook decides of it."""
    if not nic.network:
        return replace(nic, reason=NO_NETWORK)
    try:
        xml = _network(nic.network)
        if not xml:
            raise HookError(f"there is no network {nic.network}: define it, or correct the VM with virsh edit")
        network = network_of(nic.port, xml)
        reason = why_left_alone(nic.port, network)
        if nic.ticket:  # it says so, whatever the network has become since
            return replace(nic, reason=reason or "a live change has left it without VLANs of ours")
        wanted = None if reason else ports.required_vlans(nic.port, network, nic.tap, known)
        return replace(nic, wanted=wanted, reason=reason)
    except HookError as error:
        return replace(nic, reason=str(error), refused=True)


def _was_port(port: Port, ticket: Ticket | None) -> bool:
    """Given a plain bridge NIC's port and ticket, return whether it is defined as a port of a network."""
    if ticket:
        return True
    return any(nic.mac == port.mac and nic.network for nic in _configured(port.vm_uuid))


def _defined(vm: str) -> list[Interface]:
    """Given a VM's name or uuid, return the NICs of its definition. Raises HookError if there is no such VM."""
    for uuid in (vm, *virsh.defined()):  # to virsh, a number is first of all the id of a running VM
        xml = virsh.domain(uuid, "--inactive")
        definition = parse_definition(xml) if xml else None
        if definition and vm in (definition.name, definition.uuid):
            return parse_domain(xml)[1]
    raise HookError(f"there is no VM {vm}: virsh list --all names them")


@cache
def _configured(uuid: str) -> list[Interface]:
    """Given a VM's uuid, return the NICs of its definition, none if it is transient."""
    xml = virsh.domain(uuid, "--inactive")
    return parse_domain(xml)[1] if xml else []


def _domain(uuid: str) -> tuple[bool, list[Interface]]:
    """Given a VM's uuid, return whether it runs, and its NICs."""
    xml = virsh.domain(uuid)
    return parse_domain(xml) if xml else (False, [])


@cache
def _network(name: str) -> bytes:
    return virsh.network(name)


def _fault(name: str) -> str:
    try:
        ports.check_bridge(name)
    except HookError as error:
        return str(error)
    return ""
