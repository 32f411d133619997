# SPDX-License-Identifier: MIT
"""How a running NIC's next start compares with what it was granted, and what apply makes of that."""

import pytest
from decisions import ticket as granted
from states import LEFT_ALONE, MAC, REFUSED, nic

from libvirt_hooks.tool import next_start
from libvirt_hooks.tool.findings import notes
from libvirt_hooks.vlans import access

TAGGED = {**LEFT_ALONE, "reason": "it has a <vlan>, which libvirt applies itself (since 11.0)"}
WENT_BACK = granted(group="", vlans=access(1), applied_over="zerotier")


def running(planned, **changes):
    return nic(**{"ticket": granted(), **changes, "planned": planned})


@pytest.mark.parametrize(
    ("found", "verdict", "says"),
    [
        (running(nic()), "same", ""),
        (running(nic(group="lan-46")), "same", ""),  # another name for the same VLAN
        (running(nic(access(47))), "differs", "47 pvid untagged instead of 46 pvid untagged"),
        (
            running(nic(**LEFT_ALONE)),
            "differs",
            "left alone instead of 46 pvid untagged, because it has no portgroup",
        ),
        (running(nic(**LEFT_ALONE), ticket=None, **LEFT_ALONE), "same", ""),
        (running(nic(**LEFT_ALONE), wanted=access(1), ticket=WENT_BACK), "same", ""),  # apply has put it there
        (running(nic(), **LEFT_ALONE), "differs", "46 pvid untagged instead of left alone"),
        (running(nic(**REFUSED)), "refused", "refused: network lan defines no portgroup 'x'"),
        (running(nic(bridge="br1")), "differs", "46 pvid untagged on br1 instead of 46 pvid untagged on br0"),
        (running(None), "unknown", ""),
        (running(nic(), **REFUSED), "unknown", ""),  # check says why it is refused
    ],
)
def test_a_next_start_is_compared_with_what_was_granted(found, verdict, says):
    assert next_start.verdict(found) == verdict
    if says:
        assert next_start.sentence(found) == f"next start: {says}"
        assert [one.code for one in notes([found], [])] == ["next-start-differs"]
    else:
        assert notes([found], []) == []


def test_what_is_wrong_with_a_bridge_is_no_change_of_a_definition():
    assert notes([running(nic(**REFUSED, is_bridges=True))], []) == []


@pytest.mark.parametrize(
    ("found", "unnamed", "named"),
    [
        (running(nic(access(47))), None, None),
        (running(nic()), None, None),
        (running(nic(**REFUSED)), "problem", "problem"),
        (running(nic(**LEFT_ALONE)), "said", None),  # back to the default VLAN: only for whoever asks for that
        (running(nic(**TAGGED, has_vlan=True)), "said", "said"),  # that is libvirt's
        (running(nic(bridge="br1")), "problem", "problem"),
        (running(None, unplanned="no such NIC"), None, "said"),  # plugged in live, and not defined
        (running(None, unplanned="two", is_doubled=True), "said", "problem"),
        (running(nic(access(47)), has_vlan=True, **TAGGED), "problem", "problem"),  # libvirt tags what runs
        # a plain bridge NIC that is now defined as a port of a network
        (running(nic(), ticket=None, uuid="", **LEFT_ALONE), "problem", "problem"),
        # the same of one that libvirt has made plain: its ticket says which port it was
        (running(nic(access(47)), uuid="", made_plain=True), None, None),
    ],
)
def test_apply_leaves_some_nics_as_they_are(found, unnamed, named):
    words = {None: None, True: "problem", False: "said"}
    answers = [next_start.why_not_applied(found, is_named) for is_named in (False, True)]

    assert [words[one and one.is_problem] for one in answers] == [unnamed, named]


@pytest.mark.parametrize(
    ("found", "differs"),
    [
        (running(nic(access(47), group="dmz", uplinks=("bond0",)), ticket=granted(released=True, created=5.0)),
         {"vlans": access(47), "group": "dmz", "applied_over": "zerotier", "released": True, "created": 5.0,
          "uplinks": ["bond0"]}),
        (running(nic(access(47), group="dmz"), ticket=granted(right=("vnet0", 7))),
         {"vlans": access(47), "group": "dmz", "applied_over": "zerotier", "right": ("vnet0", 7)}),
        # a second time: libvirt still announces the first portgroup
        (running(nic(access(47), group="dmz"), group="lab", ticket=granted(group="lab", applied_over="zerotier")),
         {"vlans": access(47), "group": "dmz", "applied_over": "zerotier"}),
        # libvirt announces no portgroup where the NIC had the network's default one
        (running(nic(access(47), group="dmz"), is_default=True, ticket=granted(is_default=True)),
         {"vlans": access(47), "group": "dmz", "applied_over": ""}),
        (running(nic(access(3), group="server-3", is_default=True)),
         {"vlans": access(3), "group": "server-3", "is_default": True, "applied_over": "zerotier"}),
        (running(nic(**LEFT_ALONE)), {"vlans": access(5), "group": "", "applied_over": "zerotier"}),
        # without a ticket the live XML says which port it is, and what libvirt has set there
        (running(nic(group="zerotier", decided=granted(9)), ticket=None, isolated=True, fdb_managed=True,
                 **LEFT_ALONE),
         {"uuid": "u", "group": "zerotier", "applied_over": "", "isolated": True, "fdb_managed": True,
          "created": granted(9).created}),
    ],
)  # fmt: skip
def test_a_ticket_that_is_applied_says_over_what(found, differs):
    ticket = next_start.ticket(found, 5, ("vnet0", 7))

    usual = {"right": None, "interface": ("vnet0", 7), "live": False}
    assert vars(ticket) == {**vars(granted()), **usual, **differs}


def test_a_note_has_the_command_that_applies_it():
    (note,) = notes([running(nic(access(47)), vm="a b")], [])

    assert note.command == "libvirt-vlan apply 'a b'"
    assert note.line == (
        f"note: a b {MAC} vnet0 zerotier: next start: 47 pvid untagged instead of 46 pvid untagged: {note.command}"
    )
