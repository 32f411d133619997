# SPDX-License-Identifier: MIT
"""Which of an interface's tickets applies, and what becomes of them."""

import pytest
from decisions import NOW, known, ticket, uuid

from libvirt_hooks import lifecycle, waiting
from libvirt_hooks.lifecycle import LIVE_GRACE_SECONDS, NOTED_SECONDS, START_SECONDS

RIGHT = {"right": ("vnet0", 4)}
ANNOUNCED = {"live": True, "created": NOW - LIVE_GRACE_SECONDS + 1}
STOOD = {"live": True, "created": NOW - LIVE_GRACE_SECONDS}


@pytest.mark.parametrize(
    ("tickets", "counts"),
    [
        ([], None),
        ([ticket(1)], 1),  # a start: the tap is yet to come
        ([ticket(1), ticket(2)], 1),  # the one that libvirt has granted, not its successor
        ([ticket(1), ticket(2, **ANNOUNCED)], 1),  # update-device, not decided
        ([ticket(2, **ANNOUNCED)], None),  # a port that had no portgroup until now: not decided either
        ([ticket(2, **STOOD)], 2),  # decided
        ([ticket(1, released=True)], 1),  # domif-setlink: the tap lives on without a port
        ([ticket(1, released=True), ticket(2, **ANNOUNCED)], 1),
        ([ticket(1, released=True), ticket(2, **STOOD)], 2),
        ([ticket(1, vlans=None), ticket(2, **ANNOUNCED)], 1),
        ([ticket(1, live=True, released=True, created=NOW)], 1),  # a released one has stood, however young
    ],
)
def test_of_several_tickets_the_one_that_libvirt_granted_counts(tickets, counts):
    found = lifecycle.applies(tickets, NOW)

    assert (int(found.uuid[-12:]) if found else None) == counts


UNDECIDED = {"live": True, "created": NOW}


@pytest.mark.parametrize(
    ("tickets", "number", "lives", "left"),
    [
        ([ticket(1)], 1, False, []),  # the VM is gone
        ([ticket(1)], 1, True, [(1, True)]),  # domif-setlink
        ([ticket(1), ticket(2, **UNDECIDED)], 2, True, [(1, False)]),  # update-device refused
        ([ticket(1), ticket(2, **UNDECIDED)], 1, True, [(2, False)]),  # update-device carried out
        ([ticket(2, **UNDECIDED)], 2, True, []),  # refused, and there was none before
        ([ticket(1, released=True), ticket(2)], 2, True, [(2, True)]),  # setlink after setlink
        ([ticket(1, released=True), ticket(2)], 2, False, []),  # the VM is gone
        ([ticket(1, released=True), ticket(2, **UNDECIDED)], 2, True, [(1, True)]),
    ],
)
def test_a_port_that_libvirt_takes_back_leaves_what_still_counts(tickets, number, lives, left):
    (taken,) = [one for one in tickets if one.uuid == uuid(number)]
    end = lifecycle.release(taken, [one for one in tickets if one is not taken], lives, NOW)
    stay = [one for one in tickets if one not in end.removed]

    assert [(int(one.uuid[-2:]), one.released or one is end.kept) for one in stay] == left
    assert end.decided == [one for one in stay if one.live and one is not end.kept]  # a decided ticket applies at once


@pytest.mark.parametrize(
    ("notes", "forgotten"),
    [
        ((True, True, True), []),
        ((False, True, True), [1]),  # virsh net-destroy forgets ports without a word: no port-deleted comes
        ((False, False, True), [1, 2]),
        ((False, False, False), [1, 2]),  # the youngest may be one that libvirt has not noted yet
    ],
)
def test_a_port_that_libvirt_forgot_gives_way_to_a_younger_one(notes, forgotten):
    ports = [known(number, noted=noted) for number, noted in enumerate(notes, start=1)]

    assert [one.uuid for one in lifecycle.forgotten(ports)] == [uuid(number) for number in forgotten]
    assert lifecycle.forgotten([*ports[:2], known(3, released=True)]) == lifecycle.forgotten(ports[:2])


@pytest.mark.parametrize(
    ("one", "granted"),
    [
        (known(created=NOW - START_SECONDS + 1), True),  # its guest starts, or its start has failed: nobody knows
        (known(created=NOW - START_SECONDS), False),  # a daemon that was down has kept the port of a failed start
        (known(created=NOW - START_SECONDS, used=True), True),  # its guest runs
        (known(noted=False), False),
        (known(noted=False, created=NOW - NOTED_SECONDS + 1), True),  # libvirt is about to note it
        (known(noted=False, created=NOW, released=True), False),
        (known(lives=True, **RIGHT), True),
        (known(lives=False, **RIGHT), False),  # a daemon that was down has kept the port of a VM that has ended
        (known(noted=False, created=NOW, lives=False, **RIGHT), False),  # its tap has come and gone
        (known(noted=False, created=NOW, lives=True, **RIGHT), False),
    ],
)
def test_a_port_is_granted_as_long_as_libvirt_has_it_and_its_tap_is_not_gone(one, granted):
    assert lifecycle.is_granted(one, NOW) == granted


def test_a_port_counts_as_long_as_its_process_waits():
    assert waiting.WAIT_SECONDS == START_SECONDS
