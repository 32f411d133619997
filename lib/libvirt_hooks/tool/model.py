# SPDX-License-Identifier: MIT
"""What the tool knows of a host: NICs, bridges, and what check finds. Pure: inventory.py has read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from .. import log
from ..hookdata import Port
from ..tickets import Ticket, shown_group
from ..vlans import Vlans, is_every

MADE_PLAIN = (
    "libvirt has turned it into a plain bridge NIC, as live updates do (virsh domif-setlink, virt-xml --update)"
)
RIGHT, WRONG, LEFT_ALONE, REFUSED, NOT_ON_BRIDGE = "right", "wrong", "left alone", "refused", "not on bridge"
VERDICTS = (RIGHT, WRONG, LEFT_ALONE, REFUSED, NOT_ON_BRIDGE)
# Programs rely on these words (docs/monitoring.md): a code keeps its name and its meaning.
Problem = Literal[
    "wrong-vlans",
    "not-on-bridge",
    "wrong-port-settings",
    "vlan-not-forwarding",
    "refused",
    "start-refused",
    "made-plain",
    "no-bridge",
    "bridge-does-not-filter",
    "uplink-lacks-vlan",
    "uplink-down",
    "uplink-lost",
    "uplink-not-on-bridge",
    "switched-off",
    "hook-missing",
    "hook-not-executable",
    "hook-newer-than-daemon",
    "installed-twice",
    "writable-by-others",
    "watch-not-running",
]
Note = Literal[
    "waits-for-restart",
    "next-start-differs",
    "in-default-vlan",
    "no-uplink",
    "uplink-carries-unused",
    "portgroup-names-no-vid",
    "firewall-sees-frames",
    "watch-not-enabled",
]
PROBLEMS: tuple[str, ...] = get_args(Problem)
NOTES: tuple[str, ...] = get_args(Note)


@dataclass(frozen=True)
class NicState:
    """A NIC of a VM with its wanted and current VLANs."""

    port: Port
    network: str
    tap: str
    wanted: Vlans | None  # None: the NIC is left alone, or refused
    current: Vlans | None  # None: the tap is not on its bridge
    reason: str  # why wanted is None
    refused: bool  # the NIC cannot have VLANs
    made_plain: bool  # libvirt has forgotten that the NIC is a port of a network
    ticket: Ticket | None  # the one that applies
    decided: Ticket | None = None  # the one that the hooks would write, where none applies
    waits: bool = False  # left alone until the guest starts again
    is_bridges: bool = False  # refused because of its bridge
    blocked: dict[int, str] = field(default_factory=dict)  # its VLANs that do not forward, with their states
    not_whole: str = ""  # what else than its VLANs is wrong with its bridge port
    uplinks: tuple[str, ...] = ()  # that its network names; if a ticket applies, the ticket says it
    has_new_uplinks: bool = False  # the network names other uplinks than the ticket in its file
    not_carried: str = ""  # which uplinks that its network names lack its VLANs
    is_default: bool = False  # its portgroup is the network's default one: the NIC names none
    planned: NicState | None = None  # a running NIC as it would be at its guest's next start; None: nobody knows
    unplanned: str = ""  # why nobody knows
    is_doubled: bool = False  # that is because its MAC address is there twice


@dataclass(frozen=True)
class BridgeState:
    """A bridge that VMs use."""

    name: str
    fault: str  # why the bridge keeps VMs out of their VLANs, "" if it does not
    default_pvid: int
    uplinks: dict[str, Vlans]  # the bridge ports that lead off this host
    exists: bool = True
    filters_vlans: bool = True  # if not, VLANs can be set and have no effect
    down: tuple[str, ...] = ()  # the uplinks that are down
    without_carrier: tuple[str, ...] = ()  # the uplinks that are up and have no carrier
    lost: tuple[str, ...] = ()  # the uplinks that it has had since the host booted, if it has none now
    lasting: str = ""  # what makes a change to the bridge last, "" if nobody knows
    uplinks_lasting: str = ""  # the same of its first uplink
    uplink_faults: tuple[str, ...] = ()  # why uplinks that networks name can carry nothing
    unused: dict[str, Vlans] = field(default_factory=dict)  # what named uplinks carry, and nobody on this host uses


@dataclass(frozen=True)
class Finding:
    """One thing that `check` says; a field that does not apply is "" or None."""

    code: Problem | Note
    sentence: str  # what is wrong; where there is no one command, also what to do
    command: str = ""  # what to type
    advice: str = ""  # the command within the words that it needs, if it needs any
    subject: str = ""  # what the line begins with
    vm: str = ""
    vm_uuid: str = ""
    mac: str = ""
    tap: str = ""
    bridge: str = ""
    wanted: Vlans | None = None
    current: Vlans | None = None

    @property
    def is_note(self) -> bool:
        """Whether the finding is no problem, but possibly intentional."""
        return self.code in NOTES

    @property
    def line(self) -> str:
        """The finding as the plain `check` says it."""
        parts = ("note" if self.is_note else "", self.subject, self.sentence, self.advice or self.command)
        return ": ".join(part for part in parts if part)


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
    return log.nic(nic.port.vm, nic.port.mac, nic.tap, shown_group(nic.port.group, nic.is_default))


def users_of_missing_vlans(bridge: BridgeState, nics: list[NicState]) -> dict[int, list[str]]:
    """Given a bridge and the NICs of all running VMs, return by VID the VMs that need a VLAN that no uplink carries.

    A NIC in every VLAN needs none in particular. A bridge without uplinks keeps its VLANs to itself.
    """
    found: dict[int, list[str]] = {}
    if not bridge.uplinks or not bridge.filters_vlans:
        return found
    carried = {vid for vlans in bridge.uplinks.values() for vid in vlans}
    for nic in nics:
        used = nic.current if nic.wanted is None else nic.wanted
        if nic.port.bridge == bridge.name and used and not is_every(used) and not nic.not_carried:
            for vid in used.keys() - carried:
                found.setdefault(vid, []).append(nic.port.vm)
    return found
