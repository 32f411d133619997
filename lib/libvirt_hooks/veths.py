# SPDX-License-Identifier: MIT
"""Making sure which interface is the host's end of a container's veth pair, with `ip link show`.

Not to be imported while libvirtd waits, but for a container that has wanted VLANs.
"""

from __future__ import annotations

from . import HookError, bridge, sysfs


def host_end(guest_end: str, mac: str) -> tuple[str, int]:
    """Given a container's end of a veth pair and the NIC's MAC address, return the name and index of the other end.

    Both ends are in the host's network namespace as long as nothing runs in the container. Raises HookError if
    guest_end is no such interface, or has another address.
    """
    if not guest_end:
        raise HookError("libvirt does not name the container's interface: start the container again")
    link = _link(guest_end)
    name, index = str(link.get("link", "")), sysfs.iflink(guest_end)
    if _kind(link) != "veth" or "link_netnsid" in link or not name:
        raise HookError(f"{guest_end} is not one end of a veth pair on this host: start the container again")
    if link.get("address") != mac:
        raise HookError(
            f"{guest_end} has the address {link.get('address')} instead of {mac}: start the container again"
        )
    if not index or sysfs.ifindex(name) != index:
        raise HookError(f"{guest_end} is no longer paired with {name}: start the container again")
    return name, index


def check(veth: str) -> None:
    """Given the host's end of a running container's veth pair, raise HookError if it is something else."""
    link = _link(veth)
    if _kind(link) != "veth" or "link_netnsid" not in link:
        raise HookError(f"{veth} is not one end of a container's veth pair: restart the container")


def _link(interface: str) -> dict[str, object]:
    (shown,) = bridge.type_commands([["ip", "-j", "-d", "link", "show", "dev", interface]], "")
    entries = [entry for entry in shown if isinstance(entry, dict)] if isinstance(shown, list) else []
    return next((entry for entry in entries if entry.get("ifname") == interface), {})


def _kind(link: dict[str, object]) -> object:
    info = link.get("linkinfo")
    return info.get("info_kind") if isinstance(info, dict) else None
