# SPDX-License-Identifier: MIT
"""The host's VLANs as a graph in graphviz's language: uplinks, the VLANs of each bridge, and the VMs in them. Pure.

Source: https://graphviz.org/doc/info/lang.html and https://graphviz.org/docs/attr-types/escString/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ..log import one_line
from ..vlans import Vlans, is_every, to_text
from .members import (
    MISSING,
    OTHER_FLAGS,
    SURPLUS,
    Member,
    VlanUse,
    in_every_vlan,
    is_untagged,
    lacks_uplink,
    membership,
    portgroups,
    vlans_in_use,
)
from .model import (
    LEFT_ALONE,
    MADE_PLAIN,
    NOT_ON_BRIDGE,
    REFUSED,
    RIGHT,
    WRONG,
    BridgeState,
    NicState,
    verdict,
)
from .vlan_table import NO_UPLINK, vids, wrapped

# Okabe's and Ito's colours, without those too pale for a line on white or too near to red.
# source: https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#CC79A7", "#000000")
STYLES = ("solid", "dashed", "dotted")  # for as many VLANs again as there are colours
RED, GREY = "#C00000", "#808080"
IN_RED = f'color="{RED}", fontcolor="{RED}"'
ON_A_LINE = {MISSING: "not in it", SURPLUS: "should not be in it", OTHER_FLAGS: "other flags"}
WIDTH = 40  # of a line in a box, in characters
FONT = 'fontname="Helvetica,Arial,sans-serif"'
HEAD = f"""\
digraph vlans {{
  graph [rankdir=LR, ranksep=1.5, nodesep=0.1, {FONT}, fontsize=13, labelloc=t, labeljust=l]
  node [shape=box, style=rounded, {FONT}, fontsize=11, height=0.3, margin="0.12,0.06", color="{GREY}"]
  edge [arrowhead=none, arrowsize=0.8, penwidth=2, {FONT}, fontsize=10]"""
LEGEND = "A line is a VLAN: untagged, or tagged if the line ends in a dot. What is wrong is red."

ToVms = dict[str, list[tuple[str, str]]]  # by a VM's uuid: where each line to the VM begins, and its attributes
Drawn = tuple[list[str], list[str]]  # boxes in a bridge's frame, and lines from the bridge's uplinks to the boxes


def to_dot(nics: list[NicState], bridges: list[BridgeState], host: str) -> str:
    """Given the NICs of the running VMs, their bridges and the host's name, return the graph, for `dot`."""
    to_vms: ToVms = defaultdict(list)
    drawn = [line for number, bridge in enumerate(bridges) for line in _bridge(f"b{number}", bridge, nics, to_vms)]
    title = f"VLANs on {host}; running VMs: {len({nic.port.vm_uuid for nic in nics})}"
    return "\n".join([HEAD, f"  label={quoted([title, LEGEND], 'l')}", *drawn, *_vms(nics, to_vms), "}"])


def quoted(lines: Iterable[str], end: str = "n") -> str:
    """Given lines of text from anywhere, return a graphviz string that is drawn as this text and nothing else.

    Lines that end in n are centred, those that end in l are flush left.

    In labels graphviz replaces HTML's entities, and \\N, \\G, \\L and the like.
    """
    escaped = (one_line(line).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "".join(f"{line}\\{end}" for line in escaped) + '"'


def _bridge(name: str, bridge: BridgeState, nics: list[NicState], to_vms: ToVms) -> list[str]:
    """Given a bridge, its name in the graph and all NICs, return how to draw the bridge, and add the lines to VMs."""
    here = [nic for nic in nics if nic.port.bridge == bridge.name]
    about = [bridge.name, *wrapped(one_line(bridge.fault).split(), WIDTH, " ")]
    if bridge.filters_vlans and not bridge.uplinks:
        about.append("no uplink: its VLANs stay on this host")
    ups = {uplink: f"{name}u{number}" for number, uplink in enumerate(bridge.uplinks)}
    boxes = [f"    {up} [label={quoted([uplink])}, style=solid]" for uplink, up in ups.items()]
    lines = []
    for draw in (_vlan_boxes, _no_filter_box, _every_vlan_box):
        its_boxes, its_lines = draw(name, bridge, here, ups, to_vms)
        boxes += its_boxes
        lines += its_lines
    if not boxes:
        boxes.append(f'    {name}none [label="", style=invis]')  # graphviz draws nothing around nothing
    colour = IN_RED if bridge.fault else f'color="{GREY}"'
    start = f"  subgraph cluster_{name} {{\n    label={quoted(about)}\n    graph [{colour}, style=rounded]"
    return [start, *boxes, "  }", *lines]


def _vlan_boxes(name: str, bridge: BridgeState, here: list[NicState], ups: dict[str, str], to_vms: ToVms) -> Drawn:
    """Given a bridge, its name, NICs and uplinks in the graph, draw its VLANs, and add their lines to VMs."""
    boxes, lines = [], []
    for number, uses in enumerate(_alike(vlans_in_use(here, [bridge], []))):
        vlan, look = f"{name}v{number}", _look(number)
        boxes.append(f"    {vlan} [{_vlan(uses, look)}]")
        lines += [f"  {ups[uplink]} -> {vlan} [{look}]" for uplink in uses[0].uplinks]
        if bridge.uplinks and not uses[0].uplinks:
            lines.append(f"  {name}u0 -> {vlan} [style=invis]")  # keeps it in line with the other VLANs
        for member in uses[0].members:
            to_vms[member.nic.port.vm_uuid].append((vlan, _to_vm(member, look)))
    return boxes, lines


def _no_filter_box(name: str, bridge: BridgeState, here: list[NicState], ups: dict[str, str], to_vms: ToVms) -> Drawn:
    """Given the same, draw that all VMs on a bridge reach each other, if the bridge does not filter VLANs."""
    if not bridge.exists or bridge.filters_vlans:
        return [], []
    for nic in here:
        to_vms[nic.port.vm_uuid].append((f"{name}any", f'color="{GREY}"'))
    box = f'    {name}any [label="does not filter VLANs:\\nall VMs reach each other"]'
    return [box], [f'  {up} -> {name}any [color="{GREY}"]' for up in ups.values()]


def _every_vlan_box(name: str, bridge: BridgeState, here: list[NicState], ups: dict[str, str], to_vms: ToVms) -> Drawn:
    """Given the same, draw a box for the NICs that are in every VLAN, if there are any."""
    every = in_every_vlan(here, [bridge])
    if not every:
        return [], []
    for nic in every:
        look = f'color="{GREY}"' if verdict(nic) in (RIGHT, LEFT_ALONE) else f'color="{RED}"'
        to_vms[nic.port.vm_uuid].append((f"{name}every", f"{look}, arrowhead=dot"))
    lines = []
    for uplink, vlans in bridge.uplinks.items():
        some = "" if is_every(vlans) else ', label="some of them"'
        lines.append(f'  {ups[uplink]} -> {name}every [color="{GREY}"{some}]')
    return [f'    {name}every [label="every VLAN"]'], lines


def _to_vm(member: Member, look: str) -> str:
    """Given a member of a VLAN and the look of that VLAN's lines, return the attributes of the line to the member."""
    words = ON_A_LINE.get(membership(member))
    dot = "" if is_untagged(member) or member.current is None else ", arrowhead=dot"
    return (f'{IN_RED}, style=bold, label="{words}"' if words else look) + dot


def _look(number: int) -> str:
    """Given the number of a VLAN on its bridge, return the look of its lines."""
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    return f'color="{COLOURS[number % len(COLOURS)]}", style={style}'


def _alike(uses: list[VlanUse]) -> list[list[VlanUse]]:
    """Given the VLANs of one bridge, return those together that have the same members and uplinks: a box for each."""
    together: dict[object, list[VlanUse]] = {}
    for use in uses:
        key = tuple(use.uplinks), tuple((id(member.nic), member.current, member.wanted) for member in use.members)
        together.setdefault(key, []).append(use)
    return list(together.values())


def _vlan(uses: list[VlanUse], look: str) -> str:
    """Given VLANs that share a box, and the look of their lines, return the attributes of the box."""
    groups = [group for _, group in portgroups(uses[0])]
    lines = [*wrapped([f"VLAN {vids(uses[0])}", *map(vids, uses[1:])], WIDTH), *wrapped(groups, WIDTH)]
    if lacks_uplink(uses[0]):
        return f"label={quoted([*lines, NO_UPLINK])}, {IN_RED}, penwidth=2"
    colour, style = look.split(", style=")
    return f'label={quoted(lines)}, {colour}, penwidth=2, style="rounded,{style}"'


def _vms(nics: list[NicState], to_vms: ToVms) -> list[str]:
    """Given all NICs and the lines to VMs, return how to draw the VMs. VMs in the same VLANs share a box, if right."""
    by_vm: dict[str, list[NicState]] = defaultdict(list)
    for nic in nics:
        by_vm[nic.port.vm_uuid].append(nic)
    boxes: dict[tuple[tuple[tuple[str, str], ...], tuple[str, ...], str], list[str]] = defaultdict(list)
    for uuid, its in by_vm.items():
        lines = tuple(dict.fromkeys(to_vms[uuid]))
        wrong = tuple(line for nic in its for line in wrapped(one_line(_wrong(nic)).split(), WIDTH, " "))
        right = tuple(_words(nic) for nic in its) if len(lines) != 1 else ()
        boxes[lines, wrong or right, uuid if wrong else ""].append(its[0].port.vm)
    drawn = []
    for number, ((lines, about, wrong_vm), names) in enumerate(boxes.items()):
        count = [f"{len(names)} VMs:"] if len(names) > 1 else []
        look = f", {IN_RED}, penwidth=2" if wrong_vm else ""
        drawn.append(f"  vm{number} [label={quoted([*count, *wrapped(names, WIDTH), *about])}{look}]")
        drawn += [f"  {begin} -> vm{number} [{attributes}]" for begin, attributes in lines]
    return drawn


def _wrong(nic: NicState) -> str:
    """Given a NIC, return what is wrong with its VLANs, "" if nothing is."""
    word = verdict(nic)
    if word == WRONG:
        return f"{nic.tap}: {_in_words(nic.current)} instead of {_in_words(nic.wanted)}"
    if word == NOT_ON_BRIDGE:
        return f"{nic.tap} is not on {nic.port.bridge}"
    if word == REFUSED:
        return f"{nic.tap}: {nic.reason}"
    return f"{nic.tap}: {MADE_PLAIN}" if nic.made_plain else ""


def _words(nic: NicState) -> str:
    """Given a NIC with which nothing is wrong, return where it is."""
    return _in_words(nic.current) if nic.port.bridge else "on no Linux bridge"


def _in_words(vlans: Vlans | None) -> str:
    """Given VLANs, return them in the words of the graph."""
    if is_every(vlans):
        return "every VLAN"
    return f"VLAN {to_text(vlans).replace('pvid untagged', 'untagged')}" if vlans else "no VLAN"
