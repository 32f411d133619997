# SPDX-License-Identifier: MIT
"""Which bridge ports are uplinks, from what `ip -d link show` says about them. Pure.

An uplink is a bridge port that leads off this host. A tap does not lead off this host. Neither does a veth whose other
end is on this host.
"""

from __future__ import annotations

from dataclasses import dataclass

# The kinds of interface that end on this host. source: ip-link(8), "TYPE"; a physical device has none
STAY_HERE = ("tun", "dummy", "ifb", "macvtap", "netkit")
VETH = "veth"


@dataclass(frozen=True)
class Link:
    """An interface."""

    master: str  # its bridge or bond, "" for none
    kind: str  # as in `ip link add type KIND`, "" for a physical device
    is_up: bool
    has_carrier: bool
    leaves_namespace: bool  # a veth whose other end is in another network namespace


def parsed(shown: object) -> dict[str, Link]:
    """Given the parsed answer of `ip -d -j link show`, return the interfaces by name."""
    entries = [entry for entry in shown if isinstance(entry, dict)] if isinstance(shown, list) else []
    return {
        str(entry.get("ifname")): Link(
            master=str(entry.get("master", "")),
            kind=str(entry.get("linkinfo", {}).get("info_kind", "")),
            is_up="UP" in entry.get("flags", ()),
            has_carrier="LOWER_UP" in entry.get("flags", ()),
            leaves_namespace="link_netnsid" in entry,
        )
        for entry in entries
    }


def uplinks(bridge: str, links: dict[str, Link], taps: set[str]) -> list[str]:
    """Given a bridge, all interfaces and the interfaces of guests, return the names of the bridge's uplinks.

    A veth into another network namespace is one only if no other bridge port can be: it is more likely a container's.
    """
    ports = {name: link for name, link in sorted(links.items()) if link.master == bridge and name not in taps}
    found = [name for name, link in ports.items() if link.kind not in (*STAY_HERE, VETH)]
    veths = [name for name, link in ports.items() if link.kind == VETH and link.leaves_namespace]
    return found or (veths if len(veths) == 1 else [])
