# SPDX-License-Identifier: MIT
"""What a running NIC would get at its guest's next start, compared with what it was granted. Pure.

The guest's definition and its network can have changed since the start. check says so, and apply gives the NIC that
now.
"""

from __future__ import annotations

import shlex
from types import SimpleNamespace

from ..tickets import Ticket
from ..vlans import Vlans, instead, of_new_bridge_port, to_text
from ..wanted import why_not_ours
from .model import NicState

SAME, DIFFERS, REFUSED, UNKNOWN = "same", "differs", "refused", "unknown"
VERDICTS = (SAME, DIFFERS, REFUSED, UNKNOWN)
RESTART = "only a restart of the VM changes that"


class NotApplied(SimpleNamespace):
    """Why apply leaves a NIC as it is, although its next start would differ, or may differ."""

    sentence: str
    advice: str  # the same for whoever knows already what differs
    is_problem: bool  # whoever asked for the NIC must know


def verdict(nic: NicState) -> str:
    """Given a running NIC, return the one word for how its next start compares with what it was granted."""
    planned = nic.planned
    if planned is None or nic.refused:
        return UNKNOWN
    if planned.refused:
        return REFUSED
    if nic.wanted is None and planned.wanted is None:
        return SAME
    if planned.wanted is None:
        return SAME if has_gone_back(nic) else DIFFERS
    is_elsewhere = planned.port.bridge != nic.port.bridge
    return DIFFERS if is_elsewhere or planned.wanted != nic.wanted else SAME


def sentence(nic: NicState) -> str:
    """Given a running NIC whose next start differs, or would be refused, return the words about that."""
    planned = nic.planned
    assert planned is not None
    granted = "left alone" if nic.wanted is None else to_text(nic.wanted)
    if planned.refused:
        return f"next start: refused: {planned.reason}"
    if planned.wanted is None:
        return f"next start: left alone instead of {granted}, because {planned.reason}"
    where, here = planned.port.bridge, nic.port.bridge
    if where != here:
        return f"next start: {to_text(planned.wanted)} on {where} instead of {granted} on {here}"
    if nic.wanted is None:
        return f"next start: {to_text(planned.wanted)} instead of {granted}"
    return f"next start: {instead(planned.wanted, nic.wanted)}"


def command(nic: NicState) -> str:
    """Given a running NIC, return what to type so that its VM follows its definition now."""
    return f"libvirt-vlan apply {shlex.quote(nic.port.vm)}"


def why_not_applied(nic: NicState, is_named: bool) -> NotApplied | None:
    """Given a running NIC and whether its VM is named on the command line, return why apply leaves the NIC as it is,
    None if apply changes it, or nothing is to be said.
    """
    planned, word = nic.planned, verdict(nic)
    if planned is None:
        is_problem, is_said = is_named and nic.is_doubled, is_named or nic.is_doubled
        return NotApplied(sentence=nic.unplanned, advice="", is_problem=is_problem) if is_said else None
    if word == REFUSED:
        return NotApplied(sentence=f"refused: {planned.reason}", advice="", is_problem=True)
    return _why_not_moved(nic, planned, is_named) if word == DIFFERS else None


def _why_not_moved(nic: NicState, planned: NicState, is_named: bool) -> NotApplied | None:
    """Given a running NIC, the different NIC of its next start and whether its VM is named, do as why_not_applied()."""
    if planned.wanted is None and planned.port.has_vlan:
        return NotApplied(sentence=f"left as it is: {planned.reason}: {RESTART}", advice=RESTART, is_problem=False)
    why = ""
    if planned.port.bridge != nic.port.bridge:
        why = f"it is defined on {planned.port.bridge or 'no bridge'}"
    elif nic.port.has_vlan or nic.port.has_virtualport:
        why = f"left as it is: {why_not_ours(nic.port)}"
    elif not nic.port.uuid and not nic.ticket:
        why = "it runs as no port of a network"
    if why:
        return NotApplied(sentence=f"{why}: {RESTART}", advice=RESTART, is_problem=True)
    if planned.wanted is None and not is_named:
        bridge = nic.port.bridge
        into_default = f"{command(nic)} puts it into the default VLAN of {bridge}, if {bridge} has one"
        return NotApplied(sentence=f"left as it is: {planned.reason}: {into_default}", advice="", is_problem=False)
    return None


def ticket(nic: NicState, default_pvid: int, interface: tuple[str, int]) -> Ticket:
    """Given a running NIC whose next start differs, its bridge's default PVID and its interface's name and index,
    return the ticket that gives the NIC now what its next start would give.

    A NIC that would be left alone is to have what the kernel gives to each new bridge port.
    """
    planned = nic.planned
    assert planned is not None
    base = nic.ticket or nic.decided or planned.decided
    assert base is not None  # a NIC without any has no wanted VLANs, now or then, and so does not differ
    settings = {"isolated": base.isolated, "fdb_managed": base.fdb_managed}
    if base is planned.decided:  # the live XML says what libvirt has set at the bridge port
        fdb_managed = nic.port.fdb_managed and base.kind.HAS_FDB_MANAGER
        settings = {"isolated": nic.port.isolated, "fdb_managed": fdb_managed}
    vlans: Vlans = of_new_bridge_port(default_pvid) if planned.wanted is None else planned.wanted
    is_default = planned.wanted is not None and planned.is_default
    changes = {
        "uuid": nic.ticket.uuid if nic.ticket else nic.port.uuid, "vlans": vlans, "is_default": is_default,
        "group": "" if planned.wanted is None else planned.port.group, "applied_over": announced_group(nic),
        "uplinks": list(planned.uplinks),
        "right": interface if base.right else None, "interface": interface, "live": False,
    }  # fmt: skip
    return Ticket(**{**vars(base), **settings, **changes})


def announced_group(nic: NicState) -> str:
    """Given a running NIC, return the portgroup that libvirt's live XML names for it, "" for none."""
    if nic.ticket and nic.ticket.applied_over is not None:
        return nic.ticket.applied_over
    return "" if nic.is_default else nic.port.group


def has_gone_back(nic: NicState) -> bool:
    """Given a running NIC with wanted VLANs, return whether apply has put it into its bridge's default VLAN."""
    return bool(nic.ticket and nic.ticket.applied_over is not None and not nic.ticket.group)
