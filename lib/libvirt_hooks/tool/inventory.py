# SPDX-License-Identifier: MIT
"""The NICs of the running VMs with their wanted and current VLANs, and the bridges that they use.

Changes nothing but the hooks' own notes, of uplinks and of refused starts. A NIC's wanted VLANs come from its ticket. A
NIC without a ticket gets what its portgroup says, as at its start.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from .. import HookError, bridge, facts, lifecycle, refusals, sysfs, tickets, uplinks
from ..decision import OTHER_NIC, decide
from ..hookdata import Domain, Nic, parse_domain, parse_identity, port_of
from ..refusals import Refusal
from ..tickets import Ticket
from ..vlans import Vlans, is_every
from ..wanted import bridge_fault, uplink_fault
from . import links, owners, repair, virsh
from .links import Link
from .model import MADE_PLAIN, BridgeState, NicState
from .networks import network_of, planned_port

UPLINKS = "uplinks."  # how the names of the files begin that note a bridge's uplinks
NO_NETWORK = "it is not a port of a libvirt network"


@dataclass(frozen=True)
class Seen:
    """What is read once for the NICs of all running VMs."""

    vlans: dict[str, Vlans]  # by tap
    tickets: dict[tuple[str, str], list[Ticket]]  # by bridge and the NIC's key
    defined: dict[str, Domain]  # the running guests as they are defined, by uuid


def running_nics() -> tuple[list[NicState], list[str]]:
    """Return the NICs of all running VMs and containers, and a sentence for each that has stopped in the meantime."""
    running = {uri: virsh.running(uri) for uri in virsh.drivers()}
    domains: list[Domain] = []
    defined: dict[str, Domain] = {}
    for uri, uuids in running.items():
        as_they_run, as_defined = virsh.both_domains(uuids, uri)
        domains += [domain for domain in _parsed(as_they_run) if domain.runs]
        defined.update(_that_can_be_read(as_defined))
    gone = sorted({uuid for uuids in running.values() for uuid in uuids}.difference(domain.uuid for domain in domains))
    lost = {domain.uuid for domain in domains for nic in domain.nics if nic.tap and not sysfs.ifindex(nic.tap)}
    if lost:
        still_there = [uuid for uri in running for uuid in virsh.running(uri)]
        gone += sorted(lost.difference(still_there))
    seen = Seen(bridge.vlans_of_all(), tickets.by_nic(), defined)
    nics = [_running(domain, nic, seen) for domain in domains if domain.uuid not in gone for nic in domain.nics]
    containers = running.get(virsh.LXC, [])
    return nics, [f"{'container' if uuid in containers else 'VM'} {uuid} has stopped in the meantime" for uuid in gone]


def planned_nics_of_all() -> list[NicState]:
    """Return the NICs of all defined VMs as they would be at their next start."""
    defined = [domain for uri in virsh.drivers() for domain in _all_defined(uri)]
    known = tickets.by_nic()
    return [_planned(domain, nic, known) for domain in defined for nic in domain.nics]


def planned_nics(vm: str) -> list[NicState]:
    """Given the name or uuid of a defined VM, return its NICs as they would be at its next start.

    Raises HookError if there is no such VM.
    """
    domain = _defined(vm)
    known = tickets.by_nic()
    return [_planned(domain, nic, known) for nic in domain.nics]


def bridges(nics: list[NicState]) -> list[BridgeState]:
    """Given the NICs of all running VMs, return the bridges that any of them uses."""
    current, found = bridge.vlans_of_all(), links.parsed(bridge.links())
    taps = {nic.tap for nic in nics}
    ours = {nic.port.bridge for nic in nics if nic.wanted is not None}
    states = map(sysfs.bridge, sorted({nic.port.bridge for nic in nics if nic.port.bridge}))
    used = []
    for state in states:
        named = {name for nic in nics if nic.port.bridge == state.name for name in _named(nic)}
        here = [name for name in sorted(named) if name in found and found[name].master == state.name]
        uplinks = {name: found[name] for name in dict.fromkeys([*links.uplinks(state.name, found, taps), *here])}
        one = BridgeState(
            name=state.name,
            fault="",
            default_pvid=state.default_pvid,
            uplinks={uplink: current.get(uplink, {}) for uplink in uplinks},
            exists=state.exists,
            filters_vlans=state.vlan_filtering,
        )
        if state.name in ours:
            one = _judged(one, bridge_fault(state), uplinks)
            others = [name for name, link in found.items() if link.master == state.name and name not in named]
            one = _with_named(one, named, _in_use([*others, state.name], nics, current))
        used.append(one)
    return used


def _with_named(one: BridgeState, named: set[str], in_use: set[int]) -> BridgeState:
    """Given a bridge, the uplinks that networks name there, and the VIDs that are in use on it, return the bridge with
    what may be wrong with these uplinks, and what they carry for nobody.
    """
    faults = [uplink_fault(sysfs.uplink(name), one.name) for name in sorted(named)]
    unused = {
        name: {vid: "" for vid, flags in one.uplinks[name].items() if vid not in in_use and not flags}
        for name in sorted(named & one.uplinks.keys())
    }
    return replace(one, uplink_faults=tuple(filter(None, faults)), unused=unused)


def _in_use(ports: list[str], nics: list[NicState], current: dict[str, Vlans]) -> set[int]:
    """Given bridge ports, the NICs of all running VMs and all current VLANs, return the VIDs that any of them is in,
    wants or will want.
    """
    states = [state for nic in nics for state in (nic, nic.planned) if state]
    return {
        vid
        for vlans in [*(current.get(name) for name in ports), *(state.wanted for state in states)]
        for vid in vlans or ()
    }


def _named(nic: NicState) -> list[str]:
    """Given a NIC, return the uplinks that its network names for it, now or at its next start."""
    now = nic.ticket.uplinks if nic.ticket else nic.uplinks
    return [*now, *(nic.planned.uplinks if nic.planned else ())]


def _judged(one: BridgeState, fault: str, uplinks: dict[str, Link]) -> BridgeState:
    """Given a bridge with NICs that have wanted VLANs, why it keeps VMs out of these, and its uplinks, return the
    bridge with what may be wrong with it.
    """
    return replace(
        one,
        fault=fault,
        down=tuple(name for name, link in uplinks.items() if not link.is_up),
        without_carrier=tuple(name for name, link in uplinks.items() if link.is_up and not link.has_carrier),
        lost=() if uplinks else tuple(_had_uplinks(one.name)),
    )


def with_blocked_vlans(nics: list[NicState]) -> list[NicState]:
    """Given NICs, return them with their VLANs that do not forward: only check asks for these."""
    blocked = bridge.blocked_vlans()
    return [replace(nic, blocked=blocked[nic.tap]) if nic.tap in blocked else nic for nic in nics]


def with_lasting(bridges: list[BridgeState]) -> list[BridgeState]:
    """Given bridges, return them with what makes changes to them last: only check asks for that."""
    return [
        replace(
            one,
            lasting=owners.lasting(one.name),
            uplinks_lasting=owners.lasting(next(iter(one.uplinks))) if one.uplinks else "",
        )
        for one in bridges
    ]


def note_uplinks(bridges: list[BridgeState]) -> None:
    """Given bridges, note in /run which uplinks they have: a later check() can then tell that one has lost them."""
    for one in bridges:
        if one.uplinks and list(one.uplinks) != _had_uplinks(one.name):
            with suppress(OSError):  # only the next note is late
                Path(tickets.DIRECTORY).mkdir(mode=0o700, exist_ok=True)
                Path(tickets.DIRECTORY, UPLINKS + one.name).write_text("\n".join(one.uplinks))


def _had_uplinks(name: str) -> list[str]:
    try:
        return Path(tickets.DIRECTORY, UPLINKS + name).read_text().split()
    except OSError:
        return []


def refused_starts(nics: list[NicState]) -> list[Refusal]:
    """Given the NICs of all running guests, return the refused starts of guests that are defined and do not run."""
    noted = refusals.noted()
    if not noted:
        return []
    defined = {uuid for uri in virsh.drivers() for uuid in virsh.defined(uri)}
    running = {nic.port.vm_uuid for nic in nics}  # a guest that was refused has a NIC
    for refusal in noted:
        if refusal.vm_uuid not in defined:
            refusals.forget(refusal.vm_uuid)
    return [refusal for refusal in noted if refusal.vm_uuid in defined - running]


def _running(domain: Domain, nic: Nic, seen: Seen) -> NicState:
    """Given a running VM, one of its NICs and what has been read for all of them, return the NIC's state."""
    state = _as_it_runs(domain, nic, seen)
    definition = seen.defined.get(domain.uuid)
    its_own = [one for one in definition.nics if one.mac == nic.mac] if definition else []
    is_doubled = len(its_own) > 1 or sum(one.mac == nic.mac for one in domain.nics) > 1
    if definition is None:
        return replace(state, unplanned="its VM's definition cannot be read")
    if is_doubled:
        return replace(state, unplanned=f"two NICs of {domain.name} have its MAC address: {OTHER_NIC}", is_doubled=True)
    if not its_own:
        return replace(state, unplanned=f"the definition of {domain.name} has no NIC with its MAC address")
    if state.made_plain and not its_own[0].network:  # a transient VM's definition is what runs
        return replace(state, unplanned=f"the definition of {domain.name} has no network for it")
    return _with_uplinks(replace(state, planned=_planned(definition, its_own[0], seen.tickets, nic.tap)), seen)


