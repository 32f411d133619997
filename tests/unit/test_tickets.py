# SPDX-License-Identifier: MIT
"""Tickets: what is written is read."""

import os
import time

import pytest

from libvirt_hooks import HookError, container_starts, facts, libvirt_records, log, sysfs, taps, tickets, veths
from libvirt_hooks.hookdata import Port
from libvirt_hooks.tickets import Ticket
from libvirt_hooks.vlans import access, every

MAC, TAP = "52:54:00:00:00:02", "fe:54:00:00:00:02"
NOW = 1000.0


@pytest.fixture(autouse=True)
def directories(tmp_path, monkeypatch):
    monkeypatch.setattr(tickets, "DIRECTORY", str(tmp_path / "tickets"))
    monkeypatch.setattr(libvirt_records, "DIRECTORY", str(tmp_path / "libvirt"))
    monkeypatch.setattr(sysfs, "NET", str(tmp_path / "net"))
    (tmp_path / "net").mkdir()
    return tmp_path


def ticket(number=1, vid=46, **changes):
    fields = {
        "uuid": f"00000000-0000-0000-0000-{number:012}",
        "vm": "web",
        "vm_uuid": "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5",
        "kind": taps,
        "mac": MAC,
        "bridge": "br0",
        "network": "lan",
        "group": "zerotier",
        "is_default": False,
        "applied_over": None,
        "isolated": False,
        "fdb_managed": False,
        "vlans": access(vid),
        "uplinks": [],
        "live": False,
        "created": NOW + number,
        "released": False,
        "right": None,
        "interface": None,
        "bridge_index": 0,
        "link_down": False,
    }
    return Ticket(**{**fields, **changes})


def on_disk(bridge="br0", address=TAP):
    return [(int(t.uuid[-12:]), t.released) for t in tickets.of(bridge, address)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vlans": every(1)},
        {"vlans": {}},
        {"vlans": None},
        {"live": True},
        {"group": ""},
        {"group": "server-3", "is_default": True},
        {"applied_over": "zerotier"},
        {"applied_over": ""},
        {"uplinks": ["bond0", "eno1"]},
        {"isolated": True},
        {"isolated": None},  # as release 1.0.0 writes it
        {"fdb_managed": True},
        {"vm": "two  words "},
        {"vm": "naïve € -rf"},
        {"vm": "no\u00a0break"},  # libvirt's own files are found by the name
        {"network": "back\\slash\tand \u2028 €"},
        {"created": 12345.678901234},
    ],
)
def test_a_ticket_is_read_as_it_was_written(changes):
    one = ticket(**changes)
    tickets.write(one)

    assert tickets.read(tickets.path(one)) == one
    assert os.stat(tickets.DIRECTORY).st_mode & 0o777 == 0o700
    assert os.stat(tickets.path(one)).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("group", "port", "says"),
    [
        ("zerotier", ("vnet3",), f"web {MAC} vnet3 zerotier"),
        ("zerotier", (), f"web {MAC} - zerotier"),  # its tap is yet to come
        ("", ("vnet3",), f"web {MAC} vnet3 -"),
    ],
)
def test_a_log_line_about_a_ticket_always_begins_with_four_words(group, port, says):
    assert tickets.subject(ticket(group=group), *port) == says


def test_a_value_cannot_forge_a_line_of_a_ticket():
    tickets.write(ticket(vm="web\nvlans 1 pvid untagged\nend\n"))

    assert [t.vlans for t in tickets.of("br0", TAP)] == [access(46)]


def test_what_was_seen_right_is_in_the_ticket_until_it_is_written_anew():
    one = ticket()
    tickets.write(one)
    for port in [("vnet3", 7), ("vnet4", 8), ("vnet5", 9)]:
        tickets.mark_right(one, *port)
        assert tickets.read(tickets.path(one)).right == port

    tickets.write(one)
    assert tickets.read(tickets.path(one)).right is None


def test_the_bridge_on_which_a_tap_was_right_first_stays_in_its_ticket(monkeypatch):
    """Until repair has put the tap back on a bridge of the same name that is another: it says so itself."""
    indices = {"br0": 7}
    monkeypatch.setattr(tickets.sysfs, "ifindex", indices.__getitem__)
    one = ticket()
    tickets.write(one)
    assert tickets.read(tickets.path(one)).bridge_index == 0
    tickets.mark_right(one, "vnet3", 5)
    one = tickets.read(tickets.path(one))
    assert (one.right, one.bridge_index) == (("vnet3", 5), 7)
    indices["br0"] = 9
    tickets.mark_right(one, "vnet3", 6)
    one = tickets.read(tickets.path(one))
    assert (one.right, one.bridge_index) == (("vnet3", 6), 7)
    tickets.write(one)  # as after a restart of libvirtd
    one = tickets.read(tickets.path(one))
    assert (one.right, one.bridge_index) == (("vnet3", 6), 7)
    tickets.mark_bridge(one)
    assert tickets.read(tickets.path(one)).bridge_index == 9


