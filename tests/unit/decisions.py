# SPDX-License-Identifier: MIT
"""Ports, networks and what is known about them, for the tests of decisions: nothing is read, nothing is there."""

from libvirt_hooks import taps
from libvirt_hooks.decision import Facts, decide
from libvirt_hooks.hookdata import Network, Port
from libvirt_hooks.lifecycle import Known
from libvirt_hooks.sysfs import Bridge
from libvirt_hooks.tickets import Ticket
from libvirt_hooks.vlans import access

NOW = 1000.0  # seconds, time.monotonic()
MAC = "52:54:00:00:00:02"
WEB, DB = "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5", "11111111-bc9d-4d00-8cd2-51f033dd32d5"  # VMs' uuids


def uuid(number):
    """Given a small number, return a uuid that ends in it."""
    return f"00000000-0000-0000-0000-{number:012}"


def port(group="zerotier", **changes):
    """Return a port of VM web in that portgroup, with changes."""
    fields = {
        "uuid": uuid(1), "vm": "web", "vm_uuid": WEB, "kind": taps, "mac": MAC, "plug": "bridge", "bridge": "br0",
        "has_vlan": False, "has_virtualport": False, "isolated": False, "fdb_managed": False,
    }  # fmt: skip
    return Port(group=group, **{**fields, **changes})


def network(portgroups=("server-3", "zerotier-46"), default=""):
    """Return network lan with these portgroups."""
    return Network(name="lan", portgroups=list(portgroups), default_group=default, metadata=None, port=None)


def bridge(**changes):
    """Return br0, which filters VLANs, with changes."""
    return Bridge(**{"name": "br0", "exists": True, "vlan_filtering": True, "default_pvid": 1, **changes})


def ticket(number=1, **changes):
    """Return a ticket of web in VLAN 46, with changes."""
    fields = {
        "uuid": uuid(number), "vm": "web", "vm_uuid": WEB, "kind": taps, "mac": MAC, "bridge": "br0", "network": "lan",
        "group": "zerotier", "is_default": False, "applied_over": None, "isolated": False, "fdb_managed": False,
        "vlans": access(46), "uplinks": [], "live": False, "created": NOW - 100 + number,
        "released": False, "right": None, "interface": None, "bridge_index": 0, "link_down": False,
    }  # fmt: skip
    return Ticket(**{**fields, **changes})


def known(number=1, noted=True, lives=False, used=False, **changes):
    """Return what is known of that ticket."""
    return Known(ticket=ticket(number, **changes), noted=noted, lives=lives, used=used)


def decided(of=None, net=None, **facts):
    """Given a port, its network and what is known beside the usual, return the decision."""
    usual = {
        "now": NOW,
        "bridge": bridge(),
        "uplinks": [],
        "interface": "",
        "strangers": [],
        "known": [],
        "again": False,
        "used": False,
        "uncalled": "",
    }
    return decide(of or port(), net or network(), Facts(**{**usual, **facts}))
