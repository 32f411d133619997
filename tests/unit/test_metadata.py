# SPDX-License-Identifier: MIT
"""VLAN lists in a network's <metadata>: what they mean, and what is refused."""

import pytest
from decisions import decided

from libvirt_hooks import HookError, taps
from libvirt_hooks.hookdata import parse_network
from libvirt_hooks.metadata import uplinks

NAMESPACE = "urn:libvirt-hooks:portgroups:1"
ACCESS = "pvid untagged"
TAG = "<tag id='10'/>"


def resolved(metadata, group="lab", portgroups=""):
    """Return the VLANs of a VM's NIC in a portgroup of a network with that metadata, as the hook gets both."""
    network = parse_network(
        f"<hookData><network><name>lan</name><metadata>{metadata}</metadata>{portgroups}</network><networkport>"
        f"<uuid>caa15290-e4fa-4d2b-a36b-68e22861b043</uuid><mac address='52:54:00:00:00:02'/><group>{group}</group>"
        "<plug type='bridge' bridge='br0'/></networkport></hookData>".encode()
    )
    network.port.kind = taps
    decision = decided(network.port, network)
    if decision.refused:
        raise HookError(decision.refused)
    return decision.left_alone or decision.vlans


def block(inside, attributes=""):
    return f"<hooks:portgroups xmlns:hooks='{NAMESPACE}'{attributes}>{inside}</hooks:portgroups>"


def lab(vlan, name="lab"):
    return block(f"<portgroup name='{name}'>{vlan}</portgroup>")


@pytest.mark.parametrize(
    ("vlan", "expected"),
    [
        ("<vlan><tag id='10'/></vlan>", {10: ACCESS}),  # one tag: access
        ("<vlan trunk='no'><tag id='10'/></vlan>", {10: ACCESS}),  # says the same
        ("<vlan trunk='yes'><tag id='10'/></vlan>", {10: ""}),  # a trunk of one, tagged
        ("<vlan><tag id='10'/><tag id='20'/></vlan>", {10: "", 20: ""}),  # several tags imply trunk; no native: no PVID
        ("<vlan><tag id='30-32'/></vlan>", {30: "", 31: "", 32: ""}),  # so does a range, which is several
        ("<vlan><tag id='30-30'/></vlan>", {30: ACCESS}),  # and a range of one is not
        (
            "<vlan trunk='yes'><tag id='10' nativeMode='untagged'/><tag id='20'/><tag id='30-31'/></vlan>",
            {10: ACCESS, 20: "", 30: "", 31: ""},
        ),
        # native, so that what the guest sends untagged is in it, but tagged when the guest gets it
        ("<vlan><tag id='20'/><tag id='10' nativeMode='tagged'/></vlan>", {10: "pvid", 20: ""}),
        ("<vlan><tag id='10' nativeMode='tagged'/></vlan>", {10: "pvid"}),  # a nativeMode implies trunk
        ("<vlan><tag id='10' nativeMode='untagged'/></vlan>", {10: ACCESS}),
        ("<vlan><tag id='1-9'/><tag id='10'/><tag id='11-4094'/></vlan>", dict.fromkeys(range(1, 4095), "")),
        ("\n <!-- both --> <vlan>\n <tag id='10'></tag>\n </vlan>\n", {10: ACCESS}),  # layout means nothing
    ],
)
def test_a_vlan_list_means_what_libvirts_own_means(vlan, expected):
    assert resolved(lab(vlan)) == expected


@pytest.mark.parametrize(
    "metadata",
    [
        f"<hooks:portgroups xmlns:hooks='{NAMESPACE}'><portgroup name='lab'><vlan>{TAG}</vlan></portgroup>"
        "</hooks:portgroups>",
        # another prefix, inside too
        f"<x:portgroups xmlns:x='{NAMESPACE}'><x:portgroup name='lab'><x:vlan><x:tag id='10'/></x:vlan></x:portgroup>"
        "</x:portgroups>",
        # none, by default
        f"<portgroups xmlns='{NAMESPACE}'><portgroup name='lab'><vlan>{TAG}</vlan></portgroup></portgroups>",
        # beside another program's
        f"<v:cfg xmlns:v='urn:x'><portgroup name='lab'/></v:cfg>{lab(f'<vlan>{TAG}</vlan>')}",
        block(
            f"<portgroup name='a'><vlan><tag id='5'/></vlan></portgroup>"
            f"<portgroup name='lab'><vlan>{TAG}</vlan></portgroup>"
        ),
        # a mistake in another portgroup's list is that one's
        block(f"<portgroup name='a'><vlan/></portgroup><portgroup name='lab'><vlan>{TAG}</vlan></portgroup>"),
    ],
)
def test_the_namespace_counts_not_its_prefix(metadata):
    assert resolved(metadata) == {10: ACCESS}


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        f"<portgroups><portgroup name='lab'><vlan>{TAG}</vlan></portgroup></portgroups>",  # no namespace
        f"<p:portgroups xmlns:p='urn:libvirt-hooks:portgroups:2'><portgroup name='lab'><vlan>{TAG}</vlan></portgroup>"
        "</p:portgroups>",  # another version's words could mean something else
    ],
)
def test_other_metadata_defines_nothing(metadata):
    with pytest.raises(HookError, match="network lan defines no portgroup 'lab'"):
        resolved(metadata)


