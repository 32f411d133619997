# SPDX-License-Identifier: MIT
"""The graph of libvirt-vlan map, as graphviz itself reads and draws it."""

import json
import shutil
import subprocess
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_vlan_table import FIREWALL, LAB, bridge, nic, web

from libvirt_hooks.hookdata import Port
from libvirt_hooks.log import one_line
from libvirt_hooks.tool.graph import COLOURS, GREY, LEGEND, RED, STYLES, quoted, to_dot
from libvirt_hooks.tool.inventory import MADE_PLAIN
from libvirt_hooks.vlans import access, every

pytestmark = pytest.mark.skipif(not shutil.which("dot"), reason="graphviz is not installed")
CARRIED = bridge(eth0=every(1))


def named(*nics):
    """Given NICs, return them with a uuid for each VM's name."""
    return [replace(each, port=Port(**{**vars(each.port), "vm_uuid": each.port.vm})) for each in nics]


def drawn(dot):
    """Given a graph, return its texts by box, and its lines, as graphviz draws them."""
    done = subprocess.run(["dot", "-Tjson"], input=dot, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stderr == ""
    shown = json.loads(done.stdout)
    texts = {thing["_gvid"]: texts_of(thing) for thing in shown["objects"]}  # [] of what is invisible
    lines = [
        (texts[line["tail"]][0], texts[line["head"]][0], line["color"], line.get("label", ""))
        for line in shown.get("edges", [])
        if line.get("style") != "invis"
    ]
    red = {texts[thing["_gvid"]][0] for thing in shown["objects"] if texts_of(thing) and thing.get("color") == RED}
    return [*texts.values(), texts_of(shown)], lines, red


def texts_of(thing):
    return [operation["text"] for operation in thing.get("_ldraw_", ()) if operation["op"] == "T"]


def test_a_box_for_each_uplink_vlan_and_vm_and_the_lines_between():
    texts, lines, red = drawn(to_dot(named(web(), nic("router", "lab", LAB)), [CARRIED], "hv1"))

    assert sorted(texts[:-1]) == [
        ["VLAN 10", "lab"],
        ["VLAN 20, 30-40", "lab"],  # the same in both: one box
        ["VLAN 46", "zerotier"],
        ["br0"],
        ["eth0"],
        ["router", "VLAN 10 untagged, 20, 30-40"],
        ["web"],
    ]
    assert texts[-1][0] == "VLANs on hv1; running VMs: 2"
    assert sorted(line[:2] for line in lines) == [
        ("VLAN 10", "router"), ("VLAN 20, 30-40", "router"), ("VLAN 46", "web"),
        ("eth0", "VLAN 10"), ("eth0", "VLAN 20, 30-40"), ("eth0", "VLAN 46"),
    ]  # fmt: skip
    colours = {end: colour for begin, end, colour, _ in lines if begin == "eth0"}
    assert len(set(colours.values())) == 3
    assert all(colours[begin] == colour for begin, end, colour, _ in lines if begin != "eth0")
    assert red == set()


def arrows(dot):
    """Given a graph, return how each line ends, as graphviz reads it, by the first texts of the two things it joins."""
    shown = json.loads(subprocess.check_output(["dot", "-Tjson"], input=dot, text=True))
    texts = {thing["_gvid"]: "".join(texts_of(thing)[:1]) for thing in shown["objects"]}
    return {(texts[line["tail"]], texts[line["head"]]): line["arrowhead"] for line in shown["edges"]}


def test_a_line_ends_in_a_dot_where_the_vlan_is_tagged():
    ends = arrows(to_dot(named(nic("router", "lab", LAB), web(None), FIREWALL), [CARRIED], "hv1"))

    assert (ends["VLAN 10", "router"], ends["VLAN 20, 30-40", "router"]) == ("none", "dot")
    assert (ends["VLAN 46", "web"], ends["every VLAN", "fw"]) == ("none", "dot")  # not in it; in every one
    assert {ends[line] for line in ends if line[0] == "eth0"} == {"none"}


def test_a_vlan_without_an_uplink_is_beside_those_that_have_one():
    """By a line that is not drawn. Where there is no uplink, there is none, nor a box for it."""
    nics = named(web(), nic("db", "server", access(3)))
    assert ("eth0", "VLAN 46") in arrows(to_dot(nics, [bridge(eth0=access(3))], "hv1"))
    assert "style=invis" not in to_dot(nics, [CARRIED], "hv1")
    assert "style=invis" not in to_dot(nics, [bridge()], "hv1")


def test_vms_that_are_in_the_same_vlans_share_a_box_that_counts_them():
    nics = named(web(), nic("app", "zerotier-46", access(46)))
    dot = to_dot(nics, [CARRIED], "hv1")

    assert ["2 VMs:", "web, app"] in drawn(dot)[0]
    assert ["VLAN 46", "zerotier, zerotier-46"] in drawn(dot)[0]
    assert f"{LEGEND}\\l" in dot  # flush left


@pytest.mark.parametrize(("current", "colour"), [(every(1), GREY), (access(1), RED)])
def test_the_line_to_a_nic_in_every_vlan_is_red_if_the_nic_is_not(current, colour):
    _, lines, _ = drawn(to_dot(named(nic("fw", "all", every(1), current)), [CARRIED], "hv1"))

    assert [line[2] for line in lines if line[:2] == ("every VLAN", "fw")] == [colour]


REASON = "network lan defines no portgroup 'x'"


@pytest.mark.parametrize(
    ("nics", "bridges", "box", "words", "to_vm"),
    [
        ([web(access(1))], [CARRIED], "web", "web vnet0: VLAN 1 untagged instead of VLAN 46 untagged",
         {("VLAN 1", "should not be in it"), ("VLAN 46", "not in it")}),
        ([web({})], [CARRIED], "web", "web vnet0: no VLAN instead of VLAN 46 untagged", {("VLAN 46", "not in it")}),
        ([web(None)], [CARRIED], "web", "web vnet0 is not on br0", {("VLAN 46", "not in it")}),
        ([web({46: ""})], [CARRIED], "web", "web vnet0: VLAN 46 instead of VLAN 46 untagged",
         {("VLAN 46", "other flags")}),
        ([nic("fw", "all", every(1), access(1))], [CARRIED], "fw", "fw vnet0: VLAN 1 untagged instead of every VLAN",
         {("every VLAN", ""), ("VLAN 1", "")}),
        ([web(every(46))], [CARRIED], "web", "web vnet0: every VLAN instead of VLAN 46 untagged",
         {("every VLAN", ""), ("VLAN 46", "")}),
        ([web(made_plain=True)], [CARRIED], "web",
         f"web vnet0: {MADE_PLAIN}", {("VLAN 46", "")}),
        ([nic("bad", "x", None, access(1), refused=True, reason=REASON)], [CARRIED], "bad", f"bad vnet0: {REASON}",
         {("VLAN 1", "")}),
        ([web()], [bridge(eth0={})], "VLAN 46", "VLAN 46 zerotier no uplink carries it", {("VLAN 46", "")}),
        ([nic("web", "zerotier", None, None, refused=True, reason=REASON)],
         [bridge(fault="bridge br0 does not filter VLANs: turn that on with ip", filters_vlans=False)], "br0",
         "br0 bridge br0 does not filter VLANs: turn that on with ip", {("does not filter VLANs:", "")}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_red_and_said_in_words(nics, bridges, box, words, to_vm):
    texts, lines, red = drawn(to_dot(named(*nics), bridges, "hv1"))

    assert words in [" ".join(text) for text in texts]
    assert box in red
    vm = nics[0].port.vm
    assert {(begin, label) for begin, end, _, label in lines if end == vm} == to_vm
    assert all(colour == RED for _, end, colour, label in lines if label)


def test_what_is_right_is_not_red():
    nics = named(
        web(), FIREWALL, nic("old", "slow", None, access(1)), nic("none", "", None, {}), nic("nat", bridge="n")
    )
    texts, _, red = drawn(to_dot(nics, [bridge(), bridge("n", filters_vlans=False)], "hv1"))

    assert red == set()
    assert ["br0", "no uplink: its VLANs stay on this host"] in texts
    assert ["none", "no VLAN"] in texts
    assert ["n"] in texts


@pytest.mark.parametrize(("carried", "label"), [(every(0), ""), (access(1), "some of them")])
def test_an_uplink_that_carries_less_than_a_nic_in_every_vlan_says_so(carried, label):
    _, lines, _ = drawn(to_dot(named(FIREWALL), [bridge(eth0=carried)], "hv1"))

    assert [line[3] for line in lines if line[:2] == ("eth0", "every VLAN")] == [label]


def test_a_bridge_that_is_not_there_is_not_said_to_join_its_vms():
    gone = replace(bridge(fault="there is no bridge br0", filters_vlans=False), exists=False)
    texts, lines, red = drawn(to_dot(named(web(None)), [gone], "hv1"))

    assert sorted(texts[:-1]) == [[], ["br0", "there is no bridge br0"], ["web", "vnet0 is not on br0"]]
    assert (lines, red) == ([], {"br0", "web"})


def test_a_nic_on_no_linux_bridge_is_drawn_with_no_line():
    texts, lines, _ = drawn(to_dot(named(nic("macv", "", None, None, bridge="")), [], "hv1"))

    assert texts[0] == ["macv", "on no Linux bridge"]
    assert lines == []


def test_sixty_vms_are_named_once_each_in_few_boxes():
    nics = named(
        *(nic(f"vm-{n:02}", f"g-{n % 6}", access(10 + n % 6)) for n in range(59)), nic("vm-59", "all", every(1))
    )
    texts, lines, _ = drawn(to_dot(nics, [CARRIED], "hv1"))
    names = [word for text in texts[:-1] for line in text for word in line.split(", ") if word.startswith("vm-")]

    assert sorted(name.rstrip(",") for name in names) == [f"vm-{n:02}" for n in range(60)]
    assert len(lines) == 2 * 7


def test_vms_with_something_wrong_share_no_box():
    _, _, red = drawn(to_dot(named(*(nic(vm, "zerotier", access(46), {}) for vm in "ab")), [CARRIED], "hv1"))

    assert red == {"a", "b"}


def test_as_many_vlans_as_there_are_colours_and_styles_look_different():
    count = len(COLOURS) * len(STYLES)
    nics = named(*(nic(f"vm-{vid}", "g", access(vid)) for vid in range(1, count + 1)))
    looks = {line.partition("[")[2] for line in to_dot(nics, [CARRIED], "hv1").splitlines() if "-> vm" in line}

    assert len(looks) == count


NAMES = st.text(min_size=1)


@given(st.tuples(*[NAMES] * 4, NAMES.filter(lambda name: " " not in name)))  # a line about a tap can be wrapped
@example(["\\N\\G\\L\\E\\T\\H\\l\\r\\n"] * 5)  # what graphviz replaces in labels
@example(['a\\"];b[label="'] * 5)
@example(["a\\"] * 5)
@example(["<b>x</b>"] * 5)
@example(["&lt;&#65;&quot;"] * 5)
@example(["a\nb\x1b[2K\0"] * 5)
@settings(max_examples=60, deadline=None)
def test_no_name_breaks_out_of_its_quotes_or_is_drawn_as_another(names):
    vm, group, uplink, host, tap = names
    uplink = f"eth{uplink}"  # no parameter of bridge() is called that: Hypothesis tries these names, too
    nics = named(nic(vm, group, access(46), access(1), tap=tap))
    texts, lines, red = drawn(to_dot(nics, [bridge(**{uplink: access(46)})], host))

    box = [one_line(vm), f"{one_line(tap)}: VLAN 1 untagged instead of VLAN 46 untagged"]
    assert [one_line(uplink)] in texts
    assert ["VLAN 46", *([one_line(group)] if group != "(default)" else [])] in texts
    assert any([text[0], " ".join(text[1:])] == box for text in texts if text)
    assert texts[-1][0] == f"VLANs on {one_line(host)}; running VMs: 1"
    assert len(texts) == 1 + 5  # the title; bridge, uplink, two VLANs, VM
    assert len(lines) == 3
    assert red == {one_line(vm)}


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_lines_stay_lines(lines):
    texts, _, _ = drawn(f"digraph {{ a [label={quoted(lines)}] }}")

    assert texts[0] == [one_line(line) for line in lines]


# source: Machado, Oliveira, Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# for a complete lack of one kind of cone
SEEN_BY = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
TOLD_APART = 12  # CIE 1976: 2 can just be told apart side by side


XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1095, 0.8728))  # of linear sRGB, white being 1


def lab(colour, cones):
    """Given a colour as in "#0072B2" and the cones there are, return its L*, a* and b*: distances are as seen."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels]
    seen = [min(1, max(0, value)) for value in product(cones, linear)]
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in product(XYZ, seen))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def product(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_colours_can_be_told_apart_by(eyes):
    seen = {colour: lab(colour, SEEN_BY[eyes]) for colour in (*COLOURS, RED, "#FFFFFF")}
    distances = {(a, b): sum((p - q) ** 2 for p, q in zip(seen[a], seen[b])) ** 0.5 for a, b in combinations(seen, 2)}

    assert {pair: distance for pair, distance in distances.items() if distance < TOLD_APART} == {}
