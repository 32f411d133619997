# SPDX-License-Identifier: MIT
"""What is not right with NICs and bridges, and what to do about it. Pure."""

from __future__ import annotations

import shlex
from dataclasses import replace

from ..vlans import Vlans, instead, to_text
from .model import (
    LEFT_ALONE,
    MADE_PLAIN,
    NOT_ON_BRIDGE,
    REFUSED,
    WRONG,
    BridgeState,
    Finding,
    NicState,
    Note,
    Problem,
    subject,
    users_of_missing_vlans,
    verdict,
)


def problems(nics: list[NicState], bridges: list[BridgeState]) -> list[Finding]:
    """Given the NICs of all running VMs and their bridges, return what is not right."""
    # a finding about the bridge says enough about all of its NICs
    found = [finding for nic in nics if not nic.is_bridges and (finding := problem(nic))]
    found += [_made_plain(nic) for nic in nics if nic.made_plain]
    found += [_fault(bridge) for bridge in bridges if bridge.fault]
    return [*found, *(finding for bridge in bridges for finding in _not_carried(bridge, nics))]


def problem(nic: NicState) -> Finding | None:
    """Given a running VM's NIC, return what is wrong with its VLANs and what to do, None if nothing is."""
    word = verdict(nic)
    sync = f"libvirt-vlan sync {shlex.quote(nic.port.vm)}"
    if word == WRONG:
        assert nic.current is not None
        assert nic.wanted is not None
        has = f"has {instead(nic.current, nic.wanted)} on {nic.port.bridge}"
        return _of_nic(nic, "wrong-vlans", has, sync)
    if word == NOT_ON_BRIDGE:
        return _of_nic(nic, "not-on-bridge", f"{nic.tap} is not on {nic.port.bridge}", sync, f"{sync} puts it back")
    return _of_nic(nic, "refused", nic.reason) if word == REFUSED else None


def notes(nics: list[NicState], bridges: list[BridgeState]) -> list[Finding]:
    """Given the NICs of all running VMs and their bridges, return notes: what is possibly intentional."""
    found = [_of_nic(nic, "waits-for-restart", nic.reason) for nic in nics if nic.waits]
    for bridge in bridges:
        here = [nic for nic in nics if nic.port.bridge == bridge.name]
        if not any(nic.wanted is not None for nic in here):
            continue
        default = {bridge.default_pvid: "pvid untagged"}
        let_in = sorted({nic.port.vm for nic in here if verdict(nic) == LEFT_ALONE and nic.current == default})
        if bridge.default_pvid and let_in:
            command = f"ip link set dev {bridge.name} type bridge vlan_default_pvid 0"
            found.append(
                _of_bridge(
                    bridge,
                    "in-default-vlan",
                    f"in VLAN {bridge.default_pvid} without a portgroup: {', '.join(let_in)}",
                    command,
                    f"to prevent that, {command} keeps such NICs out, but takes the uplinks and the host itself "
                    f"out of VLAN {bridge.default_pvid}, too: see the strict setting in docs/install.md",
                )
            )
        if not bridge.uplinks and not bridge.fault:
            found.append(_of_bridge(bridge, "no-uplink", "has no uplink: its VLANs stay on this host"))
    return found


def _not_carried(bridge: BridgeState, nics: list[NicState]) -> list[Finding]:
    """Given a bridge and all NICs, return a finding about the VLANs that NICs use and no uplink carries.

    A NIC in every VLAN does not count: it needs none in particular. A bridge without uplinks is a note, no problem.
    """
    users = users_of_missing_vlans(bridge, nics)
    missing: Vlans = dict.fromkeys(users, "")
    if not missing:
        return []
    vms = ", ".join(dict.fromkeys(vm for vid in sorted(users) for vm in users[vid][:1]))
    uplinks = ", ".join(bridge.uplinks)
    one = uplinks if len(bridge.uplinks) == 1 else "UPLINK"
    lacks = f"no uplink ({uplinks}) carries VLAN {to_text(missing)} of {vms}"
    command = f"bridge vlan add dev {one} vid VID master"
    advice = f"{command} for each that is to leave this host"
    return [replace(_of_bridge(bridge, "uplink-lacks-vlan", lacks, command, advice), wanted=missing)]


def _fault(bridge: BridgeState) -> Finding:
    """Given a bridge that keeps VMs out of their VLANs, return why."""
    if not bridge.exists:
        return Finding("no-bridge", bridge.fault, bridge=bridge.name)
    command = f"ip link set dev {bridge.name} type bridge vlan_filtering 1"
    sentence = f"bridge {bridge.name} does not filter VLANs"
    return Finding("bridge-does-not-filter", sentence, command, f"turn that on with {command}", bridge=bridge.name)


def _made_plain(nic: NicState) -> Finding:
    """Given a NIC that libvirt has made a plain bridge NIC, return what makes it a port of its network again."""
    vm = shlex.quote(nic.port.vm)
    command = f"virsh update-device {vm} NIC.xml --live"
    return _of_nic(
        nic,
        "made-plain",
        MADE_PLAIN,
        command,
        f"give it its network back with {command}, where NIC.xml is its <interface> from "
        f"virsh dumpxml --inactive {vm}, or stop and start the VM",
    )


def _of_nic(nic: NicState, code: Problem | Note, sentence: str, command: str = "", advice: str = "") -> Finding:
    return Finding(
        code, sentence, command, advice, subject(nic), nic.port.vm, nic.port.vm_uuid, nic.port.mac, nic.tap,
        nic.port.bridge, nic.wanted, nic.current,
    )  # fmt: skip


def _of_bridge(
    bridge: BridgeState, code: Problem | Note, sentence: str, command: str = "", advice: str = ""
) -> Finding:
    return Finding(code, sentence, command, advice, subject=bridge.name, bridge=bridge.name)
