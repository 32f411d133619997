# SPDX-License-Identifier: MIT
"""Two VMs on one bridge have NICs with the same MAC address. The hooks leave one NIC alone, and never set its VLANs."""

import pytest
from conftest import BRIDGE, MAC, eventually_settled, nic, tap_of, virsh
from iproute import DEFAULT, ZEROTIER, always, vlans
from libvirt_vlan import check, tool

PLAIN = nic(MAC).replace("type='network'", "type='bridge'").replace(f"network='{BRIDGE}'", f"bridge='{BRIDGE}'")


@pytest.mark.parametrize("interface", [nic(MAC), PLAIN], ids=["without portgroup", "plain"])
def test_it_stays_in_the_default_vlan(vm, interface):
    vm("web", nic(MAC, "zerotier"))
    eventually_settled()
    vm("db", interface)
    taps = [tap_of(name, MAC) for name in ("web", "db")]

    assert [vlans(tap) for tap in taps] == [ZEROTIER, DEFAULT]
    assert (check(), tool("sync")) == ([], (0, [], []))
    virsh("destroy", "web")
    always(lambda: vlans(taps[1]) == DEFAULT, for_seconds=3)
    assert (check(), tool("sync")) == ([], (0, [], []))
