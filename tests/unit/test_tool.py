# SPDX-License-Identifier: MIT
"""libvirt-vlan's pure parts: from libvirt's XML to ports, verdicts, problems and output."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from decisions import decided
from jsonschema import validate

from libvirt_hooks import VERSION, HookError
from libvirt_hooks.hookdata import Nic, Port, parse_domain, port_of
from libvirt_hooks.tool import command, installation, virsh
from libvirt_hooks.tool.findings import notes, problem, problems
from libvirt_hooks.tool.model import MADE_PLAIN, NOTES, BridgeState, NicState, subject, verdict
from libvirt_hooks.tool.networks import network_of, planned_port
from libvirt_hooks.tool.table import in_short, to_json, to_table
from libvirt_hooks.vlans import access, every

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan.schema.json").read_text())
MAC, UUID = "52:54:00:00:00:01", "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5"


def nic(wanted=access(46), current=access(46), **changes):  # noqa: B008 # never changed
    port = {"vm": "web", "vm_uuid": UUID, "mac": MAC, "group": "zerotier", "bridge": "br0", "plug": "bridge"}
    port.update({name: changes.pop(name) for name in list(changes) if name in port})
    fields = {"network": "lan", "tap": "vnet0", "reason": "", "refused": False, "made_plain": False, "ticket": None}
    return NicState(port=Port(**port), wanted=wanted, current=current, **{**fields, **changes})


def br0(fault="", default_pvid=1, **uplinks):
    return BridgeState("br0", fault, default_pvid, uplinks, exists=not fault.startswith("no bridge"))


LEFT_ALONE = {"wanted": None, "reason": "it has no portgroup", "group": ""}
DOES_NOT_FILTER = "bridge br0 does not filter VLANs: turn that on with ip link set dev br0 type bridge vlan_filtering 1"
REFUSED = {"wanted": None, "reason": "network lan defines no portgroup 'x'", "refused": True}


@pytest.mark.parametrize(
    ("given", "word", "says"),
    [
        (nic(), "right", ""),
        (nic(current=access(1)), "wrong",
         "has 1 pvid untagged instead of 46 pvid untagged on br0: libvirt-vlan sync web"),
        (nic(current={}), "wrong", "has none instead of 46 pvid untagged on br0: libvirt-vlan sync web"),
        # the same VLAN, other flags
        (nic(current={46: ""}), "wrong", "has 46 instead of 46 pvid untagged on br0: libvirt-vlan sync web"),
        (nic(current=access(1), vm="a b"), "wrong", "has 1 pvid untagged instead of 46 pvid untagged on br0: "
         "libvirt-vlan sync 'a b'"),  # to be pasted
        (nic(current=None), "not on bridge", "vnet0 is not on br0: libvirt-vlan sync web puts it back"),
        (nic(**LEFT_ALONE, current=access(1)), "left alone", ""),
        (nic(**REFUSED), "refused", "network lan defines no portgroup 'x'"),
    ],
)  # fmt: skip
def test_a_nic_has_one_verdict_and_what_to_do(given, word, says):
    found = problem(given)

    assert (verdict(given), found.line if found else "") == (word, f"{subject(given)}: {says}" if says else "")


TRUNK = {10: "pvid untagged", 20: "", 30: "", 31: ""}


@pytest.mark.parametrize(
    ("nics", "bridge", "says"),
    [
        ([nic()], br0(eth0=access(46)), []),
        ([nic()], br0(eth0={1: "", 46: ""}, eth1={}), []),  # one uplink of two is enough
        ([nic()], br0(), []),  # a bridge within this host
        ([nic()], br0(eth0=access(1)), ["br0: no uplink (eth0) carries VLAN 46 of web: "
         "if it is to leave this host by eth0, bridge vlan add dev eth0 vid 46 master"]),
        ([nic(TRUNK, TRUNK, vm="db"), nic()], br0(eth0={20: ""}, eth1={}), ["br0: no uplink (eth0, eth1) carries VLAN "
         "10, 30-31, 46 of db, web: if it is to leave this host by eth0, bridge vlan add dev eth0 vid 10 master; "
         "bridge vlan add dev eth0 vid 30-31 master; bridge vlan add dev eth0 vid 46 master"]),
        ([nic(every(1), every(1), group="all")], br0(eth0=access(1)), []),  # in every VLAN: in none in particular
        ([nic(every(1), every(1))], br0(eth0=access(1)), []),  # by a list of its own
        ([nic(bridge="br1")], br0(eth0=access(1)), []),  # another bridge's
        # what it is to have counts: sync will give it that
        ([nic(current=access(1))], br0(eth0=access(1)), [f"web {MAC} vnet0 zerotier: has 1 pvid untagged instead of "
         "46 pvid untagged on br0: libvirt-vlan sync web", "br0: no uplink (eth0) carries VLAN 46 of web: "
         "if it is to leave this host by eth0, bridge vlan add dev eth0 vid 46 master"]),
        # a VM that libvirt has not yet given a tap
        ([nic(**REFUSED, tap="", group="")], br0(), [f"web {MAC} - -: network lan defines no portgroup 'x'"]),
        ([nic(**LEFT_ALONE, current=access(5))], br0(eth0=access(1)), ["br0: no uplink (eth0) carries VLAN 5 of web: "
         "if it is to leave this host by eth0, bridge vlan add dev eth0 vid 5 master"]),  # set by libvirt itself, say
        ([nic()], br0(DOES_NOT_FILTER), [DOES_NOT_FILTER]),
        # a NIC without a ticket is refused for the same reason: once is enough
        ([nic(wanted=None, refused=True, is_bridges=True, reason="no bridge br0"), nic()], br0("no bridge br0"),
         ["no bridge br0"]),
        ([nic(made_plain=True)], br0(), [f"web {MAC} vnet0 zerotier: {MADE_PLAIN}: give it its network back with "
         "virsh update-device web NIC.xml --live, where NIC.xml is its <interface> from virsh dumpxml --inactive web, "
         "or stop and start the VM"]),
    ],
)  # fmt: skip
def test_check_finds_what_the_hooks_cannot_see(nics, bridge, says):
    assert [finding.line for finding in problems(nics, [bridge])] == says


@pytest.mark.parametrize(
    ("nics", "bridge", "code", "command"),
    [
        ([nic(current={}, vm="a b")], br0(eth0=access(46)), "wrong-vlans", "libvirt-vlan sync 'a b'"),
        ([nic(current=None)], br0(eth0=access(46)), "not-on-bridge", "libvirt-vlan sync web"),
        ([nic(**REFUSED, current={})], br0(eth0={}), "refused", ""),
        ([nic(made_plain=True)], br0(eth0=access(46)), "made-plain", "virsh update-device web NIC.xml --live"),
        ([nic()], br0("no bridge br0: create it"), "no-bridge", ""),
        ([nic()], br0(DOES_NOT_FILTER), "bridge-does-not-filter", "ip link set dev br0 type bridge vlan_filtering 1"),
        ([nic()], br0(eth0={}), "uplink-lacks-vlan", "bridge vlan add dev eth0 vid 46 master"),
        ([nic(**LEFT_ALONE, waits=True)],
         br0(eth0=access(46)), "waits-for-restart", ""),
        ([nic(), nic(**LEFT_ALONE, current=access(1), vm="a")], br0(eth0=every(1)), "in-default-vlan",
         "ip link set dev br0 type bridge vlan_default_pvid 0"),
        ([nic()], br0(), "no-uplink", ""),
    ],
)  # fmt: skip
def test_each_finding_has_its_code_and_the_command_to_type(nics, bridge, code, command):
    (found,) = [*problems(nics, [bridge]), *notes(nics, [bridge])]

    assert (found.code, found.command, found.bridge) == (code, command, "br0")
    assert found.is_note == (code in NOTES) == found.line.startswith("note: ")
    assert found.command in found.line


def test_a_finding_about_a_nic_says_which_and_its_vlans():
    (found,) = problems([nic(current={})], [br0(eth0=access(46))])

    assert (found.vm, found.vm_uuid, found.mac, found.tap) == ("web", UUID, MAC, "vnet0")
    assert (found.wanted, found.current) == (access(46), {})


def test_a_bridge_that_does_not_filter_is_said_in_the_hooks_words():
    (found,) = problems([nic()], [br0(DOES_NOT_FILTER)])

    assert found.line == DOES_NOT_FILTER


def test_check_says_all_that_is_wrong_at_once():
    found = problems([nic(current={}), nic(made_plain=True, vm="db")], [br0("no bridge br0"), br0(eth0={})])

    assert [finding.line.split()[0] for finding in found] == ["web", "db", "no", "br0:"]


@pytest.mark.parametrize(
    ("nics", "bridge", "says"),
    [
        (
            [nic(), nic(**LEFT_ALONE, current=access(1), vm="guest")],
            br0(eth0={}),
            "br0: in VLAN 1, because no portgroup of theirs names a VID: guest: to prevent that, ip link set ",
        ),
        (
            [nic(), *(nic(**LEFT_ALONE, current=access(1), vm=vm) for vm in ("b", "a", "b"))],
            br0(eth0={}),
            "br0: in VLAN 1, because no portgroup of theirs names a VID: a, b: to prevent",
        ),
        ([nic(), nic(**LEFT_ALONE, current={}, vm="guest")], br0(default_pvid=0, eth0={}), ""),  # strict
        ([nic(), nic(**LEFT_ALONE, current=access(5))], br0(eth0={}), ""),  # has VLANs of its own
        ([nic(**LEFT_ALONE, current=access(1))], br0(eth0={}), ""),  # a bridge on which nobody has a portgroup
        ([nic()], br0(eth0={}), ""),
        ([nic()], br0(), "br0: has no uplink"),
        ([nic()], br0("there is no bridge br0"), ""),  # that says it
    ],
)
def test_notes_say_what_may_be_meant(nics, bridge, says):
    found = notes(nics, [bridge])

    assert len(found) == bool(says)
    assert "".join(note.line for note in found).startswith(says and f"note: {says}")


def test_a_bridge_without_portgroups_hides_no_note_on_the_next():
    others = BridgeState("br1", "", 1, {})

    assert notes([nic(**LEFT_ALONE, bridge="br1"), nic()], [others, br0()]) == notes([nic()], [br0()]) != []


@pytest.mark.parametrize(
    ("vlans", "text"),
    [
        (None, "-"),
        ({}, "-"),
        (access(46), "46PU"),
        (TRUNK, "10PU,20,30-31"),
        ({10: "pvid", 20: "untagged"}, "10P,20U"),
        (every(1), "1PU,2-4094"),
    ],
)
def test_vlans_in_short(vlans, text):
    assert in_short(vlans) == text


def test_a_table_of_usual_names_fits_80_characters():
    lines = to_table([nic(vm="webserver"), nic(**LEFT_ALONE, current=access(1)), nic(TRUNK, TRUNK)], False).splitlines()

    assert lines[0].startswith("VM        MAC               TAP   BRIDGE NETWORK GROUP    WANTED ")
    assert lines[1].split() == ["webserver", MAC, "vnet0", "br0", "lan", "zerotier", "46PU", "46PU", "right"]
    assert lines[2].split() == ["web", MAC, "vnet0", "br0", "lan", "-", "-", "1PU", "left", "alone"]
    assert len(to_table([nic(vm="webserver"), nic(current=access(1))], False).splitlines()[0]) <= 80


def test_colour_is_for_the_verdict_only_and_no_name_can_bring_its_own():
    red, green = (to_table([nic(current=found, vm="a\x1b[2Kb")], True).splitlines()[1] for found in ({}, access(46)))

    assert red.endswith("\033[31mwrong\033[0m")
    assert green.endswith("\033[32mright\033[0m")
    assert red.startswith(r"a\x1b[2Kb ")
    assert "\033" not in to_table([nic()], False)
    assert "\033" not in to_table([nic(**LEFT_ALONE)], True)  # neither good nor bad


@pytest.mark.parametrize(
    "given",
    [nic(), nic(TRUNK, {}), nic(every(1), None), nic(**REFUSED), nic(**LEFT_ALONE, network="", bridge="", tap="")],
)
def test_json_is_as_the_schema_says(given):
    validate(json.loads(to_json([given, given])), SCHEMA)


@pytest.mark.parametrize(
    ("given", "differs"),
    [
        (nic(), {}),
        (nic(**REFUSED), {"wanted": None, "verdict": "refused", "reason": "network lan defines no portgroup 'x'"}),
        (
            nic(None, None, network="", bridge="", tap="", group=""),
            dict.fromkeys(("tap", "bridge", "network", "portgroup", "wanted", "current"), None)
            | {"verdict": "left alone"},
        ),
    ],
)
def test_json_has_what_the_table_has_and_null_for_what_there_is_not(given, differs):
    vlans = [{"vlan": 46, "flags": ["PVID", "Egress Untagged"]}]
    plain = {
        "vm": "web", "vm_uuid": UUID, "mac": MAC, "tap": "vnet0", "bridge": "br0", "network": "lan",
        "portgroup": "zerotier", "portgroup_is_default": False, "wanted": vlans, "current": vlans,
        "verdict": "right", "reason": None,
    }  # fmt: skip

    assert json.loads(to_json([given]))["nics"] == [plain | differs]


def test_json_can_be_read_by_people_too():
    assert to_json([]).splitlines() == ["{", '  "nics": []', "}"]


def test_json_has_vlans_in_the_words_of_bridge():
    (shown,) = json.loads(to_json([nic(TRUNK, {})]))["nics"]

    assert shown["current"] == []
    assert shown["wanted"] == [
        {"vlan": 10, "flags": ["PVID", "Egress Untagged"]},
        {"vlan": 20, "flags": []},
        {"vlan": 30, "vlanEnd": 31, "flags": []},
    ]


# What libvirt says


def domain(interfaces, attributes=" id='3'"):
    return f"<domain{attributes}><name>web</name><uuid>{UUID}</uuid><devices>{interfaces}</devices></domain>".encode()


def interface(source, kind="network", more=""):
    return f"<interface type='{kind}'><mac address='{MAC}'/><source {source}/>{more}</interface>"


PORT_ID = "portid='caa15290-e4fa-4d2b-a36b-68e22861b043'"


@pytest.mark.parametrize(
    ("xml", "plug", "bridge", "group"),
    [
        (interface(f"network='n' portgroup='g' {PORT_ID} bridge='br0'", "bridge"), "bridge", "br0", "g"),
        (interface(f"network='n' {PORT_ID} bridge='virbr0'"), "network", "virbr0", ""),
        (interface(f"network='n' portgroup='g' {PORT_ID} dev='eth0' mode='bridge'", "direct"), "direct", "", "g"),
        (interface(f"network='n' {PORT_ID}", "hostdev"), "hostdev-pci", "", ""),
        (interface("bridge='br0'", "bridge"), "bridge", "br0", ""),
    ],
)
def test_a_running_nic_is_the_port_that_the_hook_was_told_about(xml, plug, bridge, group):
    vm = parse_domain(domain(xml))
    port = port_of(vm, vm.nics[0])

    assert vm.runs
    assert (port.plug, port.bridge, port.group, port.mac, port.vm) == (plug, bridge, group, MAC, "web")


def test_a_nic_is_read_whole():
    more = f"<target dev='vnet3'/><virtualport/>{VLAN}"
    source = f"network='lan' portgroup='zerotier' {PORT_ID} bridge='br0'"
    vm = parse_domain(domain(interface(source, "bridge", more)))
    (found,) = vm.nics

    port = {"uuid": "caa15290-e4fa-4d2b-a36b-68e22861b043", "vm": "web", "vm_uuid": UUID, "mac": MAC}
    assert (found.tap, found.network) == ("vnet3", "lan")
    assert port_of(vm, found) == Port(
        **port,
        kind=None,
        group="zerotier",
        plug="bridge",
        bridge="br0",
        has_vlan=True,
        has_virtualport=True,
        isolated=False,
        fdb_managed=False,
    )


def test_a_nic_of_which_libvirt_says_little_has_little():
    vm = parse_domain(f"<domain><uuid>{UUID}</uuid><devices><interface><mac address='{MAC.upper()}'/>"
                      "</interface></devices></domain>".encode())  # fmt: skip
    nothing = dict.fromkeys(("kind", "network", "group", "bridge", "tap", "port_uuid", "guest_end"), "")

    assert (vm.name, vm.uuid, vm.runs) == ("", UUID, False)
    assert vm.nics == [
        Nic(mac=MAC, **nothing, has_vlan=False, has_virtualport=False, isolated=False, fdb_managed=False)
    ]


@pytest.mark.parametrize(
    ("nic_xml", "says"),
    [
        ("", "'' is not a MAC address"),
        ("<mac address='52:54:00'/>", "'52:54:00' is not a MAC address"),
        (f"<mac address='{MAC}'/><source {PORT_ID}/><target dev='../x'/>", "'../x' cannot be the name of an interface"),
        (f"<mac address='{MAC}'/><source portid='../x'/>", "'../x' is not a UUID"),
    ],
)
def test_a_nic_with_a_value_that_cannot_be_one_of_its_kind_is_refused(nic_xml, says):
    with pytest.raises(HookError, match=says):
        parse_domain(domain(f"<interface>{nic_xml}</interface>"))


def test_a_nic_that_is_no_port_of_a_network_is_read_without_names_that_no_interface_can_have():
    """It is not ours, so it must stop neither its VM nor the tool."""
    (found,) = parse_domain(domain(interface("bridge='a b'", "bridge", "<target dev='../x'/>"))).nics

    assert (found.bridge, found.tap, found.mac) == ("", "", MAC)


BRIDGED = "<forward mode='bridge'/><bridge name='br0'/>"
VLAN = "<vlan><tag id='5'/></vlan>"
NO_LINUX_BRIDGE = "its plug is {}, no Linux bridge"


@pytest.mark.parametrize(
    ("group", "network", "more", "reason"),
    [
        ("a", BRIDGED, "", ""),
        ("a", "<forward mode='nat'/><bridge name='virbr0'/>", "", ""),
        ("a", "<bridge name='virbr0'/>", "", ""),  # isolated: no <forward>
        ("a", "<forward/><bridge name='virbr0'/>", "", ""),  # nat is the default mode
        ("a", "<forward mode='bridge'><interface dev='eth0'/></forward>", "", NO_LINUX_BRIDGE.format("direct")),
        ("a", "<forward mode='passthrough'/>", "", NO_LINUX_BRIDGE.format("direct")),
        ("a", "<forward mode='hostdev'/>", "", NO_LINUX_BRIDGE.format("hostdev-pci")),
        ("", BRIDGED, "", "it has no portgroup"),
        ("a", BRIDGED, VLAN, "it has a <vlan>"),  # the NIC's own
        ("a", BRIDGED + VLAN, "", "it has a <vlan>"),  # its network's
        ("a", BRIDGED + f"<portgroup name='a'>{VLAN}</portgroup>", "", "it has a <vlan>"),  # its portgroup's
        ("a", BRIDGED + f"<portgroup name='b'>{VLAN}</portgroup>", "", ""),  # another's
        ("", BRIDGED + f"<portgroup name='b' default='yes'>{VLAN}</portgroup>", "", "it has a <vlan>"),
        ("a", BRIDGED + f"<portgroup name='b' default='yes'>{VLAN}</portgroup>", "", ""),  # it names one
        ("a", BRIDGED + "<virtualport type='openvswitch'/>", "", "it has a <virtualport>"),
    ],
)
def test_a_planned_nic_is_the_port_that_the_hook_will_be_told_about(group, network, more, reason):
    xml = f"<network><name>n</name>{network}</network>".encode()
    vm = parse_domain(domain(interface(f"network='n' portgroup='{group}'", more=more), ""))
    port = planned_port(vm, vm.nics[0], xml)

    assert not vm.runs
    assert network_of(port, xml).port is port
    left_alone = decided(port, network_of(port, xml)).left_alone
    assert left_alone.startswith(reason)
    assert bool(reason) == bool(left_alone)


# source: libvirt, src/network/bridge_driver.c, networkAllocatePort()
@pytest.mark.parametrize(
    ("network", "plug"),
    [
        (BRIDGED, "bridge"),
        ("<bridge name='virbr0'/>", "network"),
        ("<forward/><bridge name='virbr0'/>", "network"),
        ("<forward mode='open'/><bridge name='virbr0'/>", "network"),
        ("<forward mode='private'/>", "direct"),
        ("<forward mode='hostdev'/>", "hostdev-pci"),
    ],
)
def test_a_network_of_each_kind_has_plugs_of_its_kind(network, plug):
    vm = parse_domain(domain(interface("network='n'"), ""))

    assert planned_port(vm, vm.nics[0], f"<network><name>n</name>{network}</network>".encode()).plug == plug


def test_a_network_whose_bridge_has_a_name_that_none_can_have_is_refused():
    vm = parse_domain(domain(interface("network='n'"), ""))

    with pytest.raises(HookError, match="'a b' cannot be the name of an interface"):
        planned_port(vm, vm.nics[0], b"<network><name>n</name><bridge name='a b'/></network>")


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (b"", "the XML of VM web cannot be read"),
        (b"error: failed", "the XML of VM web cannot be read \\(syntax error"),
        (b"<domain/>", "'' is not a UUID"),
        (b"<!DOCTYPE x>" + domain(""), "cannot be read \\(DTDForbidden"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><domain>&a;</domain>", "cannot be read"),
    ],
)
def test_what_virsh_should_not_say_is_refused(xml, says):
    with pytest.raises(HookError, match=says):
        parse_domain(xml, "the XML of VM web")


# Hooks that libvirt can call, and nobody else can change


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    """Both hooks and lib as `make install` leaves them, for whoever runs this."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of root's")
    monkeypatch.setattr(installation, "HOOKS", tmp_path)
    monkeypatch.setattr(installation, "PROC", tmp_path / "no-proc")
    monkeypatch.setattr(installation, "OFF", str(tmp_path / "off"))
    monkeypatch.setattr(installation, "SYSTEMD", tmp_path / "no-systemd")
    (tmp_path / "lib").mkdir()
    for hook in ("network", "qemu", "lxc"):
        (tmp_path / hook).write_text(f"from libvirt_hooks.{hook} import main\n")
        (tmp_path / hook).chmod(0o755)
    tmp_path.chmod(0o755)
    return tmp_path


