# SPDX-License-Identifier: MIT
"""A backup directory that hangs, and a log file that grows: neither is in the way of a start."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from captured import domain
from conftest import LOG, MAC, REPOSITORY, UUID, hook, logged, port_created

QEMU = REPOSITORY / "hooks/qemu"
DOMAIN = domain([(MAC, UUID, "vnet0")])
VM_UUID = DOMAIN.split("<uuid>")[1].split("</uuid>")[0]
BACKUPS = Path(f"/var/backups/libvirt/qemu/web.{VM_UUID}")


def savers():
    return subprocess.run(["pgrep", "-f", "hooks/qemu"], check=False, capture_output=True, text=True).stdout.split()


def test_a_backup_directory_that_hangs_holds_up_a_start_for_two_seconds(bridge):
    """Whoever opens a FIFO to read it waits until somebody writes."""
    shutil.rmtree(BACKUPS, ignore_errors=True)  # other tests start this VM, too
    BACKUPS.mkdir(parents=True)
    os.mkfifo(BACKUPS / "20200101T000000.000000000Z.xml")
    began = time.monotonic()
    done = hook("prepare", DOMAIN, executable=QEMU, name="web")

    assert (done.returncode, done.stderr) == (0, "")
    assert 2 < time.monotonic() - began < 6
    assert logged()[-1] == "not backed up: /var/backups/libvirt did not answer within 2 s: does its disk hang?"
    assert savers() == []
    (BACKUPS / "20200101T000000.000000000Z.xml").unlink()
    assert hook("prepare", DOMAIN, executable=QEMU, name="web").returncode == 0
    (saved,) = BACKUPS.glob("*.xml")
    assert "<name>web</name>" in saved.read_text()


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
