# SPDX-License-Identifier: MIT
"""Definitions saved: which names, which files, what stays."""

import errno
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libvirt_hooks import backup, log
from libvirt_hooks.hookdata import Definition

UUID = "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5"
OTHER_UUID = "7b8f064f-bc9d-4d00-8cd2-51f033dd32d6"


def domain(memory=16, name="web", uuid=UUID):
    return f"<domain type='qemu'>\n<name>{name}</name><uuid>{uuid}</uuid><memory>{memory}</memory></domain>\n".encode()


@pytest.fixture(autouse=True)
def lines(tmp_path, monkeypatch):
    """Everything below tmp_path; return the lines logged so far."""
    monkeypatch.setattr(backup, "DIRECTORY", str(tmp_path / "backups"))
    monkeypatch.setattr(backup, "CONFIGURATION", {kind: str(tmp_path / kind) for kind in ("qemu", "network")})
    logged = []
    monkeypatch.setattr(log, "info", logged.append)
    monkeypatch.setattr(log, "error", logged.append)
    yield logged
    os.umask(0o022)


def files(kind="qemu", name="web", uuid=UUID):
    return sorted(Path(backup.DIRECTORY, kind, f"{name}.{uuid}").glob("*.xml"))


def test_a_definition_is_saved_once_until_it_changes(lines):
    for memory in (16, 16, 32, 32, 16):
        backup.save_definition("qemu", domain(memory))

    assert [file.read_bytes() for file in files()] == [domain(16), domain(32), domain(16)]
    first, second, third = files()
    assert lines == [
        f"web: saved: virsh define {first} restores it",
        f"web: changed since {first} (memory), saved as {second}; to go back: virsh define {first}",
        f"web: changed since {second} (memory), saved as {third}; to go back: virsh define {second}",
    ]


def test_only_the_owner_can_read_it():
    backup.save_definition("qemu", domain())

    for directory in (files()[0].parent, *list(files()[0].parents)[1:3]):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert files()[0].stat().st_mode & 0o777 == 0o600


def test_a_persistent_vm_is_saved_as_libvirt_keeps_it(tmp_path):
    (tmp_path / "qemu").mkdir()
    kept = b"<!-- libvirt's own comment -->\n" + domain().replace(b"<memory>", b"<password>secret</password><memory>")
    (tmp_path / "qemu" / "web.xml").write_bytes(kept)
    backup.save_definition("qemu", domain().replace(b"type='qemu'", b"type='qemu' id='5'"))

    assert files()[0].read_bytes() == kept


def test_a_transient_vm_is_saved_as_it_was_started_without_its_id(tmp_path):
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu" / "web.xml").write_bytes(domain(uuid=OTHER_UUID))  # another's, of the same name
    for number in (b"5", b"6"):
        backup.save_definition("qemu", domain().replace(b"type='qemu'", b"type='qemu' id='" + number + b"'"))

    assert [file.read_bytes() for file in files()] == [domain()]


def test_a_network_is_saved_from_what_its_hook_is_given():
    data = Path(__file__).parents[1] / "data" / "network-started.xml"
    backup.save_network(data.read_bytes().replace(b"<network>", b"<network connections='3'>"))
    (saved,) = Path(backup.DIRECTORY, "network").glob("br0.*/*.xml")

    assert saved.read_bytes().startswith(b"<network>\n    <name>br0</name>")
    assert saved.read_bytes().endswith(b"</network>\n")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("a file where the directory should be"),
        lambda path: (path.mkdir(), (path / "qemu").write_text("the same one level below")),
        lambda path: path.symlink_to("/nonexistent/directory"),
    ],
)
def test_what_cannot_be_saved_is_a_line_in_the_log(spoil, lines):
    spoil(Path(backup.DIRECTORY))
    backup.save_definition("qemu", domain())

    (line,) = lines
    assert line.startswith("web: not backed up: ")


@pytest.mark.parametrize("xml", [b"", b"<domain>", b"<domain/>", b"<domain><name>x</name></domain>"])
def test_what_cannot_be_read_is_a_line_in_the_log(xml, lines):
    backup.save_definition("qemu", xml)

    (line,) = lines
    assert "not backed up" in line


def test_a_full_disk_leaves_what_was_saved_before(lines, monkeypatch):
    backup.save_definition("qemu", domain(16))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    backup.save_definition("qemu", domain(32))

    assert [file.read_bytes() for file in files()] == [domain(16)]
    assert lines[-1] == f"web: not backed up: {backup.DIRECTORY}: No space left on device"


def test_the_newest_fifty_are_kept():
    for memory in range(backup.KEEP + 3):
        backup.save_definition("qemu", domain(memory))

    assert [file.read_bytes() for file in files()] == [domain(memory) for memory in range(3, backup.KEEP + 3)]


@given(st.lists(st.from_regex(r"\A2026[0-9]{4}T[0-9]{6}\.[0-9]{9}Z\.xml\Z"), unique=True, max_size=120))
def test_only_the_oldest_beyond_fifty_are_surplus(names):
    saved = sorted(names)
    gone = backup.surplus(saved)

    assert len(saved) + 1 - len(gone) <= backup.KEEP or not saved
    assert gone == saved[: len(gone)]
    assert not gone or len(saved) - len(gone) == backup.KEEP - 1


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(NAMES)
@example("..")
@example(".")
@example("../../etc/passwd")
@example("-rf")
@example(".hidden")
@example("two  words")
@example("a\nb")
@example("😀" * 200)
@example("ü" * 200)
def test_a_directory_name_is_one_safe_component(name):
    directory = backup.directory_name(Definition(name=name, uuid=UUID))

    assert "/" not in directory
    assert "\0" not in directory
    assert directory.isprintable()
    assert not directory.startswith((".", "-"))
    assert not set(directory) & set(" '\"\\$`;&|<>*?[](){}#~!\t")  # it is pasted into a shell
    assert len(directory.encode()) <= 255
    assert directory.endswith(f".{UUID}")


@given(NAMES, NAMES)
def test_no_two_vms_share_a_directory(one, other):
    ours = backup.directory_name(Definition(name=one, uuid=UUID))
    theirs = backup.directory_name(Definition(name=other, uuid=OTHER_UUID))

    assert unicodedata.normalize("NFKC", ours).lower() != unicodedata.normalize("NFKC", theirs).lower()


TIMES = st.integers(0, 4 * 10**18)


@given(st.lists(TIMES, max_size=20))
@example([1999999999])
def test_the_next_file_always_sorts_last(times):
    newest = ""
    for now in [*times, *reversed(times)]:  # a clock that jumps as it likes
        name = backup.file_name(now, newest)
        assert name > newest
        assert backup.is_file_name(name)
        newest = name


def test_other_files_in_the_directory_are_left_alone(lines):
    backup.save_definition("qemu", domain(16))
    foreign = files()[0].with_name("zzz-before-the-upgrade.xml")
    foreign.write_text("a copy that somebody made")
    for memory in range(backup.KEEP + 3):
        backup.save_definition("qemu", domain(memory))

    assert foreign in files()
    assert len(files()) == backup.KEEP + 1
    assert not [line for line in lines if "not backed up" in line]


def test_a_file_name_says_when():
    assert backup.file_name(1795371130000000005, "") == "20261122T181210.000000005Z.xml"
