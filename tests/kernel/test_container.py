# SPDX-License-Identifier: MIT
"""Containers: the hooks as libvirt calls them, with veth pairs and network namespaces that libvirt could have made.

 br0 (vlan_filtering 1)
  |
vnet0 ===== vnet1, in the host's network namespace until the container runs
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from captured import METADATA
from conftest import DATA, MAC, REPOSITORY, TICKETS, UUID, detached, hook, logged, make_bridge_program, refused
from iproute import ACCESS, DEFAULT, SERVER, ZEROTIER, always, eventually, ip, vlans

LXC = REPOSITORY / "hooks/lxc"
VM_UUID = re.search("<uuid>(.*?)</uuid>", (DATA / "lxc-start.xml").read_text())[1]
UUID2 = UUID[:-1] + "2"
NOTE, PORTS, NETWORK = (Path("/run/libvirt") / name for name in ("lxc/box.xml", "network/br0/ports", "network/br0.xml"))


def start_xml(portgroup="zerotier", guest_end="vnet1", mac=MAC):
    """Return what the lxc hook's `start` is given for container box with one NIC."""
    xml = (DATA / "lxc-start.xml").read_text()
    first, second = re.findall("    <interface.*?</interface>\n", xml, re.DOTALL)
    named = f" portgroup='{portgroup}'" if portgroup else ""
    nic = re.sub("actual='.*?'", f"actual='{guest_end}'", first).replace(" portgroup='zerotier'", named)
    return xml.replace(first, nic.replace(MAC, mac)).replace(second, "")


def note_port(uuid=UUID, group="zerotier", mac=MAC):
    """Have libvirt's record of a port of the container."""
    xml = re.sub("<uuid>.*?</uuid>", f"<uuid>{uuid}</uuid>", (DATA / "note-of-port.xml").read_text(), count=1)
    xml = xml.replace("<group>zerotier</group>", f"<group>{group}</group>" if group else "").replace(MAC, mac)
    PORTS.mkdir(parents=True, exist_ok=True)
    (PORTS / f"{uuid}.xml").write_text(xml)


def note_container(controller, uuid=UUID, veth="vnet0"):
    """Given the id of its controller, have libvirt's record of the container: its first NIC's port and veth."""
    xml = (DATA / "note-of-container.xml").read_text()
    xml = re.sub("portid='.*?'", f"portid='{uuid}'", xml, count=1)
    xml = re.sub("<target dev='.*?'", f"<target dev='{veth}'", xml, count=1)
    xml = re.sub("<domstatus (.*) pid='.*?'", f"<domstatus \\1 pid='{controller}'", xml)
    NOTE.parent.mkdir(parents=True, exist_ok=True)
    NOTE.write_text(xml)


def note_network(old="<name>", new="<name>"):
    captured = (DATA / "network-started.xml").read_text()
    network = captured[captured.index("<network") : captured.index("</hookData>")].replace(old, new)
    NETWORK.parent.mkdir(parents=True, exist_ok=True)
    NETWORK.write_text(f"<networkstatus>{network}</networkstatus>")


def port_xml(uuid=UUID, group="zerotier"):
    """Return what the network hook is given for a port of the container."""
    xml = (DATA / "network-port-created-zerotier.xml").read_text()
    head, _, port = xml.partition("<networkport>")
    port = re.sub("<uuid>.*?</uuid>", f"<uuid>{uuid}</uuid>", port, count=1)
    port = re.sub("<owner>.*</owner>", f"<owner><name>box</name><uuid>{VM_UUID}</uuid></owner>", port, flags=re.DOTALL)
    head = head.replace("<forward", METADATA)
    return f"{head}<networkport>{port}".replace("<group>zerotier</group>", f"<group>{group}</group>" if group else "")


def lxc(operation, xml=None, **options):
    return hook(operation, start_xml() if xml is None else xml, executable=LXC, name="box", **options)


def add_veth(bridge, veth="vnet0", guest_end="vnet1", mac=MAC):
    """Make a veth pair in the order that libvirt does, its host's end on the bridge."""
    ip("link", "add", veth, "type", "veth", "peer", "name", guest_end, "address", mac)
    ip("link", "set", veth, "master", bridge.name, "up")


