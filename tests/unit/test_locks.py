# SPDX-License-Identifier: MIT
"""Locks: whose they are, and when they are free again."""

import os
import subprocess
import sys

import pytest
from decisions import MAC, WEB

from libvirt_hooks import locks, tickets

TAP = "fe:54:00:00:00:02"  # of MAC


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(tickets, "DIRECTORY", str(tmp_path / "tickets"))


def test_a_vm_and_a_container_of_one_mac_address_have_two_locks():
    keys = [TAP, f"veth-{MAC}", f"veth-{TAP}"]
    held = [locks.take_nics(key) for key in keys]
    command = (
        "import sys; sys.path.insert(0, 'lib'); from libvirt_hooks import locks, tickets; "
        "tickets.DIRECTORY = sys.argv[1]; locks.take_nics(sys.argv[2])"
    )
    taken = [
        subprocess.run([sys.executable, "-c", command, tickets.DIRECTORY, key], capture_output=True, check=False)
        for key in (*keys, "veth-52:54:00:00:00:03")
    ]
    for lock in held:
        os.close(lock)

    assert [b"BlockingIOError" in done.stderr for done in taken] == [True, True, True, False]


def test_the_lock_of_a_guest_is_free_once_all_processes_that_have_it_are_gone():
    vm_uuid = WEB
    assert not locks.guests_is_taken(vm_uuid)
    lock = locks.take_guests(vm_uuid)
    reader, writer = os.pipe()
    child = os.fork()  # inherits the lock
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    os.close(lock)

    assert locks.guests_is_taken(vm_uuid)
    with pytest.raises(BlockingIOError):
        locks.take_guests(vm_uuid)
    assert not locks.guests_is_taken(vm_uuid.replace("7", "8"))
    os.close(writer)
    os.waitpid(child, 0)
    assert not locks.guests_is_taken(vm_uuid)
    os.close(locks.take_guests(vm_uuid))
    os.close(locks.take_guests(""))  # of a port that nobody owns
