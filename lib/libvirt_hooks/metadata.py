# SPDX-License-Identifier: MIT
"""VLAN lists of portgroups in a network's <metadata>, because libvirt before 11 refuses <vlan> in the portgroup.

The elements have libvirt's names and meaning (https://libvirt.org/formatnetwork.html, "Setting VLAN tag"), so that a
<vlan> can move into the portgroup later. Only ranges, <tag id="30-40"/>, are an addition. Pure.
"""

from __future__ import annotations

from xml.dom.minidom import Element

from . import HookError
from .elements import children
from .hookdata import checked_interface
from .vlans import ACCESS, Vlans, checked_vid

NAMESPACE = "urn:libvirt-hooks:portgroups:1"
XMLNS = "http://www.w3.org/2000/xmlns/"  # source: https://www.w3.org/TR/xml-names/, of xmlns attributes themselves
UPLINK = "uplink"
NATIVE_MODES = {"": "", "tagged": "pvid", "untagged": ACCESS}


def vlan_lists(metadata: Element | None) -> dict[str, Element]:
    """Given a network's <metadata>, return the portgroups in it by name, none if nothing there is of our namespace.

    vlans_in() reads what is inside a portgroup: a mistake in one must not stop the VMs of the others.
    Raises HookError if another element of our namespace is there, or a portgroup without a name or with another's name.
    """
    found: dict[str, Element] = {}
    for portgroup in _elements(metadata):
        if portgroup.localName != UPLINK:
            name = _check(portgroup, "portgroup", "<portgroups>", "name").get("name")
            if not name:
                raise HookError("<portgroup> in the network's <metadata> has no name: give it one")
            if name in found:
                raise HookError(f"{_named(name)} is defined twice: remove one")
            found[name] = portgroup
    return found


def uplinks(metadata: Element | None) -> list[str]:
    """Given a network's <metadata>, return the uplinks that it names (<uplink dev='bond0'/>), none if it names none.

    Raises HookError if an element is wrong, or if a name cannot be an interface's.
    """
    found: list[str] = []
    for uplink in _elements(metadata):
        if uplink.localName == UPLINK:
            name = checked_interface(_check(uplink, UPLINK, "<portgroups>", "dev").get("dev", ""), "<uplink dev=…/>")
            if name in found:
                raise HookError(f"<uplink dev='{name}'/> is there twice: remove one")
            found.append(name)
    return found


def vlans_in(portgroup: Element) -> Vlans:
    """Given a portgroup of the <metadata>, return its VLANs; raise HookError, naming the element, if one is wrong."""
    place = _named(portgroup.getAttribute("name"))
    elements = children(portgroup)
    for element in elements:
        _check(element, "vlan", place, "trunk")
    if len(elements) != 1:
        raise HookError(f"{place} has {len(elements)} <vlan>: it needs exactly one")
    tags = children(elements[0])
    trunk = elements[0].getAttribute("trunk")
    if elements[0].hasAttribute("trunk") and trunk not in ("yes", "no"):
        raise HookError(f"<vlan trunk='{trunk}'> in {place}: trunk must be 'yes' or 'no'")
    vlans = _tagged(tags, place)
    has_native = any(tag.hasAttribute("nativeMode") for tag in tags)
    if trunk == "no" and (len(vlans) > 1 or has_native):
        raise HookError(f"<vlan trunk='no'> in {place} has several tags or a nativeMode: write trunk='yes'")
    is_access = len(vlans) == 1 and trunk != "yes" and not has_native
    return dict.fromkeys(vlans, ACCESS) if is_access else vlans


def _elements(metadata: Element | None) -> list[Element]:
    """Given a network's <metadata>, return what our elements there have in them.

    Raises HookError if another element there is of our namespace.
    """
    ours = [node for node in children(metadata) if node.namespaceURI == NAMESPACE] if metadata else []
    for block in ours:
        _check(block, "portgroups", "<metadata>")
    elements = [element for block in ours for element in children(block)]
    for element in elements:
        _check_name(element, ("portgroup", UPLINK), "<portgroups>")
    return elements


def _tagged(tags: list[Element], place: str) -> Vlans:
    """Given the <tag> elements of one <vlan> and where they stand, return the VLANs of the trunk."""
    vlans: Vlans = {}
    native = ""
    for tag in tags:
        attributes = _check(tag, "tag", f"<vlan> of {place}", "id", "nativeMode")
        written = attributes.get("id", "")
        tag_text = f"<tag id='{written}'> in {place}"
        vids = _vids(written, tag_text)
        mode = attributes.get("nativeMode", "")
        if mode not in NATIVE_MODES or (not mode and "nativeMode" in attributes):
            raise HookError(f"{tag_text}: nativeMode='{mode}' must be 'tagged' or 'untagged'")
        if mode and native:
            raise HookError(f"{tag_text} and <tag id='{native}'> both have a nativeMode: remove one of the two")
        if mode and "-" in written:
            raise HookError(f"{tag_text} has a nativeMode: a native VLAN is one VID, so give it a <tag> of its own")
        taken = [vid for vid in vids if vid in vlans]
        if taken:
            raise HookError(f"{tag_text}: VLAN {taken[0]} is named twice: name it once")
        vlans.update(dict.fromkeys(vids, NATIVE_MODES[mode]))
        native = native or (written if mode else "")
    if not vlans:
        raise HookError(f"<vlan> of {place} has no <tag id='…'/>: write at least one")
    return vlans


def _vids(text: str, place: str) -> range:
    """Given the text "30" or "30-40" and where in the XML that stands, return the VIDs."""
    first, dash, last = text.partition("-")
    try:
        vids = range(checked_vid(first), checked_vid(last if dash else first) + 1)
    except HookError as error:
        raise HookError(f"{place}: {error}") from error
    if not vids:
        raise HookError(f"{place}: the range is reversed: write '{last}-{first}'")
    return vids


def _check(element: Element, name: str, place: str, *attributes: str) -> dict[str, str]:
    """Given an element, the name it must have, where it stands and its possible attributes, return its attributes."""
    _check_name(element, (name,), place)
    found = {a.name: a.value for a in element.attributes.values() if a.namespaceURI != XMLNS}
    unknown = [attribute for attribute in found if attribute not in attributes]
    if unknown:
        known = " and ".join(attributes) or "none"
        raise HookError(f"<{element.tagName} {unknown[0]}='…'> in {place}: possible attributes are {known}")
    return found


def _check_name(element: Element, names: tuple[str, ...], place: str) -> None:
    """Given an element, the names that it can have and where it stands, raise HookError if it has another."""
    if element.namespaceURI not in (None, NAMESPACE) or element.localName not in names:
        known = " and ".join(f"<{name}>" for name in names)
        raise HookError(f"<{element.tagName}> in {place} is unknown: only {known} can be there")


def _named(portgroup: str) -> str:
    return f"<portgroup name='{portgroup}'> in the network's <metadata>"
