# SPDX-License-Identifier: MIT
"""What is not right with NICs and bridges, and what to do about it. Pure."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import replace

from ..refusals import Refusal
from ..vlans import Vlans, changes, instead, ranges, to_text
from ..wanted import EVERY_VID
from . import next_start
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

# "vlan100", "VLAN 15": what other systems call a VLAN
LIKE_A_VLAN = re.compile(r"(?i)(?<![a-z0-9])v(lan|id)?[ ._]*[0-9]+$")


def problems(nics: list[NicState], bridges: list[BridgeState]) -> list[Finding]:
    """Given the NICs of all running VMs and their bridges, return what is not right."""
    # a finding about the bridge says enough about all of its NICs
    found = [finding for nic in nics if not nic.is_bridges and (finding := problem(nic))]
    found += [_made_plain(nic) for nic in nics if nic.made_plain]
    found += [_blocked(nic) for nic in nics if nic.blocked]
    found += [_fault(bridge) for bridge in bridges if bridge.fault]
    for bridge in bridges:
        found += [_of_bridge(bridge, "uplink-not-on-bridge", fault) for fault in bridge.uplink_faults]
        found += [*_cut_off(bridge), *_not_carried(bridge, nics)]
    return found


def refused_start(refusal: Refusal) -> Finding:
    """Given a start that the hooks have refused, return that finding."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(refusal.seconds))
    sentence = f"its last start was refused at {at}: {refusal.sentence}"
    return Finding("start-refused", sentence, subject=refusal.vm, vm=refusal.vm, vm_uuid=refusal.vm_uuid)


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
    if nic.not_whole:
        return _of_nic(nic, "wrong-port-settings", nic.not_whole, sync)
    if nic.not_carried:
        return _of_nic(nic, "uplink-lacks-vlan", nic.not_carried, sync)
    return _of_nic(nic, "refused", nic.reason) if word == REFUSED else None


def notes(nics: list[NicState], bridges: list[BridgeState]) -> list[Finding]:
    """Given the NICs of all running VMs and their bridges, return notes: what is possibly intentional."""
    found = [_waits(nic) for nic in nics if nic.waits]
    found += [_next_start(nic) for nic in nics if not nic.waits and _differs(nic)]
    for bridge in bridges:
        here = [nic for nic in nics if nic.port.bridge == bridge.name]
        found += [_names_no_vid(nic) for nic in here if _looks_like_a_vlan(nic)]
        if not any(nic.wanted is not None for nic in here):
            continue
        default = {bridge.default_pvid: "pvid untagged"}
        let_in = sorted({_in_default(nic) for nic in here if _names_no_vlan(nic) and nic.current == default})
        if bridge.default_pvid and let_in:
            command = f"ip link set dev {bridge.name} type bridge vlan_default_pvid 0"
            found.append(
                _of_bridge(
                    bridge,
                    "in-default-vlan",
                    f"in VLAN {bridge.default_pvid}, because no portgroup of theirs names a VID: {', '.join(let_in)}",
                    command,
                    f"to prevent that, {command} keeps such NICs out, but takes the uplinks and the host itself "
                    f"out of VLAN {bridge.default_pvid}, too: see the strict setting in docs/install.md",
                )
            )
        found += [_unused(bridge, uplink, vlans) for uplink, vlans in bridge.unused.items() if vlans]
        if not bridge.uplinks and not bridge.lost and not bridge.fault:
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
    lacks = f"no uplink ({uplinks}) carries VLAN {to_text(missing)} of {vms}"
    first = next(iter(bridge.uplinks))
    command = "; ".join(shlex.join(line) for line in changes(first, {}, missing))
    lasting = _lasting(bridge.uplinks_lasting)
    advice = f"if it is to leave this host by {first}, {command}{lasting} (the hooks can do that: docs/uplinks.md)"
    return [replace(_of_bridge(bridge, "uplink-lacks-vlan", lacks, command, advice), wanted=missing)]


def _unused(bridge: BridgeState, uplink: str, vlans: Vlans) -> Finding:
    """Given a bridge, an uplink that a network names and VLANs that nobody uses there, return that finding."""
    sentence = f"no VM on {bridge.name} uses VLAN {to_text(vlans)}, which uplink {uplink} carries"
    command = "; ".join(shlex.join(line) for line in changes(uplink, vlans, {}))
    return _of_bridge(bridge, "uplink-carries-unused", sentence, command, f"if nobody needs that, {command}")


