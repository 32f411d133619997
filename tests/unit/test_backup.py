# SPDX-License-Identifier: MIT
"""Identitys saved: which names, which files, what stays."""

import errno
import os
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libvirt_hooks import backup, log
from libvirt_hooks.hookdata import Identity

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


@pytest.mark.parametrize(
    ("saved", "changed"),
    [
        (domain().replace(b"<memory>", b"<vcpu>2</vcpu><memory>"), "memory, vcpu"),
        (domain(32).replace(b">\n", b">"), "its layout only"),
        (b"spoilt by somebody", "the saved one cannot be read"),
    ],
)
def test_the_log_says_what_has_changed_since(saved, changed, lines):
    backup.save_definition("qemu", domain())
    files()[0].write_bytes(saved)
    backup.save_definition("qemu", domain(32))

    assert lines[-1].startswith(f"web: changed since {files()[0]} ({changed}), saved as {files()[1]}; ")


def test_a_clock_that_was_set_back_does_not_make_the_newest_definition_an_old_one(monkeypatch):
    for year, memory in ((56, 16), (55, 32), (54, 16)):
        monkeypatch.setattr(time, "time_ns", lambda year=year: year * 365 * 86400 * 10**9)
        backup.save_definition("qemu", domain(memory))

    assert [file.read_bytes() for file in files()] == [domain(16), domain(32), domain(16)]


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
    transient = domain().replace(b"<domain type", b"<domain  type")  # byte for byte but for the id
    for number in (b"5", b"6"):
        backup.save_definition("qemu", transient.replace(b"type='qemu'", b"type='qemu' id='" + number + b"'"))

    assert [file.read_bytes() for file in files()] == [transient]


def test_a_name_leads_to_no_file_outside_libvirts_own(tmp_path):
    (tmp_path / "qemu").mkdir()
    (tmp_path / "elsewhere.xml").write_bytes(domain(memory=1))  # has the right uuid
    backup.save_definition("qemu", domain(name="../elsewhere"))

    assert [file.read_bytes() for file in files(name="_._elsewhere")] == [domain(name="../elsewhere")]


def test_a_network_is_saved_from_what_its_hook_is_given():
    data = Path(__file__).parents[1] / "data" / "network-started.xml"
    hook_data = data.read_bytes().replace(b"<network>", b"<network connections='3'>")
    backup.save_definition("network", backup.network_in(hook_data))
    (saved,) = Path(backup.DIRECTORY, "network").glob("br0.*/*.xml")

    assert saved.read_bytes().startswith(b"<network>\n    <name>br0</name>")
    assert saved.read_bytes().endswith(b"</network>\n")


def test_a_network_with_another_programs_network_in_its_metadata_is_saved_whole():
    network = f"<network>\n<name>lan</name><uuid>{UUID}</uuid><metadata>{{}}</metadata>\n</network>\n"
    network = network.format("<network xmlns='urn:x'><network/></network>")
    backup.save_definition("network", backup.network_in(f"<hookData>\n{network}</hookData>".encode()))

    assert [file.read_text() for file in files("network", "lan")] == [network]


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
    assert line.startswith("?: not backed up: ")


def test_a_damaged_configuration_of_libvirts_is_named_in_the_log(tmp_path, lines):
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu" / "web.xml").write_bytes(domain()[:-20])
    backup.save_definition("qemu", domain())

    (line,) = lines
    assert line.startswith(f"web: not backed up: {tmp_path}/qemu/web.xml is damaged: virsh dumpxml --inactive ")


def test_a_mistake_of_ours_is_a_line_in_the_log_that_says_where(lines):
    backup.save_definition("no such kind", domain())

    (line,) = lines
    assert re.fullmatch(
        r"web: not backed up: internal error, please report it: backup\.py:[0-9]+: KeyError: 'no such kind'", line
    )


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
    directory = backup.directory_name(Identity(name=name, uuid=UUID))

    assert "/" not in directory
    assert "\0" not in directory
    assert directory.isprintable()
    assert not directory.startswith((".", "-"))
    assert not set(directory) & set(" '\"\\$`;&|<>*?[](){}#~!\t")  # it is pasted into a shell
    assert len(directory.encode()) <= 255
    assert directory.endswith(f".{UUID}")


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("web-1.example_com@a+b", "web-1.example_com@a+b"),
        ("naïve", "naïve"),
        ("a b/c", "a_b_c"),
        ("..", "_."),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("a" + "ü" * 200, "a" + "ü" * 99),  # 201 bytes would be one too many, and half a letter none
    ],
)
def test_a_directory_name_can_be_read(name, readable):
    assert backup.directory_name(Identity(name=name, uuid=UUID)) == f"{readable}.{UUID}"


@given(NAMES, NAMES)
def test_no_two_vms_share_a_directory(one, other):
    ours = backup.directory_name(Identity(name=one, uuid=UUID))
    theirs = backup.directory_name(Identity(name=other, uuid=OTHER_UUID))

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


@pytest.mark.parametrize(
    ("newest", "name"),
    [
        ("20261122T181210.000000005Z.xml", "20261122T181210.000000006Z.xml"),
        ("20261231T235959.999999999Z.xml", "20270101T000000.000000000Z.xml"),
    ],
)
def test_a_clock_that_was_set_back_gives_the_next_nanosecond(newest, name):
    assert backup.file_name(0, newest) == name


@pytest.mark.parametrize(
    "name",
    [
        "20261122T181210Z.xml",
        "20261122T181210.000000005Z.xml.bak",
        "XXXXXXXXTXXXXXX.XXXXXXXXXZ.xml",
        "٢0261122T181210.000000005Z.xml",  # digits, but not ours
    ],
)
def test_another_files_name_is_not_taken_for_ours(name):
    assert not backup.is_file_name(name)