def _with_uplinks(nic: NicState, seen: Seen) -> NicState:
    """Given a running NIC and what has been read for all of them, return the NIC with the uplinks that its network
    names by now, and what these lack.
    """
    ticket, planned = nic.ticket, nic.planned
    if ticket is None or nic.wanted is None:
        return nic
    names_others = planned and planned.wanted is not None and list(planned.uplinks) != ticket.uplinks
    if planned and names_others and planned.network == nic.network and not is_every(nic.wanted):
        ticket = Ticket(**{**vars(ticket), "uplinks": list(planned.uplinks)})
        nic = replace(nic, ticket=ticket, has_new_uplinks=True)
    return replace(nic, not_carried=uplinks.lacking(ticket, seen.vlans))


def _as_it_runs(domain: Domain, nic: Nic, seen: Seen) -> NicState:
    """Given a running VM, one of its NICs and what has been read for all of them, return the NIC's state of now."""
    port, network = port_of(domain, nic), nic.network
    port.kind = facts.kind_of_domain(domain)
    known = seen.tickets.get((port.bridge, tickets.key(port)), [])
    ticket = lifecycle.applies([one for one in known if one.vm_uuid == domain.uuid], time.monotonic())
    if ticket and ticket.released and ticket.right != (nic.tap, sysfs.ifindex(nic.tap)):
        ticket = None  # an earlier tap's: libvirt calls no hook when a VM ends without a port
    definition = seen.defined.get(domain.uuid) if port.kind.CHANGES_LIVE else None  # as only libvirt itself can
    defined = definition.nics if definition else []
    made_plain = _is_plain(nic) and bool(ticket or any(one.mac == nic.mac and one.network for one in defined))
    if made_plain and ticket:  # nothing else knows the network any more
        network = ticket.network
    if ticket and ticket.vlans is not None:  # the ticket says, too, if the portgroup is the network's default one
        port.group = ticket.group
    on_bridge = port.bridge and sysfs.master(nic.tap) == port.bridge
    state = NicState(
        port=port,
        network=network,
        tap=nic.tap,
        wanted=ticket.vlans if ticket else None,
        current=seen.vlans.get(nic.tap, {}) if on_bridge else None,
        reason=MADE_PLAIN if made_plain else "",
        refused=False,
        made_plain=made_plain,
        ticket=ticket,
        is_default=bool(ticket and ticket.is_default),
    )
    if not made_plain and state.wanted is None:
        return _decided(state, known, nic.tap)
    if ticket is None or state.wanted is None or state.current != state.wanted:
        return state
    try:
        return replace(state, not_whole=repair.what_is_not_whole(ticket, nic.tap))
    except HookError as error:
        return replace(state, not_whole=str(error))