@pytest.mark.parametrize(
    "torn", ["rig", "right", "right vnet4", "right vnet4 8", "right vnet4 8right vnet5 9\n", "right vnet4 x\n"]
)
def test_a_note_that_was_cut_short_notes_nothing(torn):
    one = ticket()
    tickets.write(one)
    tickets.mark_right(one, "vnet3", 7)
    with open(tickets.path(one), "a", encoding="utf-8") as file:
        file.write(torn)

    assert tickets.read(tickets.path(one)).right == ("vnet3", 7)


def test_marking_does_not_bring_back_a_ticket_that_is_gone():
    tickets.mark_right(ticket(), "vnet3", 7)

    assert on_disk() == []


@pytest.mark.parametrize("length", range(0, 210, 7))
def test_a_ticket_cut_short_is_damaged_not_believed(length):
    one = ticket(vlans=every(1))
    tickets.write(one)
    file = tickets.path(one)
    with open(file, "r+") as opened:
        assert len(opened.read()) > length
        opened.truncate(length)

    with pytest.raises(HookError, match=r"is damaged \(it is cut short\): remove it and restart the VM"):
        tickets.read(file)
    assert tickets.of("br0", TAP) == []


@pytest.mark.parametrize("content", [b"\0" * 300, b"\xff\xfe", b"\nend\n", b"uuid x\nend\n", b"right vnet3\n"])
def test_a_foreign_file_is_no_ticket(content):
    tickets.write(ticket())
    with open(tickets.path(ticket(2)), "wb") as file:
        file.write(content)

    assert on_disk() == [(1, False)]


def test_a_directory_in_a_tickets_place_is_no_ticket():
    tickets.write(ticket())
    os.mkdir(tickets.path(ticket(2)))

    assert on_disk() == [(1, False)]
    with pytest.raises(HookError, match="cannot be read"):
        tickets.read(tickets.path(ticket(2)))


def test_a_ticket_that_is_being_written_does_not_count_yet(directories):
    tickets.write(ticket(1))
    whole = (directories / "tickets" / f"{TAP}.{ticket(1).uuid}").read_bytes()
    (directories / "tickets" / f"{TAP}.{ticket(2).uuid}.new").write_bytes(whole)

    assert on_disk() == [(1, False)]


def test_a_ticket_that_goes_while_the_directory_is_read_hides_no_other(directories):
    tickets.write(ticket(2))
    # listed, and not there when it is opened
    (directories / "tickets" / f"{TAP}.{ticket(1).uuid}").symlink_to("/nonexistent/ticket")

    assert on_disk() == [(2, False)]


def test_a_ticket_that_cannot_be_written_says_so(directories):
    (directories / "tickets").write_text("a file where the directory should be")

    with pytest.raises(HookError, match=r"cannot write .*tickets.*: check ls -la"):
        tickets.write(ticket())


def test_tickets_of_another_bridge_or_address_are_not_mixed_up():
    tickets.write(ticket(1))
    tickets.write(ticket(2, bridge="br1"))
    tickets.write(ticket(3, mac="52:54:00:00:00:03"))

    assert on_disk() == [(1, False)]


def test_sweeping_removes_only_what_nobody_has_a_use_for(directories):
    ports = directories / "libvirt" / "network" / "lan" / "ports"
    ports.mkdir(parents=True)
    # a bridge without an address of its own has that of one of its ports
    for name, address in (("vnet4", "fe:54:00:00:00:04"), ("br0", "fe:54:00:00:00:01")):
        (directories / "net" / name).mkdir()
        (directories / "net" / name / "address").write_text(f"{address}\n")
    (ports / f"{ticket(2).uuid}.xml").touch()
    tickets.write(ticket(1, mac="52:54:00:00:00:01", created=-1e6))
    tickets.write(ticket(2, mac="52:54:00:00:00:02", created=-1e6))  # libvirt has it
    tickets.write(ticket(3, mac="52:54:00:00:00:03", created=1e9))  # young
    tickets.write(ticket(4, mac="52:54:00:00:00:04", created=-1e6))  # its tap lives
    tickets.write(ticket(5, mac="52:54:00:00:00:05", created=-1e6))
    for file in directories.glob("tickets/*"):
        os.utime(file, (0, 0))
    tickets.write(ticket(6, mac="52:54:00:00:00:06", created=-1e6))  # its file is young: it is not even read
    tickets.sweep(older_than_seconds=300)

    assert sorted(name[-1] for name in os.listdir(tickets.DIRECTORY)) == ["2", "3", "4", "6"]


