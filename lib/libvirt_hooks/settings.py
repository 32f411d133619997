# SPDX-License-Identifier: MIT
"""What libvirt sets at a VM's bridge port beside VLANs, and the kernel forgets when the port leaves its bridge.

`<port isolated='yes'/>` of a NIC, and `<bridge macTableManager='libvirt'>` of its network: then the bridge learns
nothing from the port, floods no unknown unicast to it, and has a static entry for the guest's address in each VLAN.
Source: libvirt, src/qemu/qemu_interface.c, qemuInterfaceBridgeConnect() and qemuInterfaceStartDevice().
"""

from __future__ import annotations

from . import libvirt_records, sysfs
from .hookdata import parse_port_state
from .tickets import Ticket
from .vlans import Vlans

ISOLATED = {"isolated": "on"}
NO_LEARNING = {"learning": "off", "flood": "off"}

Settings = dict[str, str]  # in the words of `bridge link set`


def wanted(ticket: Ticket) -> Settings:
    """Given a ticket, return what libvirt has set at its bridge port."""
    isolated, fdb_managed = _noted(ticket)
    return {**(ISOLATED if isolated else {}), **(NO_LEARNING if fdb_managed else {})}


def lacking(ticket: Ticket, name: str) -> Settings:
    """Given a ticket and its interface, return the wanted settings that its bridge port does not have."""
    needed = wanted(ticket)
    current = sysfs.port_settings(name) if needed else {}
    return {word: value for word, value in needed.items() if current.get(word) != value}


def commands(name: str, lacks: Settings) -> list[list[str]]:
    """Given an interface and settings that its bridge port lacks, return the command that sets them, none for none."""
    words = [word for setting in lacks.items() for word in setting]
    return [["bridge", "link", "set", "dev", name, *words]] if words else []


def instead(lacks: Settings) -> str:
    """Given settings that a bridge port lacks, return the words about that: "isolated off instead of on"."""
    other = {"on": "off", "off": "on"}
    return ", ".join(f"{word} {other[value]} instead of {value}" for word, value in lacks.items())


def has_entries(ticket: Ticket) -> bool:
    """Given a ticket, return whether libvirt adds the guest's address to its bridge's forwarding database."""
    return _noted(ticket)[1]


def may_add_entries(ticket: Ticket, name: str) -> bool | None:
    """Given a ticket and its interface, return whether libvirt has added the guest's address; None: it is about to.

    libvirt does so when the guest's CPUs start to run, for the VLANs of that moment, or at once in a hot plug. If
    somebody else has done it before, libvirt takes that for an error, and the guest does not run.
    Source: libvirt, src/util/virnetdevbridge.c, virNetDevBridgeFDBAddDel().
    """
    if not libvirt_records.is_running(ticket.vm):
        return False
    return True if libvirt_records.runs_with(ticket.vm, name) else None


def entries(ticket: Ticket, name: str) -> list[list[str]]:
    """Given a ticket and its interface, return the command that adds the guest's address in each VLAN of the port.

    None if libvirt does not do so, or will do it itself: when the CPUs of a VM that is paused run again.
    """
    if has_entries(ticket) and may_add_entries(ticket, name):
        return [["bridge", "fdb", "replace", ticket.mac, "dev", name, "master", "static"]]
    return []


def lacks_entry(ticket: Ticket, vlans: Vlans, shown: object) -> bool:
    """Given a ticket, the VLANs of its bridge port and the parsed answer of `bridge -j fdb show dev NAME`, return
    whether one of the VLANs has no static entry for the guest's address.
    """
    entries = [entry for entry in shown if isinstance(entry, dict)] if isinstance(shown, list) else []
    own = [entry for entry in entries if entry.get("mac") == ticket.mac and entry.get("state") == "static"]
    return bool(vlans.keys() - {entry.get("vlan") for entry in own})


def _noted(ticket: Ticket) -> tuple[bool, bool]:
    """Given a ticket, return what it says about `isolated` and macTableManager.

    A ticket of release 1.0.0 does not say it: then libvirt's record of the port does.
    """
    if ticket.isolated is None:
        record = libvirt_records.port_state(ticket.network, ticket.uuid)
        port = parse_port_state(record) if record else None
        return bool(port and port.isolated), bool(port and port.fdb_managed)
    return ticket.isolated, ticket.fdb_managed
