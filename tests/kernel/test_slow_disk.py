# SPDX-License-Identifier: MIT
"""A backup directory that hangs, and a log file that grows: neither is in the way of a start."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from captured import domain
from conftest import LOG, MAC, REPOSITORY, UUID, hook, impatient_hook, logged, port_created
from iproute import eventually

QEMU = REPOSITORY / "hooks/qemu"
DOMAIN = domain([(MAC, UUID, "vnet0")])
VM_UUID = DOMAIN.split("<uuid>")[1].split("</uuid>")[0]
BACKUPS = Path(f"/var/backups/libvirt/qemu/web.{VM_UUID}")


def savers():
    return subprocess.run(
        ["pgrep", "-f", "python3 -IS .*/qemu web"], check=False, capture_output=True, text=True
    ).stdout.split()


@pytest.fixture
def impatient(tmp_path):
    """Give a copy of the qemu hook that is the same in all but how long it waits for a disk: three seconds."""
    return impatient_hook(tmp_path, "qemu", "backup", ("SAVE_SECONDS", 30), 3)


def test_a_backup_directory_that_hangs_holds_up_nobody(bridge, impatient):
    """Whoever opens a FIFO to read it waits until somebody writes."""
    shutil.rmtree(BACKUPS, ignore_errors=True)  # other tests start this VM, too
    BACKUPS.mkdir(parents=True)
    fifo = BACKUPS / "20200101T000000.000000000Z.xml"
    os.mkfifo(fifo)
    for _ in range(2):  # two starts, one after another
        done = hook("prepare", DOMAIN, executable=impatient, name="web")
        assert (done.returncode, done.stderr, logged()) == (0, "", [])  # it has returned before anything was saved
    eventually(lambda: not savers())

    assert logged()[0] == "web: not backed up: no answer within 3 s: is the disk of /var/backups/libvirt hanging?"
    assert len([line for line in logged() if "not backed up: " in line]) == 2
    fifo.unlink()
    assert hook("prepare", DOMAIN, executable=QEMU, name="web").returncode == 0
    (saved,) = eventually(lambda: list(BACKUPS.glob("*Z.xml")))
    assert "<name>web</name>" in saved.read_text()
    eventually(lambda: not savers())


def test_two_saves_of_one_definition_never_mix(bridge):
    shutil.rmtree(BACKUPS, ignore_errors=True)
    for memory in range(100, 110):
        xml = DOMAIN.replace("</name>", f"</name><description>{memory}</description>", 1)
        assert hook("prepare", xml, executable=QEMU, name="web").returncode == 0
    eventually(lambda: not savers())

    files = sorted(BACKUPS.iterdir())
    assert 1 <= len(files) <= 10
    for file in files:
        assert file.read_text().endswith("</domain>\n")
        assert len(re.findall("<description>", file.read_text())) == 1


def test_the_log_file_is_put_aside_when_it_is_large(bridge):
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_bytes(b"x" * (1 << 20))
    hook("port-created", port_created("no-portgroup"))
    hook("port-created", port_created("no-portgroup"))
    aside = LOG.with_name(f"{LOG.name}.1")

    assert aside.read_bytes() == b"x" * (1 << 20)
    assert [line for line in logged() if "left alone" in line] == logged(whole=True)[1::2]
    assert LOG.stat().st_mode & 0o777 == 0o600
    aside.unlink()