def start(bridge, group="zerotier"):
    """Do all that libvirt does until the lxc hook's `start`, return what that returned."""
    note_network("<forward", METADATA)
    assert lxc("prepare").returncode == 0
    done = hook("port-created", port_xml(group=group))
    assert (done.returncode, done.stderr) == (0, "")
    note_port(group=group)
    add_veth(bridge)
    return lxc("start", start_xml(group))


def left():
    return sorted(file.name for file in TICKETS.glob("*") if not file.name.startswith(("lock", "refused.")))


@pytest.fixture
def container():
    """Have a network namespace box for a container, give its controller's process id; afterwards all of it is gone."""
    ip("netns", "add", "box")
    words = ["libvirt_lxc", "-c", "read _", "--name", "box", "--veth", "vnet1"]
    with subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE) as controller:
        yield controller.pid
        controller.kill()
    subprocess.run(["ip", "netns", "del", "box"], check=True)
    NOTE.unlink(missing_ok=True)


def test_a_container_has_its_vlans_when_start_returns_and_no_process_waits(bridge):
    assert lxc("prepare").returncode == 0
    assert hook("port-created", port_xml()).returncode == 0
    assert detached() == []
    note_port()
    add_veth(bridge)
    assert vlans("vnet0") == DEFAULT
    done = lxc("start")

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", ZEROTIER)
    assert "ip -j -d link show dev vnet1" in logged()
    assert f"box {MAC} vnet0 zerotier: + bridge vlan add dev vnet0 vid 46 pvid untagged master" in logged()
    assert left() == [f"veth-{MAC}.{UUID}"]
    ip("link", "del", "vnet0")
    assert hook("port-deleted", port_xml()).returncode == 0
    assert left() == []
    assert detached() == []


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("lab", {10: ACCESS, 20: (), **dict.fromkeys(range(30, 41), ())}),
        ("trunk", {vid: ACCESS if vid == 1 else () for vid in range(1, 4095)}),
        ("slow", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_each_kind_of_portgroup(bridge, group, expected):
    done = start(bridge, group)

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", expected)
    assert left() == ([] if group in ("slow", "") else [f"veth-{MAC}.{UUID}"])


def test_a_portgroup_that_cannot_work_is_refused_and_the_next_start_is_not_affected(bridge):
    lxc("prepare")
    line = refused(hook("port-created", port_xml(group="typo")))

    assert line.startswith(f"container box, NIC {MAC}: network br0 defines no portgroup 'typo'")
    assert start(bridge).returncode == 0
    assert vlans("vnet0") == ZEROTIER


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (["ip", "link", "set", "vnet1", "netns", "box"], "ip -j -d link show dev vnet1: exit 1: Device"),
        # the other end is in another network namespace, and has the number of a bridge port here
        (["ip", "link", "set", "vnet0", "netns", "box"], "vnet1 is not one end of a veth pair on this host"),
        (["ip", "link", "set", "vnet0", "nomaster"], "vnet0 is not on br0: try again"),
        (["ip", "link", "set", "vnet0", "master", "br1"], "vnet0 is not on br0: try again"),
        (
            ["ip", "link", "set", "vnet1", "address", "52:54:00:00:00:77"],
            "vnet1 has the address 52:54:00:00:00:77 instead of",
        ),
    ],
)
def test_a_veth_that_is_not_as_it_should_be_refuses_the_start(bridge, container, spoil, says):
    ip("link", "add", "br1", "type", "bridge", "vlan_filtering", "1")
    bridge.add_tap("vnet5", "fe:54:00:00:00:05")
    lxc("prepare")
    hook("port-created", port_xml())
    note_port()
    add_veth(bridge)
    ip(*spoil[1:])
    line = refused(lxc("start"))

    assert line.startswith(f"container box: NIC {MAC}, veth vnet1: {says}")
    assert vlans("vnet5") == DEFAULT
    if Path("/sys/class/net/vnet0").exists():
        assert vlans("vnet0") in (DEFAULT, {})  # {}: it is on no bridge


