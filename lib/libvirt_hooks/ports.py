# SPDX-License-Identifier: MIT
"""What the network hook does when libvirt announces a port or takes it back.

What libvirtd waits for ends with the fork. So all that can be refused is refused before: after it nobody sees anything.
"""

from __future__ import annotations

import os
import sys

from . import HookError, log, missing_package, sysfs, tickets
from .detach import detached
from .hookdata import Network, Port, parse_network, tap_address
from .portgroups import resolve, why_left_alone
from .statefiles import has_port, runs_with
from .tickets import Ticket
from .vlans import Vlans, to_text

PACKAGES = ("sh", "tenacity")  # imported after the fork


def port_created(xml: bytes) -> None:
    """Given the XML, leave the port alone, or refuse it with HookError, or have a detached process make it right."""
    network = parse_network(xml)
    port = network.port
    if port is None:
        raise HookError("port-created came without a <networkport>: this hook is for libvirt 5.5 or later")
    address, bridge = tap_address(port.mac), port.bridge
    tap = next(iter(sysfs.ports_with(address, bridge)), "")
    known = _without_those_of_gone_taps(tickets.of(bridge, address), tap, port)
    subject = f"{port.vm} {port.mac} {tap or '-'} {port.group or '-'}"

    try:
        reason = why_left_alone(port, network)
        vlans = None if reason else required_vlans(port, network, tap, known)
    except HookError as error:
        raise HookError(f"VM {port.vm}, NIC {port.mac}: {error}") from error
    if vlans is None:
        log.info(f"{subject}: left alone: {reason}")
        if tap and known:  # a live change, so that the tap has had VLANs of ours
            tickets.write(tickets.new(port, network.name, None, live=True))
        return

    ticket = tickets.new(port, network.name, vlans, live=bool(tap))
    for other in known:
        if other.uuid == port.uuid:  # said again: the daemon was restarted, and has not to decide on it
            ticket.created, ticket.live = other.created, other.live
    tickets.write(ticket)
    log.info(f"{subject}: to have {to_text(vlans)} on {bridge}")
    try:
        _follow(bridge, address, live=bool(tap))
    except HookError:
        if all(other.uuid != ticket.uuid for other in known):  # libvirt gives it up without a port-deleted
            tickets.remove(ticket)
        raise


def required_vlans(port: Port, network: Network, tap: str, known: list[Ticket]) -> Vlans:
    """Given a port that is not to be left alone, its network, its tap or "", and its tap's tickets, return its VLANs.

    Raises HookError if it cannot have them.
    """
    check_bridge(port.bridge)
    vlans = resolve(port, network, sysfs.default_pvid(port.bridge))
    _check_packages()
    _check_address(port, tap, known)
    return vlans


def port_deleted(xml: bytes) -> None:
    """Given the XML, forget the port, unless its tap lives on: then have a detached process keep that right."""
    port = parse_network(xml).port
    if port is None or not port.bridge:
        return
    file_name = tickets.path(port.mac, port.uuid)
    try:
        ticket = tickets.read(file_name)
    except FileNotFoundError:
        return
    except HookError:
        os.unlink(file_name)
        raise
    address = tap_address(port.mac)
    lives = bool(sysfs.interface_with(address, port.bridge))
    tickets.release(ticket, lives)
    if lives:
        _follow(port.bridge, address, live=True)


def _follow(bridge: str, address: str, live: bool) -> None:
    def work() -> None:
        from .convergence import follow  # imports sh and tenacity: not while libvirtd waits

        follow(bridge, address, live)

    detached(work)


def check_bridge(bridge: str) -> None:
    """Given a bridge's name, raise HookError if VLANs cannot be set there, or would have no effect."""
    if not sysfs.bridge_exists(bridge):
        raise HookError(f"there is no bridge {bridge}: create it, or correct <bridge name=…/> with virsh net-edit")
    if not sysfs.vlan_filtering(bridge):
        raise HookError(
            f"bridge {bridge} does not filter VLANs: turn that on with "
            f"ip link set dev {bridge} type bridge vlan_filtering 1"
        )


def _without_those_of_gone_taps(known: list[Ticket], tap: str, port: Port) -> list[Ticket]:
    """Given a tap's tickets, the tap or "" and a port, remove those that nobody has a use for, return the rest.

    A VM that ended without a port leaves one, and it must not count for the next tap with that address. Its own earlier
    ports are gone whatever libvirt's file says: a network daemon that was down then has kept that.
    """
    gone = [
        other
        for other in known
        if not tap
        and other.uuid != port.uuid
        and (other.vm_uuid == port.vm_uuid or not has_port(other.network, other.uuid))
    ]
    for other in gone:
        tickets.remove(other)
    return [other for other in known if other not in gone]


def _check_packages() -> None:
    """Find what is imported and run only after the fork, where its absence could not be told any more."""
    for package in PACKAGES:
        if not any(finder.find_spec(package, None) for finder in sys.meta_path):
            raise HookError(missing_package(package))
    if not any(os.access(f"{directory}/bridge", os.X_OK) for directory in os.environ["PATH"].split(":")):
        raise HookError("bridge is not installed: install it with apt install iproute2 or dnf install iproute")


def _check_address(port: Port, tap: str, known: list[Ticket]) -> None:
    """The tap is found by its address. One that another NIC has too would put that one into this one's VLAN."""
    others = [other for other in known if other.vm_uuid != port.vm_uuid and has_port(other.network, other.uuid)]
    if tap and not runs_with(port.vm, tap):
        taken = f"{tap} on {port.bridge}, which is not this VM's, has that address already"
    elif others:
        taken = f"VM {others[0].vm} has that address on {port.bridge} already"
    else:
        return
    raise HookError(f"{taken}: give one of the two another MAC address")