def test_what_else_is_in_the_directory_is_no_word_in_the_log(directories, monkeypatch):
    said = []
    monkeypatch.setattr(log, "warning", said.append)
    tickets.write(ticket())
    (directories / "tickets" / "lock").touch()
    (directories / "tickets" / f"{TAP}.{ticket(2).uuid}.new").touch()
    tickets.sweep(older_than_seconds=300)

    assert said == []


# Containers


def test_a_containers_ticket_goes_by_its_own_mac_address():
    """A VM's tap is known by five bytes of the VM's MAC address; a container's veth has nothing of them."""
    box = ticket(kind=veths)
    tickets.write(ticket(2))
    tickets.write(box)
    tickets.mark_right(ticket(3, kind=veths), "vnet9", 9)  # there is no such ticket

    assert tickets.key(box) == f"veth-{MAC}"
    assert tickets.read(tickets.path(box)) == ticket(kind=veths)
    assert tickets.of("br0", TAP) == [ticket(2)]
    assert tickets.of("br0", f"veth-{MAC}") == [ticket(kind=veths)]
    assert tickets.guest(box) == "container web"
    assert tickets.guest(ticket()) == "VM web"


def test_a_vms_ticket_is_rewritten_as_a_containers():
    tickets.write(ticket())
    one = ticket(kind=veths)
    tickets.write(one)
    tickets.mark_right(one, "vnet0", 4)

    assert tickets.of("br0", TAP) == []
    assert tickets.of("br0", f"veth-{MAC}") == [ticket(kind=veths, right=("vnet0", 4), interface=("vnet0", 4))]


def test_a_note_of_a_start_is_no_ticket(directories):
    container_starts.note_start(ticket().vm_uuid)
    port = Port(vm="web", vm_uuid=ticket().vm_uuid)

    assert container_starts.is_starting(port)
    assert on_disk() == []
    tickets.sweep(0)
    (directories / "libvirt/lxc").mkdir(parents=True)
    note = directories / "libvirt/lxc/web.xml"
    note.write_text(f"<uuid>{ticket().vm_uuid}</uuid>")
    os.utime(note, (time.time() + 1, time.time() + 1))  # the kernel's clock for files has ticks of some milliseconds
    assert not container_starts.is_starting(port)  # it runs since
    assert facts.kind_of(port) is veths
    container_starts.forget_start(ticket().vm_uuid)
    container_starts.forget_start(ticket().vm_uuid)
    assert not container_starts.is_starting(port)
    other = Port(vm="web", vm_uuid=ticket().vm_uuid.replace("7", "8"))
    assert not container_starts.is_starting(other)
    assert facts.kind_of(other) is taps


def test_a_note_of_a_start_that_was_cut_short_ends(directories):
    """A VM can have the uuid later, and no lxc hook comes for a VM."""
    container_starts.note_start(ticket().vm_uuid)
    (note,) = (directories / "tickets").glob("starting.*")
    long_ago = time.time() - container_starts.OLD_SECONDS - 1
    os.utime(note, (long_ago, long_ago))

    assert not container_starts.is_starting(Port(vm="web", vm_uuid=ticket().vm_uuid))


def test_a_note_that_cannot_be_written_says_why(directories):
    (directories / "tickets").touch()

    with pytest.raises(HookError, match=r"cannot write .*starting.*: check ls -la"):
        container_starts.note_start(ticket().vm_uuid)


def test_a_new_ticket_and_one_that_is_written_again_are_noticed():
    known = set()
    tickets.write(ticket(1))
    since = tickets.changed_ns(ticket(1))
    assert [one.uuid for one in tickets.not_in(known, since)] == [ticket(1).uuid]
    tickets.mark_right(ticket(1), "vnet0", 4)  # that is no other ticket
    assert tickets.not_in(known, since) == []

    tickets.write(ticket(2))
    tickets.write(ticket(1))
    assert sorted(one.uuid for one in tickets.not_in(known, since)) == [ticket(1).uuid, ticket(2).uuid]
    tickets.keep_released(ticket(2))
    assert [one.released for one in tickets.not_in(known, since)] == [True]
    assert tickets.not_in(set(), time.time_ns() + 10**9) == []


def test_a_directory_that_has_just_changed_may_change_again_unnoticed(directories):
    assert tickets.changed_ns() == 0
    tickets.write(ticket(1))
    assert tickets.changed_ns() == 0
    os.utime(directories / "tickets", (5, 5))
    assert tickets.changed_ns() == 5 * 10**9
