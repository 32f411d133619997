# SPDX-License-Identifier: MIT
"""The detached process waits: how long, how busily, and what it does when it cannot do its work."""

import os
import re
import time
from pathlib import Path

import pytest
from conftest import MAC, TICKETS, UUID, detached, hook, impatient_hook, logged, port_created, tickets
from iproute import ACCESS, eventually, vlans

ABOUT = f"web {MAC} - zerotier"


@pytest.fixture
def impatient(tmp_path):
    """Give a copy of the hook that is the same in all but its five minutes: they are four seconds."""
    return impatient_hook(tmp_path, "network", "waiting", ("WAIT_SECONDS", 300), 4)


def test_a_port_that_never_comes_is_given_up_with_a_line_in_the_log(bridge, impatient):
    hook("port-created", port_created(), executable=impatient)
    eventually(detached)
    eventually(lambda: not detached())

    assert re.fullmatch(rf"gave up after \d+ s: {re.escape(ABOUT)}: its tap has not appeared on br0", logged()[-1])


def test_commands_that_always_fail_are_given_up_with_the_reason_in_the_log(bridge, impatient, failing):
    hook("port-created", port_created(), executable=impatient, path=failing.path)
    bridge.add_tap()
    eventually(detached)
    eventually(lambda: not detached())

    command = "bridge vlan del dev vnet0 vid 1 master"
    reason = f"web {MAC} vnet0 zerotier: {command}: exit 2: RTNETLINK answers: Operation not permitted"
    reason += ": run it in a shell to find out why"
    assert re.fullmatch(rf"gave up after \d+ s: {re.escape(reason)}", logged()[-1])
    assert logged().count(f"trying again: {reason}") == 1
    assert vlans("vnet0") == {1: ACCESS}


def test_commands_that_fail_for_a_while_are_tried_again(bridge, failing):
    hook("port-created", port_created(), path=failing.path)
    bridge.add_tap()
    eventually(lambda: any(line.startswith("trying again: ") for line in logged()))
    failing.mend()

    eventually(lambda: vlans("vnet0") == {46: ACCESS})


def test_waiting_costs_less_and_less(bridge):
    """Each look for the tap ends with a sleep, and so with one voluntary context switch. Source: proc(5), status."""
    hook("port-created", port_created())
    (process,) = eventually(detached)
    status = Path(f"/proc/{process}/status")
    time.sleep(3)  # until all has been imported

    def sleeps_in_five_seconds():
        def sleeps():
            return int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])

        before = sleeps()
        time.sleep(5)
        return sleeps() - before

    at_first = sleeps_in_five_seconds()
    time.sleep(5)
    assert 0 < sleeps_in_five_seconds() < at_first / 2


OFF = Path("/run/libvirt-hooks.off")
STALE = f"fe:54:00:00:00:77.{UUID[:-1]}7"


@pytest.mark.parametrize("ends", ["the tap is right", "libvirt takes the port back", "given up"])
def test_tickets_that_nobody_needs_are_gone_however_the_wait_ends(bridge, impatient, ends):
    hook("port-created", port_created(), executable=impatient)
    (process,) = eventually(detached)
    (ours,) = tickets()
    stale = (TICKETS / ours).read_text().replace(MAC, "52:54:00:00:00:77").replace(UUID, UUID[:-1] + "7")
    before_the_wait = re.sub(r"(?m)^created .*", "created -1000000.0", stale)
    (TICKETS / STALE).write_text(before_the_wait)
    os.utime(TICKETS / STALE, (0, 0))
    if ends == "the tap is right":
        bridge.add_tap()
    elif ends == "libvirt takes the port back":
        hook("port-deleted", port_created(), executable=impatient)
    eventually(lambda: process not in detached())

    assert STALE not in tickets()


def test_once_the_hooks_are_switched_off_nobody_waits_any_more(bridge):
    hook("port-created", port_created())
    eventually(detached)
    OFF.touch()
    try:
        bridge.add_tap()
        eventually(lambda: not detached())

        assert logged()[-1] == "web: stopped waiting: switched off with libvirt-vlan off"
        assert vlans("vnet0") == {1: ACCESS}
    finally:
        OFF.unlink()


def test_a_damaged_ticket_goes_when_its_port_does(bridge):
    TICKETS.mkdir()
    damaged = TICKETS / f"fe:54:00:00:00:01.{UUID}"
    damaged.write_text("uuid")
    done = hook("port-deleted", port_created())

    assert done.returncode == 0
    assert "is damaged" in logged()[-1]
    assert tickets() == []
