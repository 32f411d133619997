# SPDX-License-Identifier: MIT
"""What libvirt writes to a hook's stdin, as values. The files were captured from libvirt: tests/data/README.md."""

from pathlib import Path

import pytest
from decisions import decided
from hypothesis import given
from hypothesis import strategies as st

from libvirt_hooks import HookError, hookdata, taps

DATA = Path(__file__).parents[1] / "data"
UUID = "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5"


def captured(name):
    return (DATA / f"{name}.xml").read_bytes()


def test_a_port_created_has_the_network_and_the_port():
    network = hookdata.parse_network(captured("network-port-created-zerotier"))

    assert network.name == "br0"
    assert network.portgroups == ["server-3", "zerotier-46", "slow"]
    assert network.port.vm == "web"
    assert f"<uuid>{network.port.vm_uuid}</uuid>".encode() in captured("network-port-created-zerotier")
    assert network.port.vm_uuid != network.port.uuid
    assert network.port.mac == "52:54:00:00:00:01"
    assert network.port.group == "zerotier"
    assert (network.port.plug, network.port.bridge) == ("bridge", "br0")
    assert not network.port.has_vlan
    assert not network.port.has_virtualport
    assert f"<uuid>{network.port.uuid}</uuid>".encode() in captured("network-port-created-zerotier")


@pytest.mark.parametrize(
    ("name", "group", "plug", "bridge"),
    [
        ("whole-name", "zerotier-46", "bridge", "br0"),
        ("all", "all", "bridge", "br0"),
        ("trunk", "trunk", "bridge", "br0"),
        ("no-portgroup", "", "bridge", "br0"),
        ("undefined-name", "nonesuch", "bridge", "br0"),
        ("plain-group", "slow", "bridge", "br0"),
        ("direct", "zerotier", "direct", ""),
        ("nat", "zerotier", "network", "virbr9"),
    ],
)
def test_each_kind_of_port_is_read(name, group, plug, bridge):
    port = hookdata.parse_network(captured(f"network-port-created-{name}")).port

    assert (port.group, port.plug, port.bridge) == (group, plug, bridge)


@pytest.mark.parametrize("operation", ["start", "started", "updated", "stopped"])
def test_other_operations_have_no_port(operation):
    assert hookdata.parse_network(captured(f"network-{operation}")).port is None


def left_alone(xml):
    network = hookdata.parse_network(xml)
    network.port.kind = taps
    return decided(network.port, network).left_alone


def test_a_vlan_or_a_virtualport_of_the_port_is_seen():
    xml = captured("network-port-created-zerotier")
    vlan = xml.replace(b"<plug", b"<vlan><tag id='5'/></vlan><plug")
    virtualport = xml.replace(b"<plug", b"<virtualport type='openvswitch'/><plug")

    assert "<vlan>" in left_alone(vlan)
    assert "<virtualport>" in left_alone(virtualport)


PORT = "<hookData><network/><networkport><uuid>caa15290-e4fa-4d2b-a36b-68e22861b043</uuid>{}</networkport></hookData>"


def test_a_port_of_which_libvirt_says_little_has_little():
    port = hookdata.parse_network(PORT.format("<mac address='52:54:00:AB:CD:EF'/>").encode()).port

    assert (port.vm, port.vm_uuid, port.group, port.plug, port.bridge) == ("", "", "", "", "")
    assert port.mac == "52:54:00:ab:cd:ef"


def test_a_port_without_a_mac_address_is_refused():
    with pytest.raises(HookError, match="'' is not a MAC address"):
        hookdata.parse_network(PORT.format("").encode())


def test_a_text_may_be_written_in_several_ways():
    network = hookdata.parse_network(b"<hookData><network><name>a&lt;<![CDATA[b]]></name></network></hookData>")

    assert network.name == "a<b"


def test_portgroups_in_metadata_are_not_the_networks():
    xml = captured("network-port-created-zerotier")
    foreign = b"<metadata><x:y xmlns:x='urn:x'><portgroup name='zerotier-47'/></x:y></metadata><forward"

    network = hookdata.parse_network(xml.replace(b"<forward", foreign, 1))
    assert network.portgroups == ["server-3", "zerotier-46", "slow"]


def test_a_starting_domain_has_its_nics_with_port_and_tap():
    xml = captured("qemu-start")
    first, second = hookdata.parse_domain(xml).nics

    assert (first.mac, second.mac) == ("52:54:00:00:00:01", "52:54:00:00:00:02")
    for nic in (first, second):
        assert f"portid='{nic.port_uuid}'".encode() in xml
        assert f"<target dev='{nic.tap}'/>".encode() in xml