def test_hooks_as_installed_are_right(hooks):
    assert installation.problems() == []


def test_a_hook_beside_anothers_is_right(hooks):
    (hooks / "network.d").mkdir()
    (hooks / "network").rename(hooks / "network.d/50-vlan")
    (hooks / "network").write_text("#!/bin/sh\n")

    assert installation.problems() == []


def test_the_debian_packages_hook_beside_anothers_is_right(hooks):
    packaged(hooks, "network")
    (hooks / "network").write_text("#!/bin/sh\n")

    assert installation.problems() == []


@pytest.mark.parametrize(
    ("tool", "file", "command"),
    [
        ("/usr/share/libvirt-hooks/lib/libvirt_hooks/tool", "qemu.d/50-libvirt-hooks",
         f"dpkg -i --force-confmiss libvirt-hooks_{VERSION}_all.deb"),
        ("/usr/local/sbin/libvirt-vlan/libvirt_hooks/tool", "qemu", "install -m 755 dist/qemu {hooks}/"),  # one file
    ],
)  # fmt: skip
def test_a_missing_hook_is_installed_as_the_tool_was(hooks, monkeypatch, tool, file, command):
    monkeypatch.setattr(installation, "TOOL", hooks / "package" if "share" in tool else Path(tool))
    if "share" in tool:
        (hooks / "package").mkdir()
        monkeypatch.setattr(installation, "PACKAGE", hooks)
    (hooks / "qemu").unlink()
    (found,) = installation.problems()

    assert (found.code, found.command) == ("hook-missing", command.format(hooks=hooks))
    assert found.line.startswith(f"{hooks / file} does not exist, or belongs to another tool: ")


