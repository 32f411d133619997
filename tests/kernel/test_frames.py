# SPDX-License-Identifier: MIT
"""VLAN 46 reaches VLAN 46 and nothing else.

 guest0      guest1     guest2     guest3         guest4 --- guest4.46, guest4.3 (802.1Q)
   |           |          |          |              |
 vnet0       vnet1      vnet2      vnet3          vnet4
zerotier     VID 46     VID 3    default (1)    an uplink: 2-4094 tagged
by the hook                 by hand
   +-----------+----------+----------+--------------+
                         br0
"""

import pytest
from conftest import detached, hook, port_created
from frames import listening, send
from iproute import bridge as bridge_command
from iproute import eventually, ip

EVERYBODY = ("guest0", "guest1", "guest2", "guest3", "guest4.46", "guest4.3")


@pytest.fixture
def hosts(bridge):
    for number in range(1, 5):
        bridge.add_guest(f"vnet{number}", f"fe:54:00:00:01:0{number}")
    for port, vid in (("vnet1", "46"), ("vnet2", "3")):
        bridge_command("vlan", "del", "dev", port, "vid", "1")
        bridge_command("vlan", "add", "dev", port, "vid", vid, "pvid", "untagged")
    bridge_command("vlan", "add", "dev", "vnet4", "vid", "2-4094")
    for vid in ("46", "3"):
        ip("link", "add", "link", "guest4", "name", f"guest4.{vid}", "type", "vlan", "id", vid)
        ip("link", "set", f"guest4.{vid}", "up")
    hook("port-created", port_created())
    bridge.add_guest()
    eventually(lambda: not detached())


@pytest.mark.parametrize(
    ("sender", "reached"),
    [
        ("guest0", {"guest1", "guest4.46"}),
        ("guest1", {"guest0", "guest4.46"}),
        ("guest2", {"guest4.3"}),
        ("guest3", set()),  # guest4 itself is in VLAN 1, too, but nobody listens there
        ("guest4.46", {"guest0", "guest1"}),
        ("guest4.3", {"guest2"}),
    ],
)
def test_frames_stay_in_their_vlan(hosts, sender, reached):
    with listening(*EVERYBODY) as who:
        send(sender)

        assert who() == reached