def _cut_off(bridge: BridgeState) -> list[Finding]:
    """Given a bridge, return why nothing leaves this host any more, if it once did."""
    if bridge.lost:
        lost = f"has lost its uplink {', '.join(bridge.lost)}: its VMs reach nothing beyond this host"
        command = f"ip link set dev {bridge.lost[0]} master {bridge.name}"
        return [_of_bridge(bridge, "uplink-lost", lost, command, f"{command}{_lasting(bridge.lasting)}")]
    if len(bridge.down) + len(bridge.without_carrier) < max(1, len(bridge.uplinks)):
        return []
    if bridge.down:
        command = f"ip link set dev {bridge.down[0]} up"
        return [_of_bridge(bridge, "uplink-down", f"its uplink {', '.join(bridge.down)} is down", command)]
    without = f"its uplink {', '.join(bridge.without_carrier)} has no carrier: check the cable and the switch"
    return [_of_bridge(bridge, "uplink-down", without)]


def _blocked(nic: NicState) -> Finding:
    """Given a NIC that has VLANs which do not forward, return that finding."""
    states = [f"{vids} {state}" for vids, state in ranges(nic.blocked)]
    lines = [f"bridge vlan set dev {nic.tap} vid {vids} state forwarding" for vids, _ in ranges(nic.blocked)]
    return _of_nic(nic, "vlan-not-forwarding", f"no frame passes in VLAN {', '.join(states)}", "; ".join(lines))


def _looks_like_a_vlan(nic: NicState) -> bool:
    """Given a NIC, return whether it is left alone although its portgroup looks as if it meant a VLAN."""
    group = nic.port.group
    return verdict(nic) == LEFT_ALONE and (group in EVERY_VID or bool(LIKE_A_VLAN.search(group)))


def _names_no_vid(nic: NicState) -> Finding:
    """Given a NIC whose portgroup looks like a VLAN and is none, return that finding."""
    group = nic.port.group
    if group in EVERY_VID:
        advice = f"remove <portgroup name='{group}'/> from network {nic.network} if {group} is to mean every VID"
    else:
        better = re.sub(r"[ ._]*([0-9]+)$", r"-\1", group)
        advice = f"call it {better} in the network if that is meant, with virsh net-edit {shlex.quote(nic.network)}"
    return _of_nic(
        nic, "portgroup-names-no-vid", f"portgroup {group} names no VID, so the hooks leave it alone", "", advice
    )


def _differs(nic: NicState) -> bool:
    """Given a NIC, return whether its next start would differ, but for what is wrong with its whole bridge."""
    if nic.planned is None or nic.planned.is_bridges:
        return False
    return next_start.verdict(nic) in (next_start.DIFFERS, next_start.REFUSED)


def _waits(nic: NicState) -> Finding:
    """Given a NIC that waits for its guest's next start, return that finding."""
    command = next_start.command(nic)
    return _of_nic(nic, "waits-for-restart", nic.reason, command, f"{command} applies it now")


def _next_start(nic: NicState) -> Finding:
    """Given a NIC whose next start would differ, return that finding."""
    sentence, why_not = next_start.sentence(nic), next_start.why_not_applied(nic, is_named=True)
    if why_not is None:
        return _of_nic(nic, "next-start-differs", sentence, next_start.command(nic))
    return _of_nic(nic, "next-start-differs", sentence, advice=why_not.advice)


def _names_no_vlan(nic: NicState) -> bool:
    return verdict(nic) == LEFT_ALONE or next_start.has_gone_back(nic)


def _in_default(nic: NicState) -> str:
    return f"{nic.port.vm} ({nic.port.group})" if nic.port.group else nic.port.vm


def _lasting(where: str) -> str:
    return f"; {where}" if where else ""


def _fault(bridge: BridgeState) -> Finding:
    """Given a bridge that keeps VMs out of their VLANs, return why."""
    if not bridge.exists:
        return Finding("no-bridge", bridge.fault, bridge=bridge.name)
    command = f"ip link set dev {bridge.name} type bridge vlan_filtering 1"
    sentence = f"bridge {bridge.name} does not filter VLANs"
    advice = f"turn that on with {command}{_lasting(bridge.lasting)}"
    return Finding("bridge-does-not-filter", sentence, command, advice, bridge=bridge.name)


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