def packaged(hooks, hook):
    """Have the package's file of a hook there, too."""
    file = hooks / f"{hook}.d/50-libvirt-hooks"
    file.parent.mkdir(exist_ok=True)
    file.write_text((REPOSITORY / "debian/hook").read_text().replace("@HOOK@", hook))
    file.chmod(0o755)


def test_hooks_by_make_install_and_by_the_package_are_found(hooks):
    packaged(hooks, "network")
    (found,) = installation.problems()

    assert (found.code, found.command) == ("installed-twice", "make uninstall")
    assert found.line == (
        f"{hooks}/network is used instead of {hooks}/network.d/50-libvirt-hooks, so an upgrade of the package "
        "libvirt-hooks changes nothing: remove one of the two with make uninstall or with apt purge libvirt-hooks"
    )


def test_hooks_that_libvirt_runs_twice_are_found(hooks):
    for name in ("a b", "c"):
        (hooks / "qemu.d").mkdir(exist_ok=True)
        shutil.copy2(hooks / "qemu", hooks / "qemu.d" / name)
    (found,) = installation.problems()

    assert (found.code, found.command) == ("installed-twice", f"rm '{hooks}/qemu.d/a b' {hooks}/qemu.d/c")
    assert found.line.startswith(f"{hooks}/qemu and {hooks}/qemu.d/a b and {hooks}/qemu.d/c are the same hook, and ")
    for file in shlex.split(found.command)[1:]:
        Path(file).unlink()
    assert installation.problems() == []


