# SPDX-License-Identifier: MIT
"""A port's wanted VLANs, decided from the name of its portgroup and what its bridge can do. Pure."""

from __future__ import annotations

from xml.dom.minidom import Element

from . import HookError
from .hookdata import Network, Port
from .metadata import vlan_lists, vlans_in
from .sysfs import Bridge
from .vlans import Vlans, access, checked_vid, every

EVERY_VID = ("all", "trunk")  # portgroups that need no definition
DEFAULT_MARK = "(default)"  # behind a portgroup that the NIC does not name
BRIDGE_PLUGS = ("bridge", "network")  # source: libvirt, src/conf/virnetworkportdef.c, virNetworkPortPlugType


def why_left_alone(port: Port, network: Network) -> str:
    """Given a port and its network, return why the hooks leave the port alone, or "" if they set its VLANs.

    Raises HookError if the network's <metadata> is wrong: then nobody knows whether it gives the portgroup VLANs.
    """
    if port.plug not in BRIDGE_PLUGS or not port.bridge:
        return f"its plug is {port.plug or 'none'}, no Linux bridge"
    if port.has_virtualport:
        return "it has a <virtualport>, so its tap is on no Linux bridge"
    if port.has_vlan:
        return "it has a <vlan>, which libvirt itself sets (since 11.0)"
    group = portgroup_of(port, network)
    if not group:
        return "it has no portgroup"
    is_plain = _candidates(group, network.portgroups) == [group] and not _vid_suffix(group)
    if is_plain and group not in _vlan_lists(network):
        return f"portgroup {group} names no VID"
    return ""


def portgroup_of(port: Port, network: Network) -> str:
    """Given a port and its network, return the name of the port's portgroup, "" if it has none.

    A NIC that names no portgroup has the network's default one. Source: libvirt, docs/formatnetwork.rst, "Portgroups".
    """
    return port.group or network.default_group


def waits_for_restart(port: Port, network: Network) -> str:
    """Given a port whose tap was there before any ticket, and its network, return why to leave it alone, or "".

    A VM that runs without its network's default portgroup keeps its VLANs: an upgrade of the hooks must not move it.
    """
    if port.group or not network.default_group:
        return ""
    return f"it runs without {shown_group(port, network)}, and gets that at its VM's next start"


def shown_group(port: Port, network: Network) -> str:
    """Given a port and its network, return the port's portgroup for log lines, which say if it is the default one."""
    return port.group or (f"{network.default_group}{DEFAULT_MARK}" if network.default_group else "")


def wanted_vlans(port: Port, network: Network, bridge: Bridge) -> Vlans:
    """Given a port that is not left alone, its network and its bridge, return the port's wanted VLANs.

    Raises HookError if the bridge cannot give VLANs, or if resolve() does.
    """
    check_bridge(bridge)
    return resolve(port, network, bridge.default_pvid)


def check_bridge(bridge: Bridge) -> None:
    """Given a bridge, raise HookError if VLANs cannot be set there, or would have no effect."""
    if not bridge.exists:
        raise HookError(f"there is no bridge {bridge.name}: create it, or correct <bridge name=…/> with virsh net-edit")
    if not bridge.vlan_filtering:
        raise HookError(
            f"bridge {bridge.name} does not filter VLANs: turn that on with "
            f"ip link set dev {bridge.name} type bridge vlan_filtering 1"
        )


def resolve(port: Port, network: Network, default_pvid: int) -> Vlans:
    """Given a port that is not left alone, its network and its bridge's default PVID, return the port's wanted VLANs.

    Raises HookError if the network defines no such portgroup, or several, or a portgroup that ends in no valid VID.
    """
    group = portgroup_of(port, network)
    found = _candidates(group, network.portgroups)
    lists = _vlan_lists(network)
    if group in lists:
        with_vid = [name for name in found if name != group or _vid_suffix(name)]
        return _listed(lists[group], with_vid, network)
    if not found and group in EVERY_VID:
        return every(default_pvid)
    if not found:
        names = ", ".join(dict.fromkeys([*network.portgroups, *lists])) or "none at all"
        raise HookError(
            f"network {network.name} defines no portgroup '{group}' or '{group}-VID' (it has {names}): "
            f"correct the VM's portgroup, or add one with virsh net-edit {network.name}"
        )
    if len(found) > 1:
        raise HookError(
            f"portgroup '{group}' could be any of {', '.join(found)} in network {network.name}: "
            f"write the whole name into the VM, or remove all but one with virsh net-edit {network.name}"
        )
    try:
        return access(checked_vid(found[0].rpartition("-")[2]))
    except HookError as error:
        raise HookError(
            f"portgroup '{found[0]}' of network {network.name} does not end in a VID: {error}; "
            f"rename it with virsh net-edit {network.name}"
        ) from error


def _vlan_lists(network: Network) -> dict[str, Element]:
    """Given a network, return the portgroups that its <metadata> gives VLANs; raise HookError if those are wrong."""
    try:
        return vlan_lists(network.metadata)
    except HookError as error:
        raise HookError(f"network {network.name}: {error} (virsh net-edit {network.name})") from error


def _listed(portgroup: Element, with_vid: list[str], network: Network) -> Vlans:
    """Given a portgroup of the <metadata>, the portgroups it clashes with and the network, return its VLANs.

    A plain portgroup of the same name, with a <bandwidth> say, does not clash.
    """
    name = portgroup.getAttribute("name")
    try:
        if with_vid:
            raise HookError(f"<portgroup name='{name}'> in the <metadata> is also defined as {with_vid[0]}: remove one")
        return vlans_in(portgroup)
    except HookError as error:
        raise HookError(f"network {network.name}: {error} (virsh net-edit {network.name})") from error


def _candidates(group: str, portgroups: list[str]) -> list[str]:
    """Given the name in a domain's XML and the portgroups of the network, return those that the name can mean.

    A portgroup of exactly this name is what libvirt means, so it comes first. If it has a VID, it is the only one.
    """
    short = [name for name in portgroups if name.rpartition("-")[0] == group and "-" in name]
    if group not in portgroups:
        return short
    return [group] if _vid_suffix(group) else [group, *short]


def _vid_suffix(name: str) -> str:
    """Given a portgroup's name, return what stands behind its last dash if that begins with a digit, else "".

    `bandwidth` and `my-net` have no VID; `lab-46` has one, and so has the mistyped `lab-4O`.
    """
    _, dash, suffix = name.rpartition("-")
    return suffix if dash and suffix[:1].isdigit() else ""