@pytest.mark.parametrize("link", [("type", "dummy"), ("link", "vnet5", "type", "vlan", "id", "7")])
def test_an_interface_that_is_no_veth_is_nobodys_other_end(bridge, link):
    """A VLAN interface names another interface as a veth does: `"link": "vnet5"`."""
    bridge.add_tap("vnet5", "fe:54:00:00:00:05")
    lxc("prepare")
    hook("port-created", port_xml())
    note_port()
    parent, kind = (link[:2], link[2:]) if link[0] == "link" else ((), link)
    ip("link", "add", *parent, "name", "vnet1", "address", MAC, *kind)

    assert "vnet1 is not one end of a veth pair on this host" in refused(lxc("start"))
    assert vlans("vnet5") == DEFAULT


@pytest.mark.parametrize("vm_first", [True, False])
def test_a_vm_with_the_same_mac_address_is_not_touched(bridge, vm_first):
    if vm_first:
        bridge.add_tap("vnet5", "fe:54:00:00:00:01")
    assert start(bridge).returncode == 0
    if not vm_first:
        bridge.add_tap("vnet5", "fe:54:00:00:00:01")
        always(lambda: vlans("vnet5") == DEFAULT, for_seconds=2)

    assert (vlans("vnet0"), vlans("vnet5")) == (ZEROTIER, DEFAULT)


def test_two_nics_with_one_mac_address_are_refused(bridge):
    note_network()
    lxc("prepare")
    hook("port-created", port_xml())
    note_port()
    note_port(UUID2)
    add_veth(bridge)
    add_veth(bridge, "vnet2", "vnet3")
    xml = start_xml()
    nic = re.search("    <interface.*?</interface>\n", xml, re.DOTALL)[0]
    line = refused(lxc("start", xml.replace(nic, nic + nic.replace("vnet1", "vnet3"))))

    assert "has the same last five bytes on the same bridge: give one of the two NICs another" in line
    assert (vlans("vnet0"), vlans("vnet2")) == (DEFAULT, DEFAULT)


# The network hook was not called


@pytest.mark.parametrize(
    ("group", "replaced", "expected"),
    [
        ("zerotier", ("<name>", "<name>"), ZEROTIER),
        ("", ("<portgroup name='server-3'>", "<portgroup name='server-3' default='yes'>"), SERVER),
    ],
)
def test_without_a_ticket_the_lxc_hook_decides(bridge, group, replaced, expected):
    note_network(*replaced)
    note_port(group=group)
    add_veth(bridge)
    done = lxc("start", start_xml(group))

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", expected)
    assert left() == [f"veth-{MAC}.{UUID}"]
    assert any("the network hook was not called for this port, so the lxc hook sets its VLANs" in li for li in logged())


@pytest.mark.parametrize(
    ("group", "notes", "says"),
    [
        ("typo", (note_network, lambda: note_port(group="typo")), "network br0 defines no portgroup 'typo'"),
        ("zerotier", (note_port,), "libvirtd has no record of network br0 that says what portgroup 'zerotier' means"),
        (
            "zerotier",
            (note_network,),
            "libvirt has no record of this NIC's port in network br0: systemctl restart libvirtd",
        ),
    ],
)
def test_what_nobody_can_decide_is_refused(bridge, group, notes, says):
    for note in notes:
        note()
    add_veth(bridge)

    assert says in refused(lxc("start", start_xml(group)))
    assert (vlans("vnet0"), left()) == (DEFAULT, [])


def test_a_container_that_is_left_alone_runs_nothing(bridge, tmp_path):
    note_network()
    note_port(group="")
    add_veth(bridge)
    done = lxc("start", start_xml(""), path=make_bridge_program(tmp_path, f"touch {tmp_path}/run"))

    assert (done.returncode, done.stderr, logged(), left()) == (0, "", [], [])
    assert not (tmp_path / "run").exists()


def test_a_note_of_a_port_that_cannot_be_read_stops_only_a_container_that_has_a_portgroup(bridge):
    note_network()
    note_port(group="")
    file = PORTS / f"{UUID}.xml"
    file.write_text(file.read_text() + "<")
    add_veth(bridge)

    assert (lxc("start", start_xml("")).returncode, vlans("vnet0")) == (0, DEFAULT)
    assert "left alone, because it has no portgroup: libvirtd's record of the port" in logged()[-1]
    assert "libvirtd's record of the port" in refused(lxc("start"))
    note_network("<portgroup name='server-3'>", "<portgroup name='server-3' default='yes'>")
    assert "libvirtd's record of the port" in refused(lxc("start", start_xml("")))


