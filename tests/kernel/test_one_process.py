# SPDX-License-Identifier: MIT
"""One detached process serves all NICs of a VM: those that start with it, and those that come meanwhile."""

import os
import random
import signal
import time

import pytest
from captured import domain, networkport
from conftest import REPOSITORY, UUID, detached, hook, tickets
from iproute import ZEROTIER, eventually, ip_batch, vlans, vlans_of
from ready import Ready

ROUNDS = int(os.environ.get("LAB_ROUNDS", "6"))
NICS = [(f"52:54:00:00:00:0{number}", f"{UUID[:-1]}{number}", f"vnet{number}") for number in range(1, 5)]
OTHER_VM = {"vm": "db", "vm_uuid": "14c6f67e-7f4a-4044-b0ed-336b9ee62274"}


def announce(nic, **vm):
    mac, uuid, _ = nic
    assert hook("port-created", networkport(uuid, "zerotier", mac=mac, **vm)).returncode == 0


def add_tap(bridge, nic):
    mac, _, tap = nic
    return bridge.add_tap(tap, mac.replace("52", "fe", 1))


def test_four_nics_of_a_vm_are_served_by_one_process(bridge):
    for nic in NICS:
        announce(nic)
    assert len(detached()) == 1
    assert len(tickets()) == 4
    for nic in NICS:
        add_tap(bridge, nic)

    eventually(lambda: vlans_of([tap for _, _, tap in NICS]) == [ZEROTIER] * 4)
    eventually(lambda: not detached())


def test_another_vm_has_a_process_of_its_own(bridge):
    announce(NICS[0])
    announce(NICS[1], **OTHER_VM)

    assert len(detached()) == 2


def test_a_nic_that_is_plugged_in_meanwhile_is_served_by_the_process_that_there_is(bridge):
    announce(NICS[0])  # its tap does not come
    (process,) = eventually(detached)
    time.sleep(3)  # until it looks rarely
    announce(NICS[1])
    add_tap(bridge, NICS[1])

    eventually(lambda: vlans("vnet2") == ZEROTIER, within_seconds=5)
    assert detached() == [process]


def test_a_process_that_is_killed_leaves_its_lock_to_the_next(bridge):
    announce(NICS[0])
    (process,) = eventually(detached)
    os.kill(process, signal.SIGKILL)
    eventually(lambda: not detached())
    announce(NICS[1])
    for nic in NICS[:2]:
        add_tap(bridge, nic)

    eventually(lambda: vlans("vnet2") == ZEROTIER)


def test_the_start_does_not_wait_for_long_for_a_process_that_is_stuck(bridge):
    announce(NICS[0])
    (process,) = eventually(detached)
    os.kill(process, signal.SIGSTOP)
    add_tap(bridge, NICS[0])
    began = time.monotonic()
    done = hook("start", domain(NICS[:1]), executable=REPOSITORY / "hooks/qemu", name="web")
    took = time.monotonic() - began
    os.kill(process, signal.SIGCONT)

    assert (done.returncode, done.stderr, vlans("vnet1")) == (0, "", ZEROTIER)
    assert took > 4  # it has waited, and then done the work itself
    eventually(lambda: not detached())
    assert vlans("vnet1") == ZEROTIER


@pytest.fixture
def ready(bridge):
    ready = Ready()
    yield ready
    ready.close()


def test_a_ticket_that_comes_while_the_process_ends_is_never_forgotten(bridge, ready):
    """The second NIC is announced at a random moment around the end of the process that serves the first."""
    seed = int(os.environ.get("LAB_SEED", time.time_ns() % 1_000_000))
    print(f"LAB_SEED={seed}")
    chance = random.Random(seed)
    first, second = NICS[:2]
    takes = 0.0
    for number in range(ROUNDS):
        began = time.monotonic()
        ready.network("port-created", networkport(first[1], "zerotier", mac=first[0]))
        add_tap(bridge, first)
        if number == 0:
            eventually(lambda: not ready.detached())
            takes = time.monotonic() - began
        else:
            time.sleep(takes * chance.uniform(0.2, 1.1))
        ready.network("port-created", networkport(second[1], "zerotier", mac=second[0]))
        add_tap(bridge, second)
        eventually(lambda: vlans_of(["vnet1", "vnet2"]) == [ZEROTIER, ZEROTIER])
        eventually(lambda: not ready.detached())
        ip_batch("link del vnet1", "link del vnet2")
        for mac, uuid, _ in (first, second):
            ready.network("port-deleted", networkport(uuid, "zerotier", mac=mac))
        assert tickets() == []
