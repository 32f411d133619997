# SPDX-License-Identifier: MIT
"""Real containers under a real libvirtd: each NIC is in its VLANs before the container runs, and stays there."""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import (
    BRIDGE,
    LOG,
    MAC,
    MAC2,
    REPOSITORY,
    eventually_settled,
    leftovers,
    nothing_left_behind,
    start_libvirtd,
    undefine_network,
    virsh,
    working,
)
from guest import listening_in_every_vlan
from iproute import ACCESS, DEFAULT, EVERY, LAB, SERVER, ZEROTIER, eventually, vlans, wipe
from libvirt_vlan import NETWORK, notes_aside, tool
from test_many import ENDING, instead_of_virsh

LXC = ["/usr/bin/virsh", "-q", "-c", "lxc:///system"]
HOOKS = Path("/etc/libvirt/hooks")
STARTS = 5  # until libvirtd 9.0 has learnt a container's init: on a busy machine it has failed twice in a row
ADD = "bridge vlan add dev {} vid 46 pvid untagged master"
MAC3, MAC4, MAC5 = (f"52:54:00:00:00:0{number}" for number in (3, 4, 5))
# sends from the first moment on, and knows nothing of a VLAN
SENDER = """#!/usr/bin/python3 -IS
import socket, struct, subprocess, time
subprocess.run(["/sbin/ip", "link", "set", "eth0", "up"], check=True)
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("eth0", 0))
head = bytes.fromhex("ffffffffffff 525400000001 88b5")
while True:
    try:
        sender.send((head + struct.pack("d", time.monotonic())).ljust(60, b"\\0"))
    except OSError:
        pass
    time.sleep(0.005)
"""

pytestmark = pytest.mark.containers