def _planned(domain: Domain, nic: Nic, known: dict[tuple[str, str], list[Ticket]], tap: str = "") -> NicState:
    """Given a VM, one of its NICs, all tickets by bridge and key, and the NIC's tap if that is known, return the NIC's
    state as it would be at the VM's next start.
    """
    xml = _network(nic.network) if nic.network else b""
    port = planned_port(domain, nic, xml) if xml else port_of(domain, nic)
    port.kind = facts.kind_of_domain(domain)
    state = NicState(port, nic.network, tap, None, None, "", refused=False, made_plain=False, ticket=None)
    others = known.get((port.bridge, tickets.key(port)), [])
    return _decided(state, [one for one in others if one.vm_uuid != domain.uuid], "")


def _decided(nic: NicState, known: list[Ticket], interface: str) -> NicState:
    """Given a NIC, the tickets of the NIC's key, and the NIC's interface ("": as at the next start), return the NIC
    with the hooks' decision. No ticket gives this NIC VLANs.
    """
    if not nic.network:
        return replace(nic, reason=NO_NETWORK)
    port = nic.port
    assert port.kind is not None
    try:
        xml = _network(nic.network)
        if not xml:
            raise HookError(f"there is no network {nic.network}: define it, or correct the VM with virsh edit")
        network = network_of(port, xml)
        own, stranger = port.kind.announced(port) if port.bridge and not nic.tap else (nic.tap, "")
        found = facts.of_port(port, network, interface, [stranger] if stranger else [], known)
    except HookError as error:
        return replace(nic, reason=str(error), refused=True)
    decision = decide(port, network, found)
    nic, tap = replace(nic, uplinks=tuple(decision.uplinks)), nic.tap or own
    if nic.ticket:  # the ticket says so, whatever the network has become since
        return replace(nic, tap=tap, reason=decision.left_alone or "a live change has left it without wanted VLANs")
    if decision.vlans is None or decision.ticket is None:
        reason, refused = decision.left_alone or decision.refused, bool(decision.refused)
        return replace(
            nic, tap=tap, reason=reason, refused=refused, waits=decision.waits, is_bridges=decision.is_bridges
        )
    port.group = decision.group
    decision.ticket.live = False  # it has started already
    return replace(nic, tap=tap, wanted=decision.vlans, decided=decision.ticket, is_default=decision.is_default)


