# SPDX-License-Identifier: MIT
"""What becomes of a port: left alone, refused, or given these VLANs. Pure: facts.py has read all that is needed.

The network hook, the qemu and lxc hooks where the network hook was not called, and all of the tool's commands that look
at NICs ask decide().
"""

from __future__ import annotations

from types import SimpleNamespace

from . import HookError, lifecycle, tickets
from .vlans import is_every
from .wanted import bridge_fault, resolve, uplink_fault, uplinks_of, why_not_ours

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from .hookdata import Domain, Network, Nic, Port
    from .lifecycle import Known
    from .sysfs import Bridge, Uplink
    from .tickets import Ticket
    from .vlans import Vlans

OTHER_ADDRESS = "give one of the two another MAC address"
OTHER_NIC = "give one of the two NICs another MAC address"


class Facts(SimpleNamespace):
    """What was read for the decision about one port, at one time."""

    now: float  # seconds, time.monotonic()
    bridge: Bridge
    uplinks: list[Uplink]  # that the network names
    interface: str  # the NIC's interface on the host, "" if the guest does not run with it yet
    strangers: list[str]  # interfaces of others that could be taken for the NIC's
    known: list[Known]  # the tickets of the NIC's key on the bridge, the oldest first
    starts: bool  # the guest's own hook sets the VLANs before the guest runs: nobody waits for the interface
    again: bool  # libvirt announces a port that it had a record of: its daemon has just been started
    used: bool  # libvirt's record of the running guest names the port
    uncalled: str  # what to say if libvirt has not called the hook that should have come before, else ""


class Decision(SimpleNamespace):
    """What becomes of a port."""

    vlans: Vlans | None  # its wanted VLANs, None if it is left alone or refused
    left_alone: str  # why it is left alone, "" if it is not
    refused: str  # why it cannot have its wanted VLANs, "" if it can
    is_bridges: bool  # it is refused because of its bridge or an uplink, and so is every other port there
    waits: bool  # it is left alone until the guest starts again
    group: str  # the portgroup whose VLANs these are, "" if there is none
    is_default: bool  # that is the network's default portgroup: the NIC names none
    applied_over: str | None  # the portgroup that libvirt-vlan apply has replaced, None if it has not
    uplinks: list[str]  # that are to carry these VLANs
    ticket: Ticket | None  # to be written
    gone: list[Ticket]  # to be removed


def decide(port: Port, network: Network, facts: Facts) -> Decision:
    """Given a port, the port's network and what is known about the port, return what becomes of the port."""
    group = port.group or network.default_group  # source: libvirt, docs/formatnetwork.rst, "Portgroups"
    decision = Decision(
        vlans=None, left_alone="", refused="", is_bridges=False, waits=False, group=group,
        is_default=bool(group) and not port.group, applied_over=None, uplinks=[], ticket=None, gone=[],
    )  # fmt: skip
    decision.left_alone = _why_kept(port, facts)
    if decision.left_alone:
        return decision
    if not facts.interface and not facts.strangers:
        decision.gone = lifecycle.gone(facts.known, port.uuid, port.vm_uuid, facts.now)
    known = [one for one in facts.known if one.ticket not in decision.gone]
    own = [one for one in known if one.ticket.vm_uuid == port.vm_uuid]
    applied = _applied(port, facts, own)
    if applied:
        decision.group, decision.is_default = applied.group, applied.is_default
        decision.applied_over = applied.applied_over
    try:
        decision.left_alone = why_not_ours(port) if applied else _why_left_alone(port, facts, own, decision)
        if not decision.left_alone:
            decision.vlans = applied.vlans if applied else resolve(group, network, facts.bridge.default_pvid)
            if decision.vlans is None:
                decision.left_alone = f"portgroup {group} names no VID"
            else:
                named = applied.uplinks if applied else uplinks_of(network)
                decision.uplinks = [] if is_every(decision.vlans) else named
                fault = bridge_fault(facts.bridge) or _uplink_fault(facts, decision.uplinks)
                decision.is_bridges = bool(fault)
                decision.refused = fault or _why_refused(port, facts, known, own)
    except HookError as error:
        decision.refused = str(error)
    if decision.refused:
        decision.vlans = None
        return decision
    if decision.vlans is not None or (facts.interface and own):
        decision.ticket = _ticket(port, network, facts, decision, known)
    return decision


def name_clash(port: Port, stranger: str) -> str:
    """Given a port and another guest's interface that can be taken for its own, return the sentence about it."""
    return f"{stranger} on {port.bridge}, which is not this VM's, has that address already: {OTHER_ADDRESS}"


def why_not_beside(domain: Domain, nic: Nic, known: list[Known], interface: tuple[str, int], now: float) -> str:
    """Given a guest that is about to run, a NIC of it that is left alone, what is known of the tickets of the NIC's
    key, the NIC's interface and time.monotonic(), return why the guest must not run, or "".

    A process that waits for another guest's interface knows that by its address alone.
    """
    for one in known:
        other = one.ticket
        waits = not other.right and other.vm_uuid != domain.uuid and lifecycle.is_granted(one, now)
        if other.vlans is not None and (waits or other.right == interface):
            return _has_that_address(one)
    return ""


def why_not_both(port: Port, others: list[Port]) -> str:
    """Given a port and those of the same guest's other NICs, return why the guest must not run with both, or "".

    Only the key tells two NICs apart, for example two taps of one address.
    """
    for other in others:
        if other.bridge == port.bridge and tickets.key(other) == tickets.key(port):
            return f"NIC {other.mac} has the same last five bytes on the same bridge: {OTHER_NIC}"
    return ""