def test_a_domain_that_is_only_prepared_has_nics_without_port_and_tap():
    nics = hookdata.parse_domain(captured("qemu-prepare")).nics

    assert [(nic.port_uuid, nic.tap) for nic in nics] == [("", ""), ("", "")]


@pytest.mark.parametrize(
    ("inside", "bridge", "tap"),
    [
        # a bridge of the host's, no libvirt network's: no hook has been called for it
        ("<source bridge='br0'/><target dev='vnet9'/>", "br0", "vnet9"),
        ("", "", ""),  # type='user'
        (f"<source portid='{UUID}'/>", "", ""),  # a hostdev has no tap
    ],
)
def test_a_nic_of_another_kind_does_not_disturb_the_others(inside, bridge, tap):
    xml = captured("qemu-start")
    other = f"<interface><mac address='52:54:00:00:00:09'/>{inside}</interface>".encode()
    first, *others = hookdata.parse_domain(xml.replace(b"<interface", other + b"<interface", 1)).nics

    assert (first.mac, first.bridge, first.tap) == ("52:54:00:00:00:09", bridge, tap)
    assert others == hookdata.parse_domain(xml).nics


def test_a_domain_without_devices_has_no_nics():
    assert hookdata.parse_domain(f"<domain><name>web</name><uuid>{UUID}</uuid></domain>".encode()).nics == []


NETWORK = b"<hookData><network><name>lan</name></network></hookData>"
BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><hookData><network><name>&b;</name>"""


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"<hookData>",
        b"<hookData><network></hookData>",
        b"not XML",
        b"\xff\xfe\x00",
        b"<hookData/>",
        b"<?xml version='1.0' encoding='no-such-encoding'?>" + NETWORK,
        b"<!DOCTYPE x SYSTEM 'file:///etc/passwd'>" + NETWORK,
        b"<!DOCTYPE x>" + NETWORK,
        BOMB + b"</network></hookData>",
    ],
)
def test_xml_that_is_broken_or_hostile_is_refused(xml):
    with pytest.raises(HookError, match="on stdin"):
        hookdata.parse_network(xml)


def test_the_same_without_what_is_wrong_with_it_is_read():
    assert hookdata.parse_network(NETWORK).name == "lan"


@given(st.binary())
def test_any_bytes_are_read_or_refused(xml):
    with pytest.raises(HookError):
        hookdata.parse_network(xml)


@pytest.mark.parametrize("text", ["", "52:54:00:00:00", "52:54:00:00:00:0g", "52-54-00-00-00-02", "5254:00:00:00:02:3"])
def test_what_is_no_mac_address_is_refused(text):
    with pytest.raises(HookError, match="is not a MAC address"):
        hookdata.checked_mac(text)


@pytest.mark.parametrize("text", ["", "../../../etc/passwd", "7b8f064f-bc9d-4d00-8cd2-51f033dd32d", "7" * 36])
def test_what_is_no_uuid_is_refused(text):
    with pytest.raises(HookError, match="is not a UUID"):
        hookdata.checked_uuid(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:b", "a\nb", "a\0b", "sixteen-letters-", "é" * 8])
def test_what_is_no_interface_name_is_refused(name):
    with pytest.raises(HookError, match="cannot be the name of an interface"):
        hookdata.checked_interface(name)


@pytest.mark.parametrize("name", ["br0", "b", "-x", "fifteen-letters", "vnet0.46", "brücke"])
def test_what_the_kernel_takes_is_an_interface_name(name):
    assert hookdata.checked_interface(name) == name


@pytest.mark.parametrize(
    ("mac", "tap"),
    [
        ("52:54:00:00:00:02", "fe:54:00:00:00:02"),
        ("fe:54:00:00:00:02", "fa:54:00:00:00:02"),
        ("fa:54:00:00:00:02", "fe:54:00:00:00:02"),
    ],
)
def test_a_tap_has_its_guests_address_but_for_the_first_byte(mac, tap):
    assert taps.key(mac) == tap


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (b"<domain><memory>16</memory></domain>", b"<domain><memory>32</memory></domain>", ["memory"]),
        (b"<domain><a/></domain>", b"<domain><a/><b/></domain>", ["b"]),
        (b"<domain><a/></domain>", b"<domain>\n<a/></domain>", []),
        (
            b"<domain><devices><graphics passwd='x'/><disk/></devices></domain>",
            b"<domain><devices><graphics passwd='secret'/><disk/></devices></domain>",
            ["devices/graphics"],
        ),
        (b"<d><os><boot dev='a'/></os></d>", b"<d><os><boot dev='a'/><boot dev='b'/></os></d>", ["os/boot"]),
    ],
)
def test_what_has_changed_is_named_without_its_content(old, new, changed):
    assert hookdata.changed_elements(old, new) == changed