def switch_off(hooks):
    (hooks / "off").touch()


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda hooks: (hooks / "qemu").unlink(), "hook-missing",
         "qemu does not exist, or belongs to another tool: install the hooks with make install, or with the Ansible "),
        (lambda hooks: (hooks / "qemu").write_text("#!/bin/sh\n"), "hook-missing", "qemu does not exist, or belongs"),
        (lambda hooks: (hooks / "qemu").chmod(0o644), "hook-not-executable",
         "qemu is not executable, so libvirt ignores it: chmod 755 "),
        (lambda hooks: (hooks / "qemu").chmod(0o775), "writable-by-others",
         "qemu runs as root, and others can change it: chown root:root "),
        (lambda hooks: os.chown(hooks / "qemu", 1, 1), "writable-by-others", "qemu runs as root, and others "),
        (lambda hooks: (hooks / "lib").chmod(0o777), "writable-by-others", "lib runs as root, and others can "),
        (switch_off, "switched-off", "the hooks are switched off: libvirt-vlan on switches them on again"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_hooks_is_found(hooks, spoil, code, says):
    spoil(hooks)

    (found,) = installation.problems()
    assert (found.code, found.is_note) == (code, False)
    assert says in found.line
    assert found.command in found.line


@pytest.mark.parametrize("place", ["lib64", "lib/x86_64-linux-gnu"])
def test_a_missing_lxc_hook_matters_only_where_libvirt_runs_containers(hooks, tmp_path, monkeypatch, place):
    monkeypatch.setattr(virsh, "DRIVERS", tmp_path / "usr")
    (hooks / "lxc").unlink()
    assert installation.problems() == []
    driver = tmp_path / "usr" / place / "libvirt/connection-driver/libvirt_driver_lxc.so"
    driver.parent.mkdir(parents=True)
    driver.touch()

    assert [(found.code, found.line.partition(" ")[0]) for found in installation.problems()] == [
        ("hook-missing", f"{hooks}/lxc")
    ]


def test_a_daemon_that_started_before_a_hook_may_not_know_it(hooks, monkeypatch):
    monkeypatch.setattr(installation, "_started", lambda daemon: [0.0] if daemon == "libvirtd" else [])

    found = installation.problems()

    assert [(one.code, one.command) for one in found] == [("hook-newer-than-daemon", "systemctl restart libvirtd")] * 3
    assert found[0].line.endswith(" started, so libvirtd may not have noticed it: systemctl restart libvirtd")


@pytest.mark.parametrize(
    ("enabled", "active", "is_found"),
    [
        (True, False, True),  # it has failed, or nobody has started it
        (True, True, False),
        (False, False, False),  # who does not want it
        (False, True, False),  # started by hand
    ],
)
def test_a_watch_that_is_enabled_and_does_not_run_is_found(hooks, monkeypatch, enabled, active, is_found):
    """There is no systemd in the lab: systemctl is a program that answers as its does, by its exit status."""
    systemctl = hooks / "bin/systemctl"
    systemctl.parent.mkdir()
    answers = {"is-enabled": enabled, "is-active": active}
    cases = "".join(f'"-q {word} libvirt-vlan-watch") exit {int(not yes)};;' for word, yes in answers.items())
    systemctl.write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\nexit 9\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    assert installation.problems() == []  # without systemd
    monkeypatch.setattr(installation, "SYSTEMD", hooks)

    found = installation.problems()

    assert [one.code for one in found] == (["watch-not-running"] if is_found else [])
    assert all(one.line.endswith("enabled but not running: systemctl start libvirt-vlan-watch") for one in found)


# The command line and the man page say the same


def words(text):
    return set(re.findall(r"--[a-z-]+", text))


def test_the_man_page_has_the_verbs_and_options_of_the_command_line():
    page = (REPOSITORY / "man/libvirt-vlan.8").read_text().replace(r"\-", "-")
    top = command.parser()
    (verbs,) = [action.choices for action in top._actions if action.choices]
    options = words(top.format_help()).union(*(words(verb.format_help()) for verb in verbs.values()))

    synopsis = page.partition(".SH DESCRIPTION")[0]
    assert re.findall(r"^\.B libvirt-vlan ([a-z]+)$", synopsis, re.MULTILINE) == list(verbs)
    assert re.findall(r"^\.TP\n\.B ([a-z]+)$", page, re.MULTILINE) == list(verbs)
    assert words(page.replace("--inactive", "")) == options
    assert set(re.findall(r"^\.B ([012])$", page, re.MULTILINE)) == set(re.findall(r"\b[012]\b", top.epilog))


@pytest.mark.parametrize("arguments", ["", "mend", "show --yaml", "plan", "plan a b", "show web"])
def test_what_is_not_understood_is_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(shlex.split(arguments))

    assert ended.value.code == 2
    assert "usage: libvirt-vlan" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_or_written_is_one_line_and_exit_2(monkeypatch, capfd):
    monkeypatch.setattr(command, "_VERBS", {"show": lambda _: os.close(os.open("/no/such", os.O_RDONLY))})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    stdout = sys.stdout.fileno()  # pytest's own, not always 1
    kept = os.dup(stdout)
    try:
        assert command.main(["show"]) == 2
    finally:
        os.dup2(kept, stdout)

    assert capfd.readouterr().err == "libvirt-vlan: /no/such: No such file or directory\n"