def test_a_plain_portgroup_of_the_same_name_gives_the_bandwidth_and_the_list_the_vlans():
    plain = "<portgroup name='lab'><bandwidth/></portgroup>"

    assert resolved(lab(f"<vlan>{TAG}</vlan>"), portgroups=plain) == {10: ACCESS}
    assert resolved("", portgroups=plain) == "portgroup lab names no VID"


def test_all_means_what_the_list_says_if_there_is_one():
    assert resolved(lab(f"<vlan>{TAG}</vlan>", "all"), group="all") == {10: ACCESS}


def test_a_portgroup_with_a_vid_in_its_name_can_be_used_by_its_whole_name():
    portgroups = "<portgroup name='lab-46'/>"

    assert resolved(lab(f"<vlan>{TAG}</vlan>"), group="lab-46", portgroups=portgroups) == {46: ACCESS}


@pytest.mark.parametrize(
    ("group", "portgroups", "says"),
    [
        ("lab", ["lab-46"], "<portgroup name='lab'> in the <metadata> is also defined as lab-46: remove one"),
        ("lab", ["lab", "lab-46"], "is also defined as lab-46"),  # the plain one changes nothing
        ("lab-46", ["lab-46"], "<portgroup name='lab-46'> in the <metadata> is also defined as lab-46"),
        ("lab-4O", ["lab-4O"], "is also defined as lab-4O"),  # mistyped: a VID was meant
    ],
)
def test_a_portgroup_that_has_a_vid_in_its_name_as_well_is_refused(group, portgroups, says):
    with pytest.raises(HookError, match=says):
        resolved(lab(f"<vlan>{TAG}</vlan>", group), group, "".join(f"<portgroup name='{p}'/>" for p in portgroups))


HERE = r"in <portgroup name='lab'> in the network's <metadata>"