# A container that runs


@pytest.fixture
def running(bridge, container):
    """Have a container that runs, started with its VLANs."""
    assert start(bridge).returncode == 0
    ip("link", "set", "vnet1", "netns", "box")
    note_container(container)
    return container


def test_a_restart_of_the_daemon_repairs_what_somebody_wiped(running):
    subprocess.run(["bridge", "vlan", "del", "dev", "vnet0", "vid", "46"], check=True)
    subprocess.run(["bridge", "vlan", "add", "dev", "vnet0", "vid", "1", "pvid", "untagged"], check=True)
    assert hook("port-created", port_xml()).returncode == 0

    eventually(lambda: vlans("vnet0") == ZEROTIER)
    eventually(lambda: not detached())
    assert left() == [f"veth-{MAC}.{UUID}"]


def test_a_restart_of_the_daemon_leaves_one_ticket_of_a_container_that_was_taken_for_a_vm(running):
    """The hooks of a checkout that knew no containers have written it."""
    as_vms = (TICKETS / f"veth-{MAC}.{UUID}").read_text().replace("container 1\n", "")
    (TICKETS / f"fe{MAC[2:]}.{UUID}").write_text(as_vms)
    assert hook("port-created", port_xml()).returncode == 0

    assert left() == [f"veth-{MAC}.{UUID}"]


def test_a_port_that_libvirt_has_kept_of_a_container_that_is_gone_stops_no_other(running, bridge):
    """The container ended while its network's daemon was down, and has another uuid since it was defined again."""
    other = (VM_UUID, VM_UUID[:-1] + "0")
    lxc("prepare", start_xml().replace(*other))
    done = hook("port-created", port_xml(UUID2).replace(*other))
    assert "container box has that address on br0 already: give one" in done.stderr
    bridge.remove_tap("vnet0")
    NOTE.unlink()
    lxc("prepare", start_xml().replace(*other))

    assert hook("port-created", port_xml(UUID2).replace(*other)).returncode == 0
    assert left() == [f"starting.{other[1]}", f"veth-{MAC}.{UUID2}"]


def test_the_veths_name_comes_back_as_a_vms_tap(running, bridge):
    """libvirt's record of the container is old, because the daemon was down when the container ended."""
    ip("link", "del", "vnet0")
    bridge.add_tap("vnet0", "fe:54:00:00:00:99")
    hook("port-created", port_xml())
    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=3)


def test_a_nic_plugged_in_is_found_by_libvirts_note(bridge, container):
    note_container(container, UUID2, "vnet8")  # it runs with another NIC
    assert hook("port-created", port_xml()).returncode == 0
    add_veth(bridge)
    ip("link", "set", "vnet1", "netns", "box")
    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=1)
    note_port()
    note_container(container)

    eventually(lambda: vlans("vnet0") == ZEROTIER)
    eventually(lambda: not detached())


def test_a_nic_plugged_in_with_the_mac_address_of_another_is_refused(running):
    """libvirt allows it."""
    assert "the container has a NIC with that address already" in refused(hook("port-created", port_xml(UUID2)))
    assert left() == [f"veth-{MAC}.{UUID}"]
    assert vlans("vnet0") == ZEROTIER


def test_a_note_of_a_container_that_has_ended_names_nothing(bridge, container):
    """It ended while libvirtd was down, and libvirtd announces its ports again. Its veth can be another's by now."""
    note_container(1)
    add_veth(bridge)
    ip("link", "set", "vnet1", "netns", "box")
    assert hook("port-created", port_xml()).returncode == 0
    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=8)
    assert hook("port-deleted", port_xml()).returncode == 0

    assert left() == []


def test_a_note_that_names_no_veth_of_a_container_changes_nothing(bridge, container):
    note_container(container, UUID2, "vnet8")
    assert hook("port-created", port_xml()).returncode == 0
    bridge.add_tap("vnet0", "fe:54:00:00:00:99")
    note_container(container)
    eventually(lambda: any("vnet0 is not one end of a container's veth pair" in line for line in logged()))

    assert vlans("vnet0") == DEFAULT


