# SPDX-License-Identifier: MIT
"""Reading libvirt's XML: the only module that parses it. Pure.

defusedxml's expatbuilder makes the elements, because it is the reader that Python imports quickest: libvirtd waits.
"""

from __future__ import annotations

from xml.dom.minidom import Element
from xml.parsers.expat import ExpatError

from defusedxml import DefusedXmlException, expatbuilder

from . import HookError


def parse(xml: bytes, origin: str) -> Element:
    """Given XML and the words by which an error is to call it, return its root element.

    Raises HookError if the XML is not well-formed, or has a DTD or entities. libvirt writes the names of portgroups and
    VMs as they are (libvirt, src/conf/network_conf.c, virPortGroupDefFormat()).
    """
    try:
        root = expatbuilder.parseString(xml, forbid_dtd=True).documentElement
    # LookupError and ValueError: an encoding that is unknown, or that the bytes are not in
    except (ExpatError, DefusedXmlException, LookupError, ValueError) as error:
        raise HookError(
            f"{origin} cannot be read ({error}): if the name of a portgroup or a VM has one of & < ' in it, rename it"
        ) from error
    assert isinstance(root, Element)
    return root


def children(parent: Element, name: str = "") -> list[Element]:
    """Given an element and a name, return the element's children of that name; all of its children without a name."""
    found = [node for node in parent.childNodes if isinstance(node, Element)]
    return [child for child in found if child.tagName == name] if name else found


def child(parent: Element, name: str) -> Element | None:
    """Given an element and a name, return the element's first child of that name, None if there is none."""
    return next(iter(children(parent, name)), None)


def text(parent: Element, name: str) -> str:
    """Given an element and a name, return the text of its first child of that name, "" if there is none."""
    found = child(parent, name)
    if found is None:
        return ""
    return "".join(node.data for node in found.childNodes if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE))


def attribute(parent: Element, name: str, attribute_name: str) -> str:
    """Given an element, a name and an attribute's, return that attribute of its first child of that name, or ""."""
    found = child(parent, name)
    return "" if found is None else found.getAttribute(attribute_name)