@pytest.mark.parametrize(
    ("vlan", "says"),
    [
        ("", r"<portgroup name='lab'> .* has 0 <vlan>: it needs exactly one"),
        (f"<vlan>{TAG}</vlan><vlan>{TAG}</vlan>", "has 2 <vlan>: it needs exactly one"),
        ("<vlan/>", r"<vlan> of <portgroup name='lab'> .* has no <tag id='…'/>"),
        ("<vlan trunk='no'><tag id='10'/><tag id='20'/></vlan>", f"<vlan trunk='no'> {HERE} has several tags"),
        ("<vlan trunk='no'><tag id='10-11'/></vlan>", f"<vlan trunk='no'> {HERE} has several tags"),
        (
            "<vlan trunk='no'><tag id='10' nativeMode='tagged'/></vlan>",
            "a nativeMode: write trunk='yes'",
        ),
        ("<vlan trunk='maybe'><tag id='10'/></vlan>", f"<vlan trunk='maybe'> {HERE}: trunk must be 'yes' or 'no'"),
        ("<vlan trunk=''><tag id='10'/></vlan>", "trunk must be 'yes' or 'no'"),
        ("<vlan><tag id='40-30'/></vlan>", f"<tag id='40-30'> {HERE}: the range is reversed: write '30-40'"),
        ("<vlan><tag id='30-40'/><tag id='40-50'/></vlan>", f"<tag id='40-50'> {HERE}: VLAN 40 is named twice"),
        ("<vlan><tag id='30-40'/><tag id='35'/></vlan>", f"<tag id='35'> {HERE}: VLAN 35 is named twice"),
        ("<vlan><tag id='10'/><tag id='010'/></vlan>", "VLAN 10 is named twice: name it once"),
        (
            "<vlan><tag id='10' nativeMode='tagged'/><tag id='20' nativeMode='untagged'/></vlan>",
            f"<tag id='20'> {HERE} and <tag id='10'> both have a nativeMode: remove one of the two",
        ),
        (
            "<vlan><tag id='10-11' nativeMode='tagged'/></vlan>",
            "a native VLAN is one VID, so give it a <tag> of",
        ),
        ("<vlan><tag id='10' nativeMode='native'/></vlan>", "nativeMode='native' must be 'tagged' or 'untagged'"),
        ("<vlan><tag id='10' nativeMode=''/></vlan>", "nativeMode='' must be 'tagged' or 'untagged'"),
        ("<vlan><tag id='0'/></vlan>", f"<tag id='0'> {HERE}: '0' is not a VID"),  # a priority tag
        ("<vlan><tag id='4095'/></vlan>", "'4095' is not a VID"),  # reserved, though libvirt's own parser takes it
        ("<vlan><tag id='4090-4095'/></vlan>", "'4095' is not a VID"),
        ("<vlan><tag id='-5'/></vlan>", "'' is not a VID"),
        ("<vlan><tag id='5-'/></vlan>", "'' is not a VID"),  # an open range would be a guess
        ("<vlan><tag id='1-2-3'/></vlan>", "'2-3' is not a VID"),
        ("<vlan><tag id='10,20'/></vlan>", "'10,20' is not a VID"),
        ("<vlan><tag id='10 - 20'/></vlan>", "'10 ' is not a VID"),
        ("<vlan><tag id='0x10'/></vlan>", "'0x10' is not a VID"),
        ("<vlan><tag/></vlan>", "'' is not a VID"),
        ("<vlan><tag>10</tag></vlan>", "'' is not a VID"),
        (
            "<vlan><tag id='10' native='untagged'/></vlan>",
            "<tag native='…'> .* are id and nativeMode",
        ),
        ("<vlan trunc='yes'><tag id='10'/></vlan>", f"<vlan trunc='…'> {HERE}: possible attributes are trunk"),
        ("<vlan><range id='10'/></vlan>", r"<range> in <vlan> of .* is unknown: only <tag> can be there"),
        ("<bandwidth/>", f"<bandwidth> {HERE} is unknown: only <vlan> can be there"),
        ("<y:vlan xmlns:y='urn:y'><tag id='10'/></y:vlan>", "<y:vlan> .* is unknown"),  # not ours, though so named
    ],
)
def test_a_vlan_list_that_is_not_clear_is_refused_naming_the_element(vlan, says):
    with pytest.raises(HookError, match=says) as refused:
        resolved(lab(vlan))
    assert str(refused.value).startswith("network lan: ")
    assert str(refused.value).endswith("(virsh net-edit lan)")


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (block("<portgroup><vlan/></portgroup>"), "<portgroup> in the network's <metadata> has no name: give it one"),
        (block("<portgroup name=''/>"), "has no name"),
        (block("<portgroup name='a'/><portgroup name='a'/>"), "<portgroup name='a'> .* is defined twice: remove one"),
        (lab("<vlan/>") + lab("<vlan/>"), "<portgroup name='lab'> .* is defined twice"),  # in a block each
        (block("<portgroup name='lab' default='yes'/>"), "<portgroup default='…'> .* possible attributes are name"),
        (block("", " version='1'"), "<hooks:portgroups version='…'> in <metadata>: possible attributes are none"),
        (block("<vlan/>"), "<vlan> in <portgroups> is unknown: only <portgroup> and <uplink> can be there"),
        (f"<portgroup xmlns='{NAMESPACE}' name='lab'/>", "<portgroup> in <metadata> is unknown: only <portgroups> can"),
    ],
)
def test_a_block_that_is_not_clear_is_refused(metadata, says):
    with pytest.raises(HookError, match=says):
        resolved(metadata)


def test_a_nic_without_a_portgroup_is_left_alone_whatever_the_metadata_is():
    assert resolved(block("<nonsense/>"), group="") == "it has no portgroup"


def test_uplinks_stand_beside_the_lists():
    inside = f"<uplink dev='bond0'/><portgroup name='lab'><vlan>{TAG}</vlan></portgroup><hooks:uplink dev='eno1'/>"
    network = parse_network(f"<h><network><metadata>{block(inside)}</metadata></network></h>".encode())

    assert uplinks(network.metadata) == ["bond0", "eno1"]
    assert resolved(block(inside)) == {10: ACCESS}
    assert uplinks(None) == []


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ("<uplink/>", "'' cannot be the name of an interface: correct <uplink dev=…/>"),
        ("<uplink dev='a b'/>", "'a b' cannot be the name of an interface"),
        ("<uplink dev='../x'/>", "'../x' cannot be the name of an interface"),
        ("<uplink name='bond0'/>", "<uplink name='…'> in <portgroups>: possible attributes are dev"),
        ("<uplink dev='bond0'/><uplink dev='bond0'/>", "<uplink dev='bond0'/> is there twice: remove one"),
        ("<trunk dev='bond0'/>", "<trunk> in <portgroups> is unknown: only <portgroup> and <uplink> can be there"),
    ],
)
def test_an_uplink_that_is_not_clear_is_refused_by_its_element(inside, says):
    lists = f"<portgroup name='lab'><vlan>{TAG}</vlan></portgroup>"
    with pytest.raises(HookError, match="network lan: ") as caught:
        resolved(block(inside + lists))

    assert says in str(caught.value)