# The lxc hook was not called


@pytest.fixture
def defined():
    """Have container box defined."""
    file = Path("/etc/libvirt/lxc/box.xml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((DATA / "lxc-prepare.xml").read_text())
    yield
    file.unlink()


def test_a_defined_container_does_not_start_without_the_lxc_hook(bridge, defined):
    assert "the lxc hook was not called: install it, systemctl restart libvirtd" in refused(
        hook("port-created", port_xml())
    )
    assert (left(), detached()) == ([], [])
    assert start(bridge).returncode == 0


def test_a_transient_one_has_its_vlans_once_libvirt_notes_that_it_runs(bridge, container):
    assert hook("port-created", port_xml()).returncode == 0
    add_veth(bridge)
    ip("link", "set", "vnet1", "netns", "box")
    note_port()
    note_container(container)

    eventually(lambda: vlans("vnet0") == ZEROTIER)
    eventually(lambda: not detached())
    assert left() == [f"veth-{MAC}.{UUID}"]
    assert any("the lxc hook was not called" in line for line in logged())
    assert not any("its tap has not come" in line for line in logged())


def test_a_note_of_a_start_while_the_hooks_were_off_does_not_hide_a_running_container(bridge, container):
    lxc("prepare")
    os.utime(TICKETS / f"starting.{VM_UUID}", (1, 1))
    note_container(container)
    add_veth(bridge)
    ip("link", "set", "vnet1", "netns", "box")
    hook("port-created", port_xml())

    eventually(lambda: vlans("vnet0") == ZEROTIER)


# What never stops anything


def test_every_other_operation_does_nothing(bridge):
    for operation in ("started", "stopped", "release", "reconnect", "no-such-operation", ""):
        for xml in ("\0 garbage & <", start_xml()):
            done = lxc(operation, xml)
            assert (operation, done.returncode, done.stderr, logged()) == (operation, 0, "", [])


def test_garbage_is_a_line_in_the_log(bridge):
    done = lxc("prepare", "\0 garbage & <")

    assert done.returncode == 0
    assert "container box: the XML on stdin cannot be read" in logged()[-1]


def test_a_start_that_fails_leaves_no_note_for_long(bridge):
    lxc("prepare")
    assert left() == [f"starting.{VM_UUID}"]
    refused(hook("port-created", port_xml(group="typo")))
    assert left() == []
    lxc("prepare")  # and libvirt itself fails
    os.utime(TICKETS / f"starting.{VM_UUID}", (1, 1))
    lxc("prepare", start_xml().replace(VM_UUID, UUID))

    assert left() == [f"starting.{UUID}"]


@pytest.mark.parametrize("module", ["guest_start", "lxc", "__init__"])
def test_our_own_mistakes_stop_only_a_container_that_has_a_portgroup(bridge, tmp_path, module):
    subprocess.run(["cp", "-r", REPOSITORY / "lib", LXC, tmp_path], check=True)
    with open(tmp_path / "lib/libvirt_hooks" / f"{module}.py", "a", encoding="utf-8") as file:
        file.write("\nraise RuntimeError('a mistake')\n")

    def call(operation, portgroup):
        return hook(operation, start_xml(portgroup), executable=tmp_path / "lxc", name="box").returncode

    assert [call(operation, "zerotier") for operation in ("prepare", "started", "release")] == [0, 0, 0]
    assert (call("start", ""), call("start", "zerotier")) == (0, 1)
    start(bridge)
    assert call("start", "") == 1  # it has a ticket now
    Path("/run/libvirt-hooks.off").touch()
    try:
        assert call("start", "zerotier") == 0
    finally:
        Path("/run/libvirt-hooks.off").unlink()


def test_the_link_is_what_ip_says(bridge):
    """So that an operator can look the same up."""
    add_veth(bridge)
    shown = json.loads(subprocess.check_output(["ip", "-j", "-d", "link", "show", "dev", "vnet1"]))

    assert (shown[0]["link"], shown[0]["linkinfo"]["info_kind"], "link_netnsid" in shown[0]) == ("vnet0", "veth", False)