def _is_plain(nic: Nic) -> bool:
    """Given a running VM's NIC, return whether it is on a bridge without being a port of a network."""
    return nic.kind == "bridge" and not nic.network


def _defined(vm: str) -> Domain:
    """Given a VM's name or uuid, return the VM as it is defined. Raises HookError if there is no such VM."""
    for uri in virsh.drivers():
        xml = virsh.domain(vm, "--inactive", uri=uri)
        found = _parsed({vm: xml} if xml else {})
        if not any(vm in (domain.name, domain.uuid) for domain in found):  # virsh takes a number for an id first
            found = _all_defined(uri)
        for domain in found:
            if vm in (domain.name, domain.uuid):
                return domain
    raise HookError(f"there is no VM or container {vm}: virsh list --all lists them")


def _that_can_be_read(definitions: dict[str, bytes]) -> dict[str, Domain]:
    """Given definitions by uuid, return those that can be read: a running guest does not depend on its own."""
    found = {}
    for uuid, xml in definitions.items():
        with suppress(HookError):
            found[uuid] = parse_domain(xml)
    return found


def _all_defined(uri: str) -> list[Domain]:
    """Given a driver's URI, return its VMs or containers as they are defined."""
    return _parsed(virsh.domains(virsh.defined(uri), "--inactive", uri=uri))


def _parsed(domains: dict[str, bytes]) -> list[Domain]:
    """Given the XML of VMs by uuid, return the VMs."""
    return [parse_domain(xml, f"the XML of VM {uuid}") for uuid, xml in domains.items()]


def _network(name: str) -> bytes:
    """Given a network's name, return its XML, b"" if there is no such network."""
    return _networks().get(name, b"") or virsh.network(name)


@cache
def _networks() -> dict[str, bytes]:
    """Return the XML of all networks by name, without any that cannot be read: a NIC that needs it gets the error."""
    found = {}
    for xml in virsh.networks():
        try:
            found[parse_identity(xml).name] = xml
        except HookError:
            continue
    return found
