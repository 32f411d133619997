# SPDX-License-Identifier: MIT
"""Who is in which VLAN: inventory's NICs the other way round. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from ..vlans import is_every
from .model import LEFT_ALONE, REFUSED, RIGHT, BridgeState, NicState, users_of_missing_vlans

MISSING, SURPLUS, OTHER_FLAGS = "missing", "surplus", "other flags"


@dataclass(frozen=True)
class Member:
    """A NIC and one VLAN that its tap is in, or should be in."""

    nic: NicState
    current: str | None  # the VLAN's flags, None: the tap is not in the VLAN
    wanted: str | None  # None: the NIC does not want the VLAN


@dataclass(frozen=True)
class VlanUse:
    """Neighbouring VLANs of a bridge that have the same members and uplinks; mostly that is one VLAN."""

    bridge: BridgeState
    first: int
    last: int
    members: list[Member]
    uplinks: list[str]  # those that carry it


def vlans_in_use(nics: list[NicState], bridges: list[BridgeState], asked: list[int]) -> list[VlanUse]:
    """Given the NICs of all running VMs and their bridges, return the VLANs that any of the NICs wants or is in.

    Given VIDs, return those only, one by one, each of them for every bridge, in use or not. A NIC in every VLAN takes
    no VLAN into use: in_every_vlan() returns such NICs. A bridge that does not filter VLANs has no VLAN.
    """
    uses = []
    for bridge in bridges:
        if bridge.filters_vlans:
            members = _members([nic for nic in nics if nic.port.bridge == bridge.name])
            uses += [_use(bridge, vid, members[vid]) for vid in sorted(set(asked) or members)]
    uses.sort(key=lambda use: (use.first, use.bridge.name))
    return uses if asked else _joined(uses)


def in_every_vlan(nics: list[NicState], bridges: list[BridgeState]) -> list[NicState]:
    """Given the NICs of all running VMs and their bridges, return the NICs that want every VLAN, or are in each."""
    filtering = {bridge.name for bridge in bridges if bridge.filters_vlans}
    return [nic for nic in nics if nic.port.bridge in filtering and (is_every(nic.wanted) or is_every(nic.current))]


def membership(member: Member) -> str:
    """Given a member of a VLAN, return the word for it."""
    if member.nic.refused:
        return REFUSED
    if member.nic.wanted is None:
        return LEFT_ALONE
    if member.current == member.wanted:
        return RIGHT
    if member.current is None:
        return MISSING
    return SURPLUS if member.wanted is None else OTHER_FLAGS


def is_untagged(member: Member) -> bool:
    """Given a member of a VLAN, return whether the VLAN's frames leave its tap untagged."""
    return "untagged" in (member.current or "").split()


def portgroups(use: VlanUse) -> list[tuple[str, str]]:
    """Given a VLAN, return the (network, portgroup) by which its members have come there, as the NICs name them."""
    come = [member.nic for member in use.members if membership(member) not in (SURPLUS, REFUSED)]
    ports = [(nic.network, nic.port.group) for nic in come]
    return sorted({(network, group) for network, group in ports if group})


def lacks_uplink(use: VlanUse) -> bool:
    """Given a VLAN, return whether NICs need it and none of its bridge's uplinks carries it."""
    return use.first in users_of_missing_vlans(use.bridge, [member.nic for member in use.members])


def vms(members: list[Member], *words: str) -> list[str]:
    """Given members of a VLAN and words of membership(), return the names of the VMs to which one of them applies."""
    return list(dict.fromkeys(member.nic.port.vm for member in members if membership(member) in words))


def _members(nics: list[NicState]) -> dict[int, list[Member]]:
    """Given the NICs on a bridge, return who is in which VLAN, or wants to be."""
    members: dict[int, list[Member]] = defaultdict(list)
    for nic in nics:
        current, wanted = nic.current or {}, nic.wanted or {}
        for vid in {vid for vlans in (current, wanted) if not is_every(vlans) for vid in vlans}:
            members[vid].append(Member(nic, current.get(vid), wanted.get(vid)))
    return members


def _use(bridge: BridgeState, vid: int, members: list[Member]) -> VlanUse:
    return VlanUse(bridge, vid, vid, members, [name for name, vlans in bridge.uplinks.items() if vid in vlans])


def _joined(uses: list[VlanUse]) -> list[VlanUse]:
    """Given single VLANs in order, return them with runs of neighbours joined.

    Two neighbours are joined if they have the same bridge, members and uplinks.
    """
    joined: list[VlanUse] = []
    last: dict[str, int] = {}  # where in `joined` the last VLAN of each bridge is
    for use in uses:
        before = joined[last[use.bridge.name]] if use.bridge.name in last else None
        if before and before.last == use.first - 1 and _content(before) == _content(use):
            joined[last[use.bridge.name]] = VlanUse(use.bridge, before.first, use.last, use.members, use.uplinks)
        else:
            last[use.bridge.name] = len(joined)
            joined.append(use)
    return joined


def _content(use: VlanUse) -> tuple[object, ...]:
    return use.uplinks, [(id(member.nic), member.current, member.wanted) for member in use.members]
