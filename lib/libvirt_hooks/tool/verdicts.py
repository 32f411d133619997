# SPDX-License-Identifier: MIT
"""What is not right, and what to do about it. Pure: compares the wanted and current VLANs of inventory's NICs."""

from __future__ import annotations

import shlex

from .. import log
from ..vlans import VID_MAX, Vlans, to_text
from ..wanted import DEFAULT_MARK, EVERY_VID
from .inventory import MADE_PLAIN, BridgeState, NicState

RIGHT, WRONG, LEFT_ALONE, REFUSED, NOT_ON_BRIDGE = "right", "wrong", "left alone", "refused", "not on bridge"


def verdict(nic: NicState) -> str:
    """Given a running VM's NIC, return the one word for it."""
    if nic.refused:
        return REFUSED
    if nic.wanted is None:
        return LEFT_ALONE
    if nic.current is None:
        return NOT_ON_BRIDGE
    return RIGHT if nic.current == nic.wanted else WRONG


def subject(nic: NicState) -> str:
    """Given a NIC, return what a line about it begins with, the same as in the hooks' log."""
    return log.nic(nic.port.vm, nic.port.mac, nic.tap, nic.port.group)


def problem(nic: NicState) -> str:
    """Given a running VM's NIC, return what is wrong with its VLANs and what to do, "" if nothing is."""
    word = verdict(nic)
    sync = f"libvirt-vlan sync {shlex.quote(nic.port.vm)}"
    if word == WRONG:
        assert nic.current is not None
        assert nic.wanted is not None
        return f"has {to_text(nic.current)} instead of {to_text(nic.wanted)} on {nic.port.bridge}: {sync}"
    if word == NOT_ON_BRIDGE:
        return f"{nic.tap} is not on {nic.port.bridge}: {sync} puts it back"
    return nic.reason if word == REFUSED else ""


def problems(nics: list[NicState], bridges: list[BridgeState]) -> list[str]:
    """Given the NICs of all running VMs and their bridges, return what is not right, a line each."""
    faults = [bridge.fault for bridge in bridges if bridge.fault]
    told = [nic for nic in nics if not (nic.refused and nic.reason in faults)]  # the bridge's own line is enough
    lines = [f"{subject(nic)}: {problem(nic)}" for nic in told if problem(nic)]
    lines += [f"{subject(nic)}: {MADE_PLAIN}: {_way_back(nic)}" for nic in nics if nic.made_plain]
    lines += faults
    lines += [line for bridge in bridges for line in _not_carried(bridge, nics)]
    return lines


def notes(nics: list[NicState], bridges: list[BridgeState]) -> list[str]:
    """Given the NICs of all running VMs and their bridges, return what may be meant, a line each."""
    lines = [f"{subject(nic)}: {nic.reason}" for nic in nics if nic.wanted is None and DEFAULT_MARK in nic.reason]
    for bridge in bridges:
        here = [nic for nic in nics if nic.port.bridge == bridge.name]
        if not any(nic.wanted is not None for nic in here):
            continue
        default = {bridge.default_pvid: "pvid untagged"}
        let_in = sorted({nic.port.vm for nic in here if verdict(nic) == LEFT_ALONE and nic.current == default})
        if bridge.default_pvid and let_in:
            lines.append(
                f"{bridge.name}: in VLAN {bridge.default_pvid} without a portgroup: {', '.join(let_in)}: if that is "
                f"not meant, ip link set dev {bridge.name} type bridge vlan_default_pvid 0 keeps such NICs out"
            )
        if not bridge.uplinks and not bridge.fault:
            lines.append(f"{bridge.name}: has no uplink: its VLANs stay on this host")
    return lines


def _not_carried(bridge: BridgeState, nics: list[NicState]) -> list[str]:
    """Given a bridge and all NICs, return a line about the VLANs that NICs use and no uplink carries, if there are any.

    A NIC in every VLAN does not count: it needs none in particular. A bridge without uplinks is a note, no problem.
    """
    users: dict[int, str] = {}
    for nic in nics:
        used = nic.current if nic.wanted is None else nic.wanted
        if (
            nic.port.bridge == bridge.name
            and used
            and len(used) < VID_MAX
            and nic.port.group.replace(DEFAULT_MARK, "") not in EVERY_VID
        ):
            users.update({vid: nic.port.vm for vid in used if vid not in users})
    carried = {vid for vlans in bridge.uplinks.values() for vid in vlans}
    missing: Vlans = {vid: "" for vid in users if vid not in carried}
    if not missing or not bridge.uplinks:
        return []
    vms = ", ".join(dict.fromkeys(users[vid] for vid in sorted(missing)))
    uplinks = ", ".join(bridge.uplinks)
    one = uplinks if len(bridge.uplinks) == 1 else "UPLINK"
    return [
        f"{bridge.name}: no uplink ({uplinks}) carries VLAN {to_text(missing)} of {vms}: "
        f"bridge vlan add dev {one} vid VID master for each that is to leave this host"
    ]


def _way_back(nic: NicState) -> str:
    vm = shlex.quote(nic.port.vm)
    return (
        f"give it its network back with virsh update-device {vm} NIC.xml --live, where NIC.xml is its <interface> from "
        f"virsh dumpxml --inactive {vm}, or stop and start the VM"
    )
