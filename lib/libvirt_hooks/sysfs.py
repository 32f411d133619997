# SPDX-License-Identifier: MIT
"""What the kernel says about interfaces in /sys/class/net, cheap enough to read while libvirtd waits.

There are no VLANs in /sys: bridge.py reads and changes those.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

from . import HookError

NET = "/sys/class/net"
PAGE_BYTES = 4096  # what one read returns at most: of all files here, only the forwarding database has more

_addresses: dict[tuple[str, int], str] = {}  # of bridge ports by name and inode, for taps_with()


class Bridge(SimpleNamespace):
    """A bridge, or what should be one."""

    name: str
    exists: bool
    vlan_filtering: bool  # if not, VLANs can be set and have no effect
    default_pvid: int  # the VID that the bridge gives to each new bridge port, 0 for none


class Uplink(SimpleNamespace):
    """An interface that a network names as its uplink."""

    name: str
    exists: bool
    master: str  # the bridge that it is on, "" for none
    is_tap: bool
    is_lower: bool  # its master is no bridge, but a bond, for example


def bridge(name: str) -> Bridge:
    """Given an interface's name, return what is known of it as a bridge."""
    return Bridge(
        name=name,
        exists=os.path.isdir(f"{NET}/{name}/bridge"),
        vlan_filtering=_read(f"{name}/bridge/vlan_filtering") == "1",
        default_pvid=default_pvid(name),
    )


def uplink(name: str) -> Uplink:
    """Given an interface's name, return what is known of it as an uplink. Source: Linux, drivers/net/tun.c."""
    is_tap, above = os.path.exists(f"{NET}/{name}/tun_flags"), master(name)
    is_lower = bool(above) and not os.path.isdir(f"{NET}/{above}/bridge")
    return Uplink(name=name, exists=bool(ifindex(name)), master=above, is_tap=is_tap, is_lower=is_lower)


def default_pvid(bridge: str) -> int:
    """Given a bridge, return the VID that it gives to each new bridge port, 0 for none."""
    return int(_read(f"{bridge}/bridge/default_pvid") or 0)


def bridge_ports(bridge: str) -> dict[str, int]:
    """Given a bridge, return its bridge ports' names and inodes: one that leaves and returns has another inode."""
    try:
        return {entry.name: entry.inode() for entry in os.scandir(f"{NET}/{bridge}/brif")}
    except OSError:  # there is no such bridge, or too many files are open
        return {}


def bridge_port_inode(interface: str, bridge: str) -> int:
    """Given an interface and a bridge, return its inode as in bridge_ports(), 0 if it is not there."""
    try:
        return os.lstat(f"{NET}/{bridge}/brif/{interface}").st_ino
    except OSError:
        return 0


def address(interface: str) -> str:
    """Given an interface's name, return its MAC address, "" if there is none of that name."""
    return _read(f"{interface}/address")


def taps_with(mac: str, bridge: str) -> dict[str, int]:
    """Given a tap's MAC address and a bridge, return those of bridge_ports() that have it: one at most, if all is well.

    A bridge can have a thousand ports. So each port's address is read only if the forwarding database has the address
    that is looked for, and only once as long as the port stays.
    """
    found: dict[str, int] = {}
    if not _may_have(bridge, mac):
        return found
    for name, inode in bridge_ports(bridge).items():
        if not _addresses.get((name, inode)):  # "": it could not be read while too many files were open
            _addresses[name, inode] = address(name)
        if _addresses[name, inode] == mac:
            found[name] = inode
    return found


def learn_addresses(bridge: str, at_most: int) -> bool:
    """Given a bridge, read at most so many addresses of its ports for taps_with(); return whether all have been read.

    Whoever waits for a tap does so beforehand: a thousand addresses take longer than all that is left to do then.
    """
    unknown = [(name, inode) for name, inode in bridge_ports(bridge).items() if (name, inode) not in _addresses]
    for name, inode in unknown[:at_most]:
        _addresses[name, inode] = address(name)
    return len(unknown) <= at_most


def tap_with(mac: str, bridge: str) -> str:
    """Given a tap's MAC address and a bridge, return the name of the tap on that bridge, "" if it is not there.

    The address is the interface's own, a permanent entry of the forwarding database. A guest can make the bridge learn
    any other address by sending one frame. Raises HookError if two bridge ports have the address.
    """
    found = taps_with(mac, bridge)
    if len(found) > 1:
        raise HookError(
            f"{' and '.join(found)} on {bridge} have the same address: give one of the two NICs another MAC address"
        )
    return next(iter(found), "")


def interface_with(mac: str, bridge: str) -> str:
    """Given a MAC address, return the name of an interface other than the bridge that has it, "" if none has."""
    names = (name for name in os.listdir(NET) if name != bridge)
    return next((name for name in names if address(name) == mac), "")


def _may_have(bridge: str, mac: str) -> bool:
    """Given a bridge and a MAC address, return False if surely no bridge port has that address.

    The forwarding database has the address of each port, besides what the ports have learned. It can lack an address
    that the bridge has, too. Source: Linux, net/bridge/br_fdb.c, br_fdb_fillbuf().
    """
    database = _read_bytes(f"{bridge}/brforward")
    return not database or bytes.fromhex(mac.replace(":", "")) in database or address(bridge) == mac


def ifindex(interface: str) -> int:
    """Given an interface's name, return its index, 0 if there is none of that name.

    The name can come back with another device behind it, the index cannot.
    """
    return int(_read(f"{interface}/ifindex") or 0)


def still_named(interface: str, index: int) -> str:
    """Given the name and index that an interface had, return the name if the interface is still there, else ""."""
    return interface if ifindex(interface) == index else ""


def iflink(interface: str) -> int:
    """Given a veth's name, return its other end's index, 0 if there is no interface of that name."""
    return int(_read(f"{interface}/iflink") or 0)


def is_up(interface: str) -> bool:
    """Given an interface's name, return whether it is up: its guest's frames reach its bridge."""
    return bool(int(_read(f"{interface}/flags") or "0", 16) & 1)  # source: Linux, uapi/linux/if.h, IFF_UP


def port_settings(interface: str) -> dict[str, str]:
    """Given an interface, return settings of its bridge port in the words of `bridge link set`, none if it has none.

    Source: Linux, net/bridge/br_sysfs_if.c.
    """
    files = {"isolated": "isolated", "learning": "learning", "flood": "unicast_flood"}
    read = {word: _read(f"{interface}/brport/{file}") for word, file in files.items()}
    return {word: "on" if value == "1" else "off" for word, value in read.items() if value}


def master(interface: str) -> str:
    """Given an interface's name, return the name of the bridge that it is on, "" for none."""
    try:
        return os.path.basename(os.readlink(f"{NET}/{interface}/master"))
    except OSError:
        return ""


def _read(path: str) -> str:
    return _read_bytes(path).decode("ascii").strip()


def _read_bytes(path: str) -> bytes:
    """Given a file's path below NET, return what is in the file, b"" if it cannot be read.

    Of a file that is longer than a page, some of it comes twice: if an entry of the forwarding database goes meanwhile,
    those behind it move up, and none of them must be missed.
    """
    try:
        descriptor = os.open(f"{NET}/{path}", os.O_RDONLY)  # open() makes four times as many system calls
    except OSError:  # the interface went away meanwhile
        return b""
    try:
        content = page = os.read(descriptor, PAGE_BYTES)
        offset = 0
        while len(page) == PAGE_BYTES:
            offset += PAGE_BYTES // 2
            page = os.pread(descriptor, PAGE_BYTES, offset)
            content += page
        return content
    except OSError:
        return b""
    finally:
        os.close(descriptor)
