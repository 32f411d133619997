# SPDX-License-Identifier: MIT
"""From the name of a portgroup, or a list in the network's <metadata>, to a port's wanted VLANs. Pure."""

from __future__ import annotations

from . import HookError
from .metadata import uplinks, vlan_lists, vlans_in
from .vlans import Vlans, access, checked_vid, every

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from xml.dom.minidom import Element

    from .hookdata import Network, Port
    from .sysfs import Bridge, Uplink

EVERY_VID = ("all", "trunk")  # portgroups that need no definition
BRIDGE_PLUGS = ("bridge", "network")  # source: libvirt, src/conf/virnetworkportdef.c, virNetworkPortPlugType


def why_not_ours(port: Port) -> str:
    """Given a port, return why its interface is none that the hooks could give VLANs, "" if it is one."""
    if port.plug not in BRIDGE_PLUGS or not port.bridge:
        return f"its plug is {port.plug or 'none'}, no Linux bridge"
    if port.has_virtualport:
        return "it has a <virtualport>, so its tap is on no Linux bridge"
    if port.has_vlan:
        return "it has a <vlan>, which libvirt applies itself (since 11.0)"
    return ""


def bridge_fault(bridge: Bridge) -> str:
    """Given a bridge, return why VLANs cannot be set there, or would have no effect, "" if neither is so."""
    if not bridge.exists:
        return f"there is no bridge {bridge.name}: create it, or correct <bridge name=…/> with virsh net-edit"
    if not bridge.vlan_filtering:
        return (
            f"bridge {bridge.name} does not filter VLANs: turn that on with "
            f"ip link set dev {bridge.name} type bridge vlan_filtering 1"
        )
    return ""


def uplink_fault(uplink: Uplink, bridge_name: str) -> str:
    """Given an uplink that a network names and the network's bridge, return why it can carry nothing, "" if it can."""
    named = f"<uplink dev='{uplink.name}'/> in the network's <metadata> names"
    correct = "correct that with virsh net-edit"
    above = uplink.master
    faults = (
        (not uplink.exists, f"no interface of this host: {correct}, or create {uplink.name}"),
        (uplink.name == bridge_name, f"the bridge itself, not an interface that leads off this host: {correct}"),
        (uplink.is_tap, f"a tap, which leads to a guest: {correct}"),
        (uplink.is_lower, f"a part of {above}: name {above} there instead, with virsh net-edit"),
        (above and above != bridge_name, f"an interface that is on {above} instead of {bridge_name}: {correct}"),
        (not above, f"an interface that is not on {bridge_name}: put it there in the host's network configuration"),
    )
    return next((f"{named} {fault}" for is_so, fault in faults if is_so), "")


def uplinks_of(network: Network) -> list[str]:
    """Given a network, return the uplinks that its <metadata> names; raise HookError if that is wrong."""
    try:
        return uplinks(network.metadata)
    except HookError as error:
        raise HookError(f"network {network.name}: {error} (virsh net-edit {network.name})") from error


def resolve(group: str, network: Network, default_pvid: int) -> Vlans | None:
    """Given the name of a portgroup, the network and its bridge's default PVID, return the wanted VLANs.

    None: the portgroup names no VID, because it is for something else, a <bandwidth> say.
    Raises HookError if the network defines no such portgroup, or several, or a portgroup that ends in no valid VID, or
    if its <metadata> is wrong: then nobody knows whether that gives the portgroup VLANs.
    """
    found = _candidates(group, network.portgroups)
    lists = _vlan_lists(network)
    if group in lists:
        with_vid = [name for name in found if name != group or _vid_suffix(name)]
        return _listed(lists[group], with_vid, network)
    if found == [group] and not _vid_suffix(group):
        return None
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
