# SPDX-License-Identifier: MIT
"""What NICs and bridges look like to the tool, for tests."""

from libvirt_hooks import taps
from libvirt_hooks.hookdata import Port
from libvirt_hooks.tool.model import BridgeState, NicState
from libvirt_hooks.vlans import access

MAC, UUID = "52:54:00:00:00:01", "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5"


def nic(wanted=access(46), current=access(46), **changes):  # noqa: B008 # never changed
    port = {
        "uuid": "u", "vm": "web", "vm_uuid": UUID, "kind": taps, "mac": MAC, "group": "zerotier", "plug": "bridge",
        "bridge": "br0", "has_vlan": False, "has_virtualport": False, "isolated": False, "fdb_managed": False,
    }  # fmt: skip
    port.update({name: changes.pop(name) for name in list(changes) if name in port})
    fields = {"network": "lan", "tap": "vnet0", "reason": "", "refused": False, "made_plain": False, "ticket": None}
    return NicState(port=Port(**port), wanted=wanted, current=current, **{**fields, **changes})


def br0(fault="", default_pvid=1, **uplinks):
    return BridgeState("br0", fault, default_pvid, uplinks, exists=not fault.startswith("no bridge"))


LEFT_ALONE = {"wanted": None, "reason": "it has no portgroup", "group": ""}
DOES_NOT_FILTER = "bridge br0 does not filter VLANs: turn that on with ip link set dev br0 type bridge vlan_filtering 1"
REFUSED = {"wanted": None, "reason": "network lan defines no portgroup 'x'", "refused": True}