def _applied(port: Port, facts: Facts, own: list[Known]) -> Ticket | None:
    """Given a port, what is known and what is known of its guest's tickets, return the ticket that libvirt-vlan apply
    has written for the running NIC, None if there is none, or if libvirt now announces another portgroup than before.

    libvirt's live XML keeps the portgroup that the guest was started with. A daemon that is restarted announces that.
    """
    for one in own:
        right = one.ticket.right
        if right and right[0] == facts.interface and one.lives and one.ticket.applied_over == port.group:
            return one.ticket
    return None


def _why_left_alone(port: Port, facts: Facts, own: list[Known], decision: Decision) -> str:
    """Given a port, what is known, what is known of its guest's tickets and the decision so far, return why the port is
    left alone whatever its portgroup says, or "".

    A guest that runs without its network's default portgroup keeps its VLANs: an upgrade of the hooks must not move it.
    """
    reason = why_not_ours(port)
    if reason:
        return reason
    if not decision.group:
        return "it has no portgroup"
    if facts.interface and not own and decision.is_default:
        decision.waits = True
        return f"it runs without the network's default portgroup: {decision.group} will apply when its VM next starts"
    return ""


def _why_refused(port: Port, facts: Facts, known: list[Known], own: list[Known]) -> str:
    """Given a port that is to have VLANs, what is known about the port, the tickets that stay, and those of the port's
    guest among these tickets, return why the port cannot have the VLANs, or "".

    An interface is found by its address: if two had the same, one would get the other's VLANs.
    """
    assert port.kind is not None
    others = [one for one in own if one.ticket.uuid != port.uuid and one.lives]
    if facts.uncalled:
        return facts.uncalled
    if others and not facts.interface and not port.kind.CHANGES_LIVE:  # libvirt allows two (seen on 9.0)
        return f"the {port.kind.GUEST} has a NIC with that address already: {OTHER_ADDRESS}"
    if facts.strangers:
        return name_clash(port, facts.strangers[0])
    for one in known:
        if one.ticket.vm_uuid != port.vm_uuid and lifecycle.is_granted(one, facts.now):
            return _has_that_address(one)
    return ""


def _uplink_fault(facts: Facts, uplinks: list[str]) -> str:
    """Given what is known and the uplinks that are to carry a port's VLANs, return why one of them cannot, or "".

    A guest that runs goes on: the process that sets the VLANs warns.
    """
    faults = [uplink_fault(one, facts.bridge.name) for one in facts.uplinks if one.name in uplinks]
    return "" if facts.interface else next(filter(None, faults), "")


def _why_kept(port: Port, facts: Facts) -> str:
    """Given a port and what is known about it, return why the port is its guest's no more, or "".

    A network daemon that is started announces all ports that it has a record of. A guest that ended while the daemon
    was away, or whose start failed then, has left such a record.
    """
    assert port.kind is not None
    its = next((one for one in facts.known if one.ticket.uuid == port.uuid), None)
    if its and its.lives:
        return ""
    has_ended = bool(its and its.ticket.right)
    may_start = bool(its and facts.now - its.ticket.created < lifecycle.START_SECONDS)
    is_unused = facts.again and not facts.used and not may_start
    if not facts.interface and (has_ended or is_unused):
        return f"its {port.kind.INTERFACE} is gone: libvirt has kept the port of a guest that has ended"
    if is_unused:
        return f"the {port.kind.GUEST} runs with another port: libvirt has kept this one of an earlier run"
    return ""


def _has_that_address(other: Known) -> str:
    """Given what is known of the ticket of another guest that has a NIC's address, return the sentence about it.

    Without an interface and a record of the guest, a start that goes on looks as one that has failed.
    """
    ticket = other.ticket
    sentence = f"{tickets.guest(ticket)} has that address on {ticket.bridge} already: {OTHER_ADDRESS}"
    if ticket.right or other.used or not other.noted:
        return sentence
    from shlex import quote  # imports re: only for a refusal

    command = f"virsh -c network:///system net-port-delete {quote(ticket.network)} {ticket.uuid}"
    return f"{sentence}; if {tickets.guest(ticket)} does not start, {command} removes what libvirt has kept of it"


def _ticket(port: Port, network: Network, facts: Facts, decision: Decision, known: list[Known]) -> Ticket:
    """Given a port, its network, what is known, the decision and what is known of the tickets that stay, return the
    port's ticket: that of an earlier announcement, if libvirt's daemon was restarted, with the VLANs of now.
    """
    assert port.kind is not None
    ticket = tickets.Ticket(
        uuid=port.uuid, vm=port.vm, vm_uuid=port.vm_uuid, kind=port.kind, mac=port.mac, bridge=port.bridge,
        network=network.name, group=decision.group, is_default=decision.is_default,
        applied_over=decision.applied_over, vlans=decision.vlans, uplinks=decision.uplinks,
        isolated=port.isolated, fdb_managed=port.fdb_managed and port.kind.HAS_FDB_MANAGER,
        live=bool(facts.interface), created=facts.now, released=False, right=None, interface=None, bridge_index=0,
        link_down=False,
    )  # fmt: skip
    for one in known:
        if one.ticket.uuid == port.uuid:
            ticket.created, ticket.live = one.ticket.created, one.ticket.live
            ticket.right, ticket.bridge_index = one.ticket.right if one.lives else None, one.ticket.bridge_index
            ticket.link_down = one.ticket.link_down
    return ticket
