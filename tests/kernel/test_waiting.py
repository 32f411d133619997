# SPDX-License-Identifier: MIT
"""The detached process waits: how long, how busily, and what it does when it cannot do its work."""

import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import MAC, REPOSITORY, TICKETS, UUID, detached, hook, logged, port_created, tickets
from iproute import ACCESS, eventually, vlans

ABOUT = f"web {MAC} - zerotier"


@pytest.fixture
def impatient(tmp_path):
    """Give a copy of the hook that is the same in all but its five minutes: they are four seconds."""
    shutil.copytree(REPOSITORY / "lib", tmp_path / "lib")
    taps = tmp_path / "lib/libvirt_hooks/taps.py"
    text, count = re.subn(r"(?m)^WAIT_SECONDS = 300\b", "WAIT_SECONDS = 4", taps.read_text())
    assert count == 1
    taps.write_text(text)
    return shutil.copy(REPOSITORY / "hooks/network", tmp_path)


def test_a_port_that_never_comes_is_given_up_with_a_line_in_the_log(bridge, impatient):
    hook("port-created", port_created(), executable=impatient)
    eventually(detached)
    eventually(lambda: not detached())

    assert re.fullmatch(rf"given up after \d+ s: {re.escape(ABOUT)}: its tap has not come to br0", logged()[-1])


def test_commands_that_always_fail_are_given_up_with_the_reason_in_the_log(bridge, impatient, failing):
    hook("port-created", port_created(), executable=impatient, path=failing.path)
    bridge.add_tap()
    eventually(detached)
    eventually(lambda: not detached())

    command = "bridge vlan del dev vnet0 vid 1 master"
    reason = f"web {MAC} vnet0 zerotier: {command}: exit 2: RTNETLINK answers: Operation not permitted"
    assert logged()[-1] == reason
    assert logged().count(f"trying again: {reason}") == 1
    assert vlans("vnet0") == {1: ACCESS}


def test_commands_that_fail_for_a_while_are_tried_again(bridge, failing):
    hook("port-created", port_created(), path=failing.path)
    bridge.add_tap()
    eventually(lambda: any(line.startswith("trying again: ") for line in logged()))
    failing.mend()

    eventually(lambda: vlans("vnet0") == {46: ACCESS})


def test_waiting_costs_less_and_less(bridge):
    hook("port-created", port_created())
    (process,) = eventually(detached)
    stat = Path(f"/proc/{process}/stat")

    def ticks():
        """User and system time, its children's too. Source: proc(5), fields 14 to 17."""
        return sum(int(field) for field in stat.read_text().rpartition(")")[2].split()[11:15])

    def used_in_five_seconds():
        before, end = ticks(), os.times().elapsed + 5
        eventually(lambda: os.times().elapsed > end)
        return ticks() - before

    at_first, later = used_in_five_seconds(), used_in_five_seconds()
    assert later < at_first


def test_a_damaged_ticket_goes_when_its_port_does(bridge):
    TICKETS.mkdir()
    damaged = TICKETS / f"fe:54:00:00:00:01.{UUID}"
    damaged.write_text("uuid")
    done = hook("port-deleted", port_created())

    assert done.returncode == 0
    assert "is damaged" in logged()[-1]
    assert tickets() == []
