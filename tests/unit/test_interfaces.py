# SPDX-License-Identifier: MIT
"""Which interface is a NIC's: what /sys, libvirt's record of a container and the ticket say together."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from libvirt_hooks import HookError, facts, interfaces, libvirt_records, sysfs, taps, veths
from libvirt_hooks.hookdata import parse_domain_state
from libvirt_hooks.tickets import Ticket

NOTE = (Path(__file__).resolve().parents[1] / "data/note-of-container.xml").read_text()
BOX = parse_domain_state(NOTE.encode())
NIC, OTHER = BOX.nics


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Have a /sys and libvirt's records below a directory; return it."""
    monkeypatch.setattr(sysfs, "NET", str(tmp_path / "net"))
    monkeypatch.setattr(libvirt_records, "DIRECTORY", str(tmp_path))
    (tmp_path / "lxc").mkdir()
    (tmp_path / "net/br0/brif").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def controller():
    """Give the process id of what /proc shows as the container's controller."""
    words = ["libvirt_lxc", "-c", "sleep 1000; :", "--name", "box", "--veth", "vnet1"]
    with subprocess.Popen(words, executable="/bin/sh") as process:
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():  # not yet there, a moment after exec
            time.sleep(0.01)
        yield process.pid
        process.kill()


def add(host, name, index=4, bridge="br0", address="aa:bb:cc:dd:ee:ff"):
    directory = host / "net" / name
    directory.mkdir()
    (directory / "ifindex").write_text(f"{index}\n")
    (directory / "address").write_text(f"{address}\n")
    if bridge:
        os.symlink(f"../{bridge}", directory / "master")
        (host / "net/br0/brif" / name).touch()


def note(host, pid):
    (host / "lxc/box.xml").write_text(re.sub(r"<domstatus (.*) pid='\d+'>", rf"<domstatus \1 pid='{pid}'>", NOTE))


def ticket(**changes):
    fields = {"uuid": NIC.port_uuid, "vm": "box", "vm_uuid": BOX.uuid, "kind": veths, "mac": NIC.mac}
    return Ticket(**{**fields, "bridge": "br0", "right": None, "interface": None, **changes})


def test_a_running_containers_veth_is_what_libvirt_notes_for_the_port(host, controller):
    note(host, controller)
    add(host, NIC.tap)

    assert veths.announced(ticket())[0] == NIC.tap
    assert veths.announced(ticket(uuid=OTHER.port_uuid))[0] == OTHER.tap
    assert veths.announced(ticket(uuid=BOX.uuid))[0] == ""  # a port that the note does not have yet
    assert veths.announced(ticket(vm_uuid=NIC.port_uuid))[0] == ""  # another container of the same name
    assert (veths.on_bridge(ticket()), veths.anywhere(ticket())) == (NIC.tap, NIC.tap)
    assert veths.on_bridge(ticket(bridge="br1")) == ""


@pytest.mark.parametrize("pid", [1, 2**22 - 1, ""])
def test_a_note_without_a_controller_names_no_veth(host, pid):
    note(host, pid)
    add(host, NIC.tap)

    assert facts.kind_now(ticket(kind=taps)) is veths
    assert veths.announced(ticket())[0] == ""


def test_a_veth_that_was_right_is_known_by_its_index_whatever_the_note_says(host, controller):
    note(host, controller)
    add(host, NIC.tap, index=9)
    add(host, "vnet3", index=5)

    assert veths.on_bridge(ticket(interface=("vnet3", 5))) == "vnet3"
    assert veths.anywhere(ticket(interface=(NIC.tap, 8))) == ""  # the name has come back with another number
    assert veths.anywhere(ticket(interface=("vnet4", 5))) == ""


def test_a_vms_tap_is_known_by_its_address(host, controller):
    note(host, controller)
    add(host, "vnet7", address="fe:54:00:00:00:01")
    add(host, NIC.tap)
    vms = ticket(kind=taps)

    assert (taps.announced(vms), taps.on_bridge(vms), taps.anywhere(vms)) == (("", "vnet7"), "vnet7", "vnet7")
    assert veths.on_bridge(ticket()) == NIC.tap  # and not that tap


def test_of_two_taps_with_one_address_a_vms_is_the_one_that_was_right_or_that_the_vm_runs_with(host):
    vms = ticket(kind=taps)
    for index, name in enumerate(("vnet7", "vnet8", "vnet9"), start=7):
        add(host, name, index, address="fe:54:00:00:00:01")
    (host / "qemu").mkdir()
    (host / "qemu/box.xml").write_text("<target dev='vnet8'/>")

    assert taps.announced(vms) == ("vnet8", "")
    with pytest.raises(HookError, match="have the same address"):
        taps.on_bridge(vms)
    was_right, gone = ticket(kind=taps, interface=("vnet9", 9)), ticket(kind=taps, interface=("vnet9", 5))
    assert (taps.on_bridge(was_right), taps.anywhere(was_right)) == ("vnet9", "vnet9")
    assert (taps.on_bridge(gone), taps.anywhere(gone)) == ("", "")


def test_a_tap_whose_address_something_has_changed_is_known_by_its_index(host):
    add(host, "vnet7", 7, address="9a:00:00:00:00:01")
    changed = ticket(kind=taps, interface=("vnet7", 7))

    assert (taps.on_bridge(changed), taps.anywhere(changed), taps.lives(changed)) == ("vnet7", "vnet7", True)
    assert taps.check(changed, "vnet7") is None
    with pytest.raises(HookError, match="vnet7 is not this NIC's tap any more"):
        taps.check(ticket(kind=taps, interface=("vnet7", 8)), "vnet7")
    with pytest.raises(HookError, match="vnet7 does not have the address of this NIC's tap, fe:54:00:00:00:01"):
        taps.check(ticket(kind=taps), "vnet7")


@pytest.mark.parametrize(
    ("key", "kind"),
    [("fe:54:00:00:00:01", taps), ("veth-52:54:00:00:00:01", veths), ("veth-fe:54:00:00:00:01.x", veths)],
)
def test_the_kind_of_an_interface_is_told_by_its_key(key, kind):
    assert interfaces.of_key(key) is kind


def test_a_lock_is_at_the_place_where_release_1_0_0_looks_for_it():
    """One of its processes can still be waiting after an upgrade."""
    assert interfaces.lock_place("fe:54:00:00:00:01") == 0xFE5400000001
    assert interfaces.lock_place("veth-52:54:00:00:00:01") == 0x1525400000001
