# SPDX-License-Identifier: MIT
"""Uplinks that a network names: from the XML that libvirt keeps to what plan, check, vlans, sync and apply say."""

import subprocess

from conftest import BRIDGE, MAC, MAC2, eventually_settled, nic, start_libvirtd, tap_of, virsh, virsh_fails
from iproute import DEFAULT, bridge, ip, vlans
from libvirt_vlan import NETWORK, define_network, tool

UPLINK = "bond9"
NAMED = NETWORK.replace("<portgroup name='lab'>", f"<h:uplink dev='{UPLINK}'/><portgroup name='lab'>", 1)


def found(code):
    return [line for line in tool("check")[1] if code in line]


def test_an_uplink_that_the_network_names_carries_what_vms_use(vm, network):
    define_network(NAMED)
    vm("web", nic(MAC, "zerotier"), start=False)
    refusal = virsh_fails("start", "web")
    assert f"<uplink dev='{UPLINK}'/> in the network's <metadata> names no interface of this host" in refusal
    subprocess.run(["modprobe", "bonding", "max_bonds=0"], check=True)
    ip("link", "add", UPLINK, "up", "type", "bond")
    ip("link", "set", UPLINK, "master", BRIDGE)
    try:
        assert tool("plan", "web")[1][0].endswith(
            f"wanted on br0: 46 pvid untagged (and adds VLAN 46 to uplink {UPLINK})"
        )
        virsh("start", "--paused", "web")
        assert vlans(UPLINK) == {**DEFAULT, 46: ()}
        assert tool("plan", "web")[1][0].endswith("wanted on br0: 46 pvid untagged")

        bridge("vlan", "del", "dev", UPLINK, "vid", "46")  # as systemd-networkd does when it reloads
        assert found("lacks VLAN") == [
            f"web {MAC} {tap_of('web', MAC)} zerotier: uplink {UPLINK} lacks VLAN 46: libvirt-vlan sync web"
        ]
        assert tool("sync") == (0, [f"bridge vlan add dev {UPLINK} vid 46 master"], [])
        assert vlans(UPLINK) == {**DEFAULT, 46: ()}

        # a hot plug and a move add theirs; what the VM has left behind is listed, and stays
        virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "server"))
        eventually_settled()
        assert vlans(UPLINK) == {**DEFAULT, 46: (), 3: ()}
        xml = virsh("dumpxml", "--inactive", "web").replace("portgroup='zerotier'", "portgroup='lab'")
        virsh("define", "/dev/stdin", stdin=xml)
        assert tool("apply", "web")[1][0] == f"bridge vlan add dev {UPLINK} vid 10 master"
        assert vlans(UPLINK).keys() == {1, 46, 3, 10, 20, *range(30, 41)}
        assert found("which uplink") == [
            f"note: br0: no VM on br0 uses VLAN 46, which uplink {UPLINK} carries: if nobody needs that, "
            f"bridge vlan del dev {UPLINK} vid 46 master"
        ]
        assert f"br0: no VM uses VLAN 46, which uplink {UPLINK} carries" in tool("vlans")[1]

        # once the network names it no more, sync forgets it
        xml = virsh("net-dumpxml", BRIDGE)
        define_network(NETWORK)
        bridge("vlan", "del", "dev", UPLINK, "vid", "20")
        assert tool("sync") == (0, [], [])
        assert 20 not in vlans(UPLINK)
        define_network(xml)
        assert tool("sync") == (0, [f"bridge vlan add dev {UPLINK} vid 20 master"], [])

        # the guest runs: a daemon that is restarted only warns
        ip("link", "set", UPLINK, "nomaster")
        start_libvirtd()
        eventually_settled()
        assert 10 in vlans(tap_of("web", MAC))
        assert {line.split(": ")[0] for line in found("that is not on br0")} == {"br0"}
    finally:
        ip("link", "del", UPLINK)
