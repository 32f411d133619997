# SPDX-License-Identifier: MIT
"""libvirt-vlan apply: a running VM follows what its definition and its network say now."""

import json
import time

from conftest import (
    BRIDGE,
    MAC,
    MAC2,
    define_network,
    eventually_settled,
    nic,
    nothing_left_behind,
    start_libvirtd,
    tap_of,
    virsh,
)
from guest import listening_in_every_vlan, sending, tap_of_qemu
from iproute import DEFAULT, SERVER, ZEROTIER, bridge, eventually, ip, vlans
from libvirt_vlan import notes_aside, tool

DMZ = {47: ("PVID", "Egress Untagged")}


def redefine(vm, *pairs):
    """Given a VM and pairs of texts, replace the first by the second in the VM's definition, as virsh edit does."""
    xml = virsh("dumpxml", "--inactive", vm)
    for old, new in pairs:
        assert old in xml
        xml = xml.replace(old, new)
    virsh("define", "/dev/stdin", stdin=xml)


def about(code):
    """Return the findings of check that have this code."""
    _, out, _ = tool("check", "--json")
    found = json.loads("\n".join(out))
    return [one for one in found["problems"] + found["notes"] if one["code"] == code]


def shown(mac):
    _, out, _ = tool("show", "--json")
    (found,) = (one for one in json.loads("\n".join(out))["nics"] if one["mac"] == mac)
    return found


def test_a_running_vm_is_moved_by_its_definition_and_stays_there_until_it_stops(vm, network):
    vm("web", nic(MAC, "zerotier"), nic(MAC2, "zerotier"))
    tap, other = tap_of("web", MAC), tap_of("web", MAC2)
    assert (vlans(tap), vlans(other), about("next-start-differs")) == (ZEROTIER, ZEROTIER, [])

    redefine("web", (f"<mac address='{MAC}'/>\n      <source network='{BRIDGE}' portgroup='zerotier'/>",
                     f"<mac address='{MAC}'/>\n      <source network='{BRIDGE}' portgroup='server'/>"))  # fmt: skip

    (note,) = about("next-start-differs")
    differs = "next start: 3 pvid untagged instead of 46 pvid untagged: libvirt-vlan apply web"
    assert note["line"] == f"note: web {MAC} {tap} zerotier: {differs}"
    assert (shown(MAC)["next_start"], shown(MAC2)["next_start"]) == ("differs", "same")
    assert tool("plan", "web")[1][0].endswith("wanted on br0: 3 pvid untagged (until then 46 pvid untagged)")
    typed = [f"bridge vlan del dev {tap} vid 46 master", f"bridge vlan add dev {tap} vid 3 pvid untagged master"]
    assert tool("apply", "--dry-run") == (0, typed, [])
    assert vlans(tap) == ZEROTIER

    assert tool("apply", "web") == (0, typed, [])

    assert (vlans(tap), vlans(other), about("next-start-differs")) == (SERVER, ZEROTIER, [])
    assert (shown(MAC)["portgroup"], shown(MAC)["verdict"], shown(MAC)["next_start"]) == ("server", "right", "same")
    assert tool("apply") == (0, [], [])

    # libvirt's live XML has the old portgroup, and a daemon that is restarted announces that
    assert "portgroup='zerotier'" in virsh("dumpxml", "web").split(MAC2)[0]
    bridge("vlan", "del", "dev", tap, "vid", "3")
    start_libvirtd()
    eventually_settled()
    assert (vlans(tap), vlans(other), shown(MAC)["portgroup"]) == (SERVER, ZEROTIER, "server")

    # so does a live change of something else
    for state in ("down", "up"):
        virsh("domif-setlink", "web", tap, state)
    eventually_settled()
    assert vlans(tap) == SERVER
    virsh("update-device", "web", "/dev/stdin", "--live", stdin=nic(MAC, "zerotier"))
    eventually(lambda: not about("made-plain"))
    eventually_settled()
    assert vlans(tap) == SERVER

    virsh("destroy", "web")
    nothing_left_behind()
    virsh("start", "--paused", "web")
    assert vlans(tap_of("web", MAC)) == SERVER


def test_a_vlan_that_changed_in_the_network_is_applied_to_all_that_use_it(vm, network):
    for name, mac in (("web", MAC), ("db", MAC2)):
        vm(name, nic(mac, "zerotier" if name == "web" else "server"))
    taps = {name: tap_of(name, mac) for name, mac in (("web", MAC), ("db", MAC2))}
    virsh("net-update", BRIDGE, "delete", "portgroup", "<portgroup name='zerotier-46'/>", "--live", "--config")
    (note,) = about("next-start-differs")
    assert note["sentence"].startswith("next start: refused: network br0 defines no portgroup 'zerotier'")
    status, out, err = tool("apply")
    assert (status, out, vlans(taps["web"])) == (1, [], ZEROTIER)
    assert tool("plan", "web")[1][0].split(": refused: ")[1].split(" (until")[0] in err[0]
    virsh("net-update", BRIDGE, "add", "portgroup", "<portgroup name='zerotier-47'/>", "--live", "--config")

    assert tool("apply")[0] == 0

    assert {name: vlans(tap) for name, tap in taps.items()} == {"web": DMZ, "db": SERVER}


