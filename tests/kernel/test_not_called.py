# SPDX-License-Identifier: MIT
"""The network hook was not called, or its ticket is lost: the qemu hook decides by itself what the port's VLANs are."""

from pathlib import Path

import pytest
from captured import METADATA, domain
from conftest import DATA, MAC, REPOSITORY, UUID, hook, logged, make_bridge_program, tickets
from iproute import DEFAULT, LAB, SERVER, ZEROTIER, vlans

QEMU = REPOSITORY / "hooks/qemu"
NOTE = Path("/run/libvirt/network/br0.xml")
DOMAIN = domain([(MAC, UUID, "vnet0")])


@pytest.fixture
def note(bridge):
    """Give note(old, new), which has libvirtd note the captured network with a replacement; none is there before."""
    captured = (DATA / "network-started.xml").read_text()
    network = captured[captured.index("<network") : captured.index("</hookData>")]

    def write(old="<name>", new="<name>"):
        NOTE.parent.mkdir(parents=True, exist_ok=True)
        assert old in network
        NOTE.write_text(f"<networkstatus>{network.replace(old, new)}</networkstatus>")

    bridge.add_tap()
    return write


def start(portgroup="zerotier", path=None):
    named = f" portgroup='{portgroup}'" if portgroup else ""
    return hook("start", DOMAIN.replace(" portgroup='zerotier'", named), path, QEMU, name="web")


@pytest.mark.parametrize(
    ("portgroup", "replaced", "expected"),
    [
        ("zerotier", ("<name>", "<name>"), ZEROTIER),
        ("zerotier-46", ("<name>", "<name>"), ZEROTIER),
        ("lab", ("<forward", METADATA), LAB),
        ("", ("<portgroup name='server-3'>", "<portgroup name='server-3' default='yes'>"), SERVER),
    ],
)
def test_the_tap_gets_its_vlans_all_the_same(note, portgroup, replaced, expected):
    note(*replaced)
    done = start(portgroup)

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", expected)
    assert len(tickets()) == 1
    (line,) = [line for line in logged() if "the network hook was not called for this port" in line]
    assert line.endswith("install the network hook, and systemctl restart libvirtd")


def test_the_ticket_of_an_earlier_start_does_not_stay(note, bridge):
    """Without the network hook, nobody tells that the VM has stopped."""
    note()
    start()
    bridge.remove_tap()
    bridge.add_tap()
    again = DOMAIN.replace(UUID, UUID[:-1] + "2")
    assert hook("start", again, executable=QEMU, name="web").returncode == 0

    assert [name[-1] for name in tickets()] == ["2"]
    assert vlans("vnet0") == ZEROTIER


def test_the_daemon_to_restart_is_the_one_that_there_is(note):
    note()
    Path("/run/libvirt/virtnetworkd-sock").touch()
    try:
        start()
    finally:
        Path("/run/libvirt/virtnetworkd-sock").unlink()

    assert any(line.endswith("systemctl restart virtnetworkd") for line in logged())


@pytest.mark.parametrize(
    ("portgroup", "replaced", "says"),
    [
        ("typo", ("<name>", "<name>"), "network br0 defines no portgroup 'typo' or 'typo-VID'"),
        ("zerotier", ("zerotier-46", "zerotier-0"), "portgroup 'zerotier-0' of network br0 does not end in a VID"),
        ("", ("<portgroup name='server-3'>", "<portgroup name='server-0' default='yes'>"), "portgroup 'server-0'"),
        ("zerotier", ("<portgroup name='server-3'>", "<portgroup name='o'neill'>"), "cannot be read"),
    ],
)
def test_what_the_network_hook_would_refuse_is_refused(note, portgroup, replaced, says):
    note(*replaced)
    done = start(portgroup)

    assert done.returncode == 1
    assert done.stderr.startswith(f"VM web: NIC {MAC}, tap vnet0: ")
    assert says in done.stderr
    assert (vlans("vnet0"), tickets()) == (DEFAULT, [])


def test_a_network_that_nobody_knows_is_refused_if_a_portgroup_is_named(note):
    done = start()

    assert done.returncode == 1
    assert "the network hook was not called, and libvirtd has no record of network br0 that says what" in done.stderr
    assert "portgroup 'zerotier' means: systemctl restart libvirtd, and try again" in done.stderr
    assert start("").returncode == 0


@pytest.mark.parametrize(
    ("portgroup", "replaced"),
    [
        ("slow", ("<name>", "<name>")),
        ("", ("<name>", "<name>")),
        ("", ("<portgroup name='slow'>", "<portgroup name='slow' default='yes'>")),
    ],
)
def test_what_the_network_hook_would_leave_alone_is_left_alone_without_a_word(note, tmp_path, portgroup, replaced):
    note(*replaced)
    done = start(portgroup, path=make_bridge_program(tmp_path, f"touch {tmp_path}/run"))

    assert (done.returncode, done.stderr, logged(), tickets()) == (0, "", [], [])
    assert not (tmp_path / "run").exists()
    assert vlans("vnet0") == DEFAULT


def test_a_ticket_of_another_vm_with_the_same_address_refuses_the_start(note, bridge):
    note()
    bridge.add_tap("vnet5")
    done = start()

    assert done.returncode == 1
    assert (
        "vnet5 on br0, which is not this VM's, has that address already: give one of the two another MAC" in done.stderr
    )
    assert (vlans("vnet0"), vlans("vnet5")) == (DEFAULT, DEFAULT)