def lxc(*words, stdin=None, fails=False):
    """Run virsh for containers with these words, return its stdout, or its stderr if it is to fail."""
    done = subprocess.run([*LXC, *words], input=stdin, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, f"virsh {' '.join(words)}: {done.stderr.strip()}"
    return (done.stderr if fails else done.stdout).strip()


def nic(mac, portgroup=None):
    group = f" portgroup='{portgroup}'" if portgroup else ""
    return f"<interface type='network'><mac address='{mac}'/><source network='{BRIDGE}'{group}/></interface>"


def veth_of(container, mac):
    for interface in ET.fromstring(lxc("dumpxml", container)).iter("interface"):
        if interface.find("mac").get("address") == mac:
            return interface.find("target").get("dev")
    raise AssertionError(f"{container} has no NIC with MAC {mac}")


def current(container, *macs):
    return [vlans(veth_of(container, mac)) for mac in macs]


@pytest.fixture
def container(libvirtd):
    """Give container(name, *nics), which returns a container's XML; all containers are gone afterwards."""
    names = set()

    def xml(name, *nics):
        names.add(name)
        return subprocess.check_output([REPOSITORY / "tests/lab/container", name, *nics], text=True)

    yield xml
    for name in names:
        subprocess.run([*LXC, "destroy", name], check=False, capture_output=True)
        subprocess.run([*LXC, "undefine", name], check=False, capture_output=True)
        shutil.rmtree(f"/srv/{name}", ignore_errors=True)


@pytest.fixture
def lists(libvirtd):
    """Have network br0 with a portgroup of each kind."""
    subprocess.run([*LXC, "net-list"], check=True, capture_output=True)
    define_network_anew(NETWORK)
    yield
    undefine_network()


def plug_in(container, xml):
    """Return whether a NIC could be plugged in: libvirt has to know the container's init first.

    After a restart of its own, libvirtd 9.0 sometimes does not learn that any more, so plug in before.
    """
    done = subprocess.run([*LXC, "attach-device", container, "/dev/stdin"], input=xml, text=True, check=False)
    return done.returncode == 0


def define_network_anew(xml):
    virsh("net-define", "/dev/stdin", stdin=xml)
    virsh("net-start", BRIDGE)


def test_the_life_of_a_container(lists, container, tmp_path):
    xml = container("box", nic(MAC, "zerotier"), nic(MAC2, "lab"), nic(MAC3, "all"), nic(MAC4))
    lxc("define", "/dev/stdin", stdin=xml)
    before = len(LOG.read_text().splitlines()) if LOG.exists() else 0
    lxc("start", "box")
    expected = [ZEROTIER, LAB, EVERY, DEFAULT]
    assert current("box", MAC, MAC2, MAC3, MAC4) == expected
    assert working() == []  # no process waits for what never comes
    assert [name for name in leftovers() if name.startswith("starting")] == []

    # libvirtd 9.0 now and then never learns the init of a new container: start the container again
    for _ in range(STARTS):
        with contextlib.suppress(AssertionError):
            eventually(lambda: plug_in("box", nic(MAC5, "server")), within_seconds=20)
            break
        lxc("destroy", "box")
        lxc("start", "box")
    assert veth_of("box", MAC5)
    veth = veth_of("box", MAC)
    eventually(lambda: vlans(veth_of("box", MAC5)) == SERVER)
    eventually_settled()
    lxc("detach-device", "box", "/dev/stdin", "--live", stdin=nic(MAC5, "server"))
    eventually(lambda: len(leftovers()) == 3)

    start_libvirtd()
    eventually_settled()
    assert current("box", MAC, MAC2, MAC3, MAC4) == expected

    wipe(veth)
    start_libvirtd()
    eventually(lambda: vlans(veth) == ZEROTIER)

    eventually_settled()
    wipe(veth)
    says = f"box {MAC} {veth} zerotier: has 1 pvid untagged instead of 46 pvid untagged on br0: libvirt-vlan sync box"
    assert says in tool("check")[1]
    assert tool("sync", "box") == (0, [f"bridge vlan del dev {veth} vid 1 master", ADD.format(veth)], [])
    assert vlans(veth) == ZEROTIER
    status, lines, _ = tool("check")
    assert (status, notes_aside(lines)) == (0, [])
    assert f"note: {BRIDGE}: has no uplink: its VLANs stay on this host" in lines  # a veth is none
    _, shown, _ = tool("show")
    assert [line.split()[-1] for line in shown[1:]] == ["right", "right", "right", "alone"]
    assert f"box {MAC} - zerotier: wanted on br0: 46 pvid untagged" in tool("plan", "box")[1]

    virsh("net-destroy", BRIDGE)
    virsh("net-start", BRIDGE)
    start_libvirtd()
    eventually_settled()
    assert current("box", MAC, MAC2, MAC3, MAC4) == expected

    uuid = lxc("domuuid", "box")
    ending = instead_of_virsh(tmp_path, ENDING.format(uuid=uuid).replace("qemu:///", "lxc:///"))
    assert tool("show", env=ending)[2] == [f"libvirt-vlan: container {uuid} has stopped in the meantime"]
    nothing_left_behind()
    lines = LOG.read_text().splitlines()[before:]
    assert not [line for line in lines if "trying again" in line or "unexpected" in line]


def test_a_running_container_is_moved_by_its_definition_and_stays_there(lists, container):
    lxc("define", "/dev/stdin", stdin=container("box", nic(MAC, "zerotier"), nic(MAC2, "lab")))
    lxc("start", "box")
    lxc("define", "/dev/stdin", stdin=lxc("dumpxml", "--inactive", "box").replace("'zerotier'", "'server'"))

    assert tool("apply", "box")[0] == 0

    assert current("box", MAC, MAC2) == [SERVER, LAB]
    start_libvirtd()  # it announces the portgroup that the container was started with
    eventually_settled()
    assert current("box", MAC, MAC2) == [SERVER, LAB]


def test_what_cannot_work_is_refused_and_leaves_nothing(lists, container):
    xml = container("box", nic(MAC2, "zerotier"), nic(MAC, "typo"))

    assert f"container box, NIC {MAC}: network br0 defines no portgroup 'typo'" in lxc(
        "create", "/dev/stdin", stdin=xml, fails=True
    )
    nothing_left_behind()


def test_the_default_portgroup(container, libvirtd):
    define_network_anew(NETWORK.replace("name='server-3'", "name='server-3' default='yes'"))
    try:
        lxc("create", "/dev/stdin", stdin=container("box", nic(MAC), nic(MAC2, "zerotier")))
        assert current("box", MAC, MAC2) == [SERVER, ZEROTIER]
    finally:
        lxc("destroy", "box")
        undefine_network()


def test_no_frame_of_a_container_leaves_its_vlan(lists, container):
    xml = container("box", nic(MAC, "zerotier"))
    # without a <filesystem>, the container has the host's
    head, _, rest = xml.partition("<filesystem")
    init = Path("/srv/sender")
    init.write_text(SENDER)
    init.chmod(0o755)
    xml = (head + rest.partition("</filesystem>")[2]).replace("<init>/init</init>", f"<init>{init}</init>")
    with listening_in_every_vlan(BRIDGE) as heard:
        lxc("create", "/dev/stdin", stdin=xml)
        came = {}
        deadline = time.monotonic() + 20
        while not came.get(46) and time.monotonic() < deadline:
            for vid, times in heard().items():
                came.setdefault(vid, []).extend(times)
            time.sleep(0.2)
        lxc("destroy", "box")
        for vid, times in heard().items():
            came.setdefault(vid, []).extend(times)
    assert set(came) == {46}
    nothing_left_behind()


# A hook was not called


@pytest.fixture(params=["not executable", "its ticket is lost"])
def no_ticket(request, libvirtd):
    """Have no ticket at the lxc hook's `start`, in one of the ways in which that can be."""
    if request.param == "not executable":  # or not there: libvirt passes over both
        (HOOKS / "network").chmod(0o644)
        start_libvirtd()
    else:
        shutil.move(HOOKS / "lxc", "/tmp/lxc")
        lose = '[ "$2" != start ] || rm -f /run/libvirt-hooks/veth-*'
        (HOOKS / "lxc").write_text(f'#!/bin/sh\n{lose}\nexec {REPOSITORY}/hooks/lxc "$@"\n')
        (HOOKS / "lxc").chmod(0o755)
    yield
    if request.param == "not executable":
        (HOOKS / "network").chmod(0o755)
        start_libvirtd()
    else:
        os.replace("/tmp/lxc", HOOKS / "lxc")


def test_without_a_ticket_the_container_is_in_its_vlan_all_the_same_or_does_not_start(lists, container, no_ticket):
    virsh("net-update", BRIDGE, "add", "portgroup", "<portgroup name='dmz-4'/>", "--live")
    lxc("create", "/dev/stdin", stdin=container("box", nic(MAC, "dmz"), nic(MAC2)))
    assert current("box", MAC, MAC2) == [{4: ACCESS}, DEFAULT]
    assert "the network hook was not called for this port, so the lxc hook sets its VLANs" in LOG.read_text()
    lxc("destroy", "box")

    xml = container("box", nic(MAC, "typo"))
    assert "defines no portgroup 'typo'" in lxc("create", "/dev/stdin", stdin=xml, fails=True)


@pytest.fixture
def no_lxc_hook(libvirtd):
    """Have a daemon that does not know the lxc hook."""
    (HOOKS / "lxc").chmod(0o644)
    start_libvirtd()
    yield
    (HOOKS / "lxc").chmod(0o755)
    start_libvirtd()


def test_without_the_lxc_hook_a_defined_container_does_not_start_and_a_transient_one_is_moved(
    lists, container, no_lxc_hook
):
    xml = container("box", nic(MAC, "zerotier"))
    lxc("define", "/dev/stdin", stdin=xml)
    assert "the lxc hook was not called: install it, systemctl restart libvirtd" in lxc("start", "box", fails=True)
    lxc("undefine", "box")
    lxc("create", "/dev/stdin", stdin=xml)
    eventually(lambda: current("box", MAC) == [ZEROTIER])
    eventually_settled()
    lxc("destroy", "box")
    nothing_left_behind()


def test_switched_off_means_off_for_containers(lists, container):
    tool("off")
    try:
        lxc("create", "/dev/stdin", stdin=container("box", nic(MAC, "zerotier")))
        assert current("box", MAC) == [DEFAULT]
    finally:
        tool("on")
    start_libvirtd()
    eventually(lambda: current("box", MAC) == [ZEROTIER])
    lxc("destroy", "box")
    nothing_left_behind()