def test_a_nic_without_a_portgroup_now_goes_back_only_if_its_vm_is_named(vm, network):
    vm("web", nic(MAC, "zerotier"))
    tap = tap_of("web", MAC)
    redefine("web", (" portgroup='zerotier'", ""))

    status, out, err = tool("apply")
    assert (status, out, vlans(tap)) == (0, [], ZEROTIER)
    assert err == [
        f"libvirt-vlan: web {MAC} {tap} zerotier: left as it is: it has no portgroup: libvirt-vlan apply web puts it "
        "into the default VLAN of br0"
    ]
    assert tool("apply", "web")[0] == 0
    assert (vlans(tap), about("next-start-differs")) == (DEFAULT, [])

    start_libvirtd()
    eventually_settled()
    assert (vlans(tap), shown(MAC)["verdict"]) == (DEFAULT, "right")

    redefine("web", (f"<source network='{BRIDGE}'", f"<source network='{BRIDGE}' portgroup='server'"))
    assert tool("apply")[0] == 0
    assert vlans(tap) == SERVER

    # the same for one that has started without a portgroup, and so has no ticket
    virsh("destroy", "web")
    redefine("web", (" portgroup='server'", ""))
    virsh("start", "--paused", "web")
    tap = tap_of("web", MAC)
    redefine("web", (f"<source network='{BRIDGE}'", f"<source network='{BRIDGE}' portgroup='zerotier'"))
    assert about("next-start-differs")[0]["sentence"] == "next start: 46 pvid untagged instead of left alone"
    assert tool("apply", "web")[0] == 0
    bridge("vlan", "del", "dev", tap, "vid", "46")
    start_libvirtd()
    eventually_settled()
    assert (vlans(tap), notes_aside(tool("check")[1])) == (ZEROTIER, [])
    virsh("destroy", "web")
    nothing_left_behind()


def test_what_cannot_be_applied_keeps_its_vlans_and_says_why(vm, network):
    ip("link", "add", "br1", "type", "bridge", "vlan_filtering", "1")
    define_network(portgroups=["zerotier-47"], name="other", bridge="br1")
    changes = {
        # plan's words
        "refused: network br0 defines no portgroup 'typo'": ("portgroup='zerotier'", "portgroup='typo'"),
        # nobody knows which of the two is which
        "two NICs of web have its MAC address: ": ("</interface>", f"</interface>{nic(MAC, 'server')}"),
        "the definition of web has no NIC with its MAC address": (MAC, MAC2),
        # no hook can take a tap from one bridge to another
        "it is defined on br1: only a restart of the VM changes that": (f"network='{BRIDGE}'", "network='other'"),
    }
    try:
        vm("web", nic(MAC, "zerotier"))
        tap, before = tap_of("web", MAC), virsh("dumpxml", "--inactive", "web")
        for says, change in changes.items():
            redefine("web", change)

            status, out, err = tool("apply", "web")

            assert (status, out, len(err), vlans(tap)) == (1, [], 1, ZEROTIER)
            assert err[0].startswith(f"libvirt-vlan: web {MAC} {tap} zerotier: {says}")
            virsh("define", "/dev/stdin", stdin=before)
    finally:
        virsh("net-destroy", "other")
        virsh("net-undefine", "other")
        ip("link", "del", "br1")


def test_a_vm_that_sends_while_it_is_moved_is_in_no_third_vlan_and_a_restored_one_has_its_old_portgroup(vm, network):
    vm("web", nic(MAC, "zerotier"))
    with listening_in_every_vlan(BRIDGE) as heard, sending(tap_of_qemu, MAC):
        virsh("resume", "web")
        eventually(lambda: 46 in heard())
        redefine("web", ("portgroup='zerotier'", "portgroup='server'"))
        heard()
        assert tool("apply", "web")[0] == 0
        time.sleep(0.5)
        came = heard()
    assert set(came) == {46, 3}
    last, first = max(came[46]), min(came[3])
    print(f"in no VLAN for {(first - last) * 1000:.0f} ms, between {len(came[46])} and {len(came[3])} frames")
    assert 0 < first - last < 1  # there is no moment at which it is in both

    # as a migration does, a saved VM takes its live XML with it
    virsh("managedsave", "web")
    virsh("start", "web")
    eventually_settled()
    assert vlans(tap_of("web", MAC)) == ZEROTIER
    assert [one["command"] for one in about("next-start-differs")] == ["libvirt-vlan apply web"]
    assert tool("apply")[0] == 0
    assert vlans(tap_of("web", MAC)) == SERVER
