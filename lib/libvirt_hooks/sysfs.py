# SPDX-License-Identifier: MIT
"""What the kernel says of interfaces in /sys/class/net: cheap enough to ask while libvirtd waits.

It knows no VLANs: those, and all changes, are bridge.py's.
"""

from __future__ import annotations

import os

from . import HookError

NET = "/sys/class/net"

_addresses: dict[tuple[str, int], str] = {}  # of ports by name and number, for ports_with()


def bridge_exists(bridge: str) -> bool:
    """Given an interface's name, return whether it is a bridge."""
    return os.path.isdir(f"{NET}/{bridge}/bridge")


def vlan_filtering(bridge: str) -> bool:
    """Given a bridge, return whether it filters VLANs: without, VLANs can be set and have no effect."""
    return _read(f"{bridge}/bridge/vlan_filtering") == "1"


def default_pvid(bridge: str) -> int:
    """Given a bridge, return the VID that it gives to each new port, 0 for none."""
    return int(_read(f"{bridge}/bridge/default_pvid") or 0)


def ports(bridge: str) -> dict[str, int]:
    """Given a bridge, return its ports' names, each with a number that is another once it has left and returned."""
    try:
        return {entry.name: entry.inode() for entry in os.scandir(f"{NET}/{bridge}/brif")}
    except OSError:  # there is no such bridge, or too many files are open
        return {}


def port_number(port: str, bridge: str) -> int:
    """Given a port's name and its bridge, return its number as in ports(), 0 if it is not there."""
    try:
        return os.lstat(f"{NET}/{bridge}/brif/{port}").st_ino
    except OSError:
        return 0


def address(interface: str) -> str:
    """Given an interface's name, return its MAC address, "" if there is none of that name."""
    return _read(f"{interface}/address")


def ports_with(mac: str, bridge: str) -> dict[str, int]:
    """Given a MAC address and a bridge, return those of its ports() that have it: one at most, if all is well.

    A process reads each port's address once, as long as it stays on the bridge: there can be a thousand.
    """
    found = {}
    for name, number in ports(bridge).items():
        if not _addresses.get((name, number)):  # it could not be read while too many files were open
            _addresses[name, number] = address(name)
        if _addresses[name, number] == mac:
            found[name] = number
    return found


def port_with(mac: str, bridge: str) -> str:
    """Given a tap's address and a bridge, return the bridge's port that has it, "" if none has.

    It is the port's own, a permanent entry of the forwarding database; a guest can make the bridge learn any other by
    sending one frame. Raises HookError if two ports have it.
    """
    found = ports_with(mac, bridge)
    if len(found) > 1:
        raise HookError(f"{' and '.join(found)} on {bridge} have the same address: give one another MAC address")
    return next(iter(found), "")


def interface_with(mac: str, bridge: str) -> str:
    """Given a MAC address, return the name of an interface other than the bridge that has it, "" if none has."""
    names = (name for name in os.listdir(NET) if name != bridge)
    return next((name for name in names if address(name) == mac), "")


def ifindex(interface: str) -> int:
    """Given an interface's name, return its index, 0 if there is none of that name.

    The name can come back with another device behind it, the index cannot.
    """
    return int(_read(f"{interface}/ifindex") or 0)


def master(interface: str) -> str:
    """Given an interface's name, return the name of the bridge that it is a port of, "" for none."""
    try:
        return os.path.basename(os.readlink(f"{NET}/{interface}/master"))
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        descriptor = os.open(f"{NET}/{path}", os.O_RDONLY)  # open() asks the kernel four times as much
    except OSError:  # it went away meanwhile
        return ""
    try:
        return os.read(descriptor, 4096).decode("ascii").strip()  # source: Linux, sysfs.rst: a page at most
    except OSError:
        return ""
    finally:
        os.close(descriptor)
