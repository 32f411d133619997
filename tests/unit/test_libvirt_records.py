# SPDX-License-Identifier: MIT
"""What libvirtd notes in /run/libvirt: names from its XML lead to no other file."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from libvirt_hooks import libvirt_records, veths
from libvirt_hooks.hookdata import parse_domain_state, parse_port_state

UUID = "caa15290-e4fa-4d2b-a36b-68e22861b043"


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    """A VM that runs with vnet0 and a granted port of a network, called lan both."""
    (tmp_path / "network/lan/ports").mkdir(parents=True)
    (tmp_path / f"network/lan/ports/{UUID}.xml").touch()
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu/lan.xml").write_bytes(
        f"<domain><name>\xff</name><source portid='{UUID}'/><target dev='vnet0'/></domain>".encode("latin-1")
    )
    monkeypatch.setattr(libvirt_records, "DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_port_that_libvirt_has_granted_is_there():
    assert libvirt_records.has_port("lan", UUID)
    assert not libvirt_records.has_port("lan", UUID.replace("3", "4"))
    assert not libvirt_records.has_port("dmz", UUID)


def test_a_vm_runs_with_its_own_tap():
    assert libvirt_records.runs_with("lan", "vnet0")
    assert not libvirt_records.runs_with("lan", "vnet")
    assert not libvirt_records.runs_with("db", "vnet0")


def test_a_vm_uses_its_own_port():
    assert libvirt_records.uses_port("lan", UUID)
    assert not libvirt_records.uses_port("lan", UUID[:-1])
    assert not libvirt_records.uses_port("db", UUID)


@pytest.mark.parametrize("name", ["", "../network/lan", "../qemu/lan", "lan/../lan", "/lan", "lan\0"])
def test_a_name_that_is_no_file_name_leads_nowhere(name, run):
    (run / "network/ports").mkdir()
    (run / f"network/ports/{UUID}.xml").touch()  # what a network without a name would lead to
    (run / "qemu/.xml").write_text(f"<source portid='{UUID}'/><target dev='vnet0'/>")

    assert not libvirt_records.has_port(name, UUID)
    assert not libvirt_records.runs_with(name, "vnet0")
    assert not libvirt_records.uses_port(name, UUID)


# Containers

BOX = "16e04805-9ecd-4ca1-9df5-471e80363403"
DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture
def box(tmp_path, monkeypatch):
    """Have libvirt's records of container box and of its first port, as captured; return their directory."""
    monkeypatch.setattr(libvirt_records, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(libvirt_records, "CONFIGURATION", str(tmp_path / "etc"))
    ports = tmp_path / "network/lan/ports"
    for directory in (ports, tmp_path / "lxc", tmp_path / "etc/lxc", tmp_path / "etc/qemu"):
        directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / "note-of-container.xml", tmp_path / "lxc/box.xml")
    shutil.copy(DATA / "note-of-port.xml", ports / "f81c79fc-f58a-4438-9487-46ef99d724c9.xml")
    (ports / "another.xml").write_bytes((DATA / "note-of-port.xml").read_bytes().replace(b"00:01", b"00:09"))
    return tmp_path


def test_the_note_of_a_port_is_found_by_owner_and_mac_address(box):
    (note,) = libvirt_records.of_ports("lan", BOX, "52:54:00:00:00:01")

    assert parse_port_state(note).uuid == "f81c79fc-f58a-4438-9487-46ef99d724c9"
    assert libvirt_records.of_ports("lan", BOX.replace("1", "2"), "52:54:00:00:00:01") == []
    assert libvirt_records.of_ports("lan", BOX, "52:54:00:00:00:02") == []
    assert libvirt_records.of_ports("../network/lan", BOX, "52:54:00:00:00:01") == []
    assert libvirt_records.of_ports("wan", BOX, "52:54:00:00:00:01") == []


@pytest.mark.parametrize("stale", ["0", "f"])  # its name comes before, and behind, that of this start's note
def test_the_newest_note_of_a_port_comes_first(box, stale):
    """A daemon that was down keeps the note of an earlier start, perhaps of another portgroup."""
    ports = box / "network/lan/ports"
    note = ports / "f81c79fc-f58a-4438-9487-46ef99d724c9.xml"
    old = ports / f"{stale}fffffff-0000-4000-8000-000000000000.xml"
    old.write_bytes(note.read_bytes().replace(b"zerotier", b"server"))
    os.utime(old, ns=(4, 4))
    os.utime(note, ns=(5, 5))

    newest, oldest = libvirt_records.of_ports("lan", BOX, "52:54:00:00:00:01")
    assert (newest, oldest) == (note.read_bytes(), old.read_bytes())


def test_the_note_of_a_container_is_that_of_its_uuid(box):
    container = parse_domain_state(libvirt_records.of_container("box", BOX))

    assert (container.name, container.uuid, container.type) == ("box", BOX, "lxc")
    assert container.pid.isdecimal()
    assert all(libvirt_records.uses_port("box", nic.port_uuid) for nic in container.nics)
    assert [(nic.mac, bool(nic.port_uuid), bool(nic.tap)) for nic in container.nics] == [
        ("52:54:00:00:00:01", True, True), ("52:54:00:00:00:02", True, True)
    ]  # fmt: skip
    assert libvirt_records.of_container("box", BOX.replace("1", "2")) == b""  # another of the same name
    assert libvirt_records.of_container("web", BOX) == b""
    assert libvirt_records.of_container("../lxc/box", BOX) == b""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["lxc"], True),
        ([], False),  # transient, or a VM without a definition
        (["qemu"], False),
        (["lxc", "qemu"], False),  # nobody can tell
    ],
)
def test_a_container_is_defined_if_libvirt_has_it_and_no_vm_of_that_uuid(box, files, expected):
    for driver in files:
        shutil.copy(DATA / "lxc-prepare.xml", box / "etc" / driver / "box.xml")

    assert libvirt_records.is_defined_container("box", BOX) is expected
    assert libvirt_records.is_defined_container("../lxc/box", BOX) is False


def test_a_controller_is_known_by_its_containers_name():
    words = ["libvirt_lxc", "-c", "sleep 1000; :", "--name", "box", "--veth", "vnet1"]
    with subprocess.Popen(words, executable="/bin/sh") as controller:
        try:
            while not Path(f"/proc/{controller.pid}/cmdline").read_bytes():  # not yet there, a moment after exec
                time.sleep(0.01)
            lives = [libvirt_records.controller_lives(name, str(controller.pid)) for name in ("box", "bo", "ox", "")]
        finally:
            controller.kill()

    assert lives == [True, False, False, False]
    assert not libvirt_records.controller_lives("box", str(controller.pid))
    assert not libvirt_records.controller_lives("box", "")
    assert not libvirt_records.controller_lives("box", "self/../1")


def test_which_was_written_later(box):
    note = box / "lxc/box.xml"
    other = box / "starting"
    assert not libvirt_records.container_is_newer("box", str(other))  # there is no such file
    other.touch()
    os.utime(note, ns=(5, 5))
    os.utime(other, ns=(4, 4))
    assert libvirt_records.container_is_newer("box", str(other))
    os.utime(other, ns=(5, 5))
    assert not libvirt_records.container_is_newer("box", str(other))
    assert not libvirt_records.container_is_newer("web", str(other))


def test_the_daemon_of_containers_is_the_one_that_there_is(box):
    assert veths.daemon() == "libvirtd"
    (box / "virtlxcd-sock").touch()
    assert veths.daemon() == "virtlxcd"
