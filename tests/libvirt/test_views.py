# SPDX-License-Identifier: MIT
"""libvirt-vlan vlans and map: two VMs under a real libvirtd, one NIC in a VLAN that is not its own."""

import json
import subprocess

import pytest
from conftest import BRIDGE, REPOSITORY, eventually_settled, nic, tap_of, virsh
from iproute import add_uplink, bridge, ip
from jsonschema import validate
from libvirt_vlan import NETWORK, define_network, tool

SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan-vlans.schema.json").read_text())
RED = "#C00000"
MACS = [f"52:54:00:00:00:{number:02x}" for number in range(1, 6)]


@pytest.fixture
def spoiled(vm):
    """Give the taps of web and of mail, which somebody has moved into VLAN 1; web's other NICs, trunks, are right."""
    define_network(NETWORK)
    vm("web", nic(MACS[0], "zerotier"), nic(MACS[2], "lab"), nic(MACS[3], "all"), nic(MACS[4]))
    vm("mail", nic(MACS[1], "zerotier"))
    eventually_settled()
    web, mail = tap_of("web", MACS[0]), tap_of("mail", MACS[1])
    bridge("vlan", "del", "dev", mail, "vid", "46")
    bridge("vlan", "add", "dev", mail, "vid", "1", "pvid", "untagged")
    add_uplink("eth9", BRIDGE)
    for vids in ("10", "20", "30-35", "46"):
        bridge("vlan", "add", "dev", "eth9", "vid", vids)
    yield web, mail
    ip("link", "del", "eth9")


def test_table_json_and_graph_say_who_is_in_which_vlan_and_what_is_missing(spoiled):
    web, mail = spoiled
    trunk = tap_of("web", MACS[3])
    status, out, err = tool("vlans")
    assert (status, err) == (0, [])
    assert [" ".join(line.split()) for line in out] == [
        "VLAN BRIDGE PORTGROUPS UNTAGGED TAGGED UPLINKS PROBLEMS",
        "1 br0 - web, mail - eth9 in it, and should not be: mail",
        "10 br0 lab web - eth9 -",
        "20 br0 lab - web eth9 -",
        "30-35 br0 lab - web eth9 -",
        "36-40 br0 lab - web - no uplink carries it",
        "46 br0 zerotier web - eth9 not in it: mail",
        f"br0: in every VLAN: web {trunk}: wanted 1PU,2-4094, current 1PU,2-4094: right",
    ]

    status, out, err = tool("vlans", "--json", "46")
    shown = json.loads("\n".join(out))
    validate(shown, SCHEMA)
    (vlan,) = shown["vlans"]
    assert {nic["vm"]: (nic["tap"], nic["membership"]) for nic in vlan["nics"]} == {
        "web": (web, "right"),
        "mail": (mail, "missing"),
    }
    uuid = virsh("domuuid", "mail")
    assert [nic["vm_uuid"] for nic in vlan["nics"] if nic["vm"] == "mail"] == [uuid]

    status, out, err = tool("map")
    assert (status, err) == (0, [])
    drawn = json.loads(subprocess.check_output(["dot", "-Tjson"], input="\n".join(out), text=True))
    boxes = {box["_gvid"]: box for box in drawn["objects"]}
    words = [box["label"].replace("\\n", " ").strip() for box in boxes.values()]
    assert "web VLAN 46 untagged VLAN 10 untagged, 20, 30-40 every VLAN VLAN 1 untagged" in words
    assert [box["label"].split("\\n")[0] for box in boxes.values() if box["color"] == RED] == ["VLAN 36-40", "mail"]
    to_mail = [line for line in drawn["edges"] if boxes[line["head"]]["label"].startswith("mail")]
    assert [line["label"] for line in to_mail] == ["should not be in it", "not in it"]

    # what completion asks libvirt, as a user who may only read
    names = f'. {REPOSITORY}/completion/vms.bash; _libvirt_vlan_running ""; _libvirt_vlan_defined ma'
    assert sorted(subprocess.check_output(["bash", "-c", names], text=True).split()) == ["mail", "mail", "web"]


def test_what_is_no_vid_is_refused(libvirtd):
    assert tool("vlans", "46", "5x") == (2, [], ["libvirt-vlan: '5x' is not a VID: a VID is a number from 1 to 4094"])
