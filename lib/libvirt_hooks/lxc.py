# SPDX-License-Identifier: MIT
"""The lxc hook: which operations it takes, what it does for each, and what may stop libvirt.

Each operation imports what it needs: libvirtd waits, and most calls need nothing.
"""

from __future__ import annotations

import os

from . import hook


def main(arguments: list[str]) -> int:
    """Given libvirt's arguments (container, operation, sub-operation, extra), do what is due, return exit status."""
    operations = {"prepare": _prepare, "start": _start}
    return hook.run("lxc", arguments, operations, _may_stop, f"container {''.join(arguments[:1])}: ")


def _prepare(xml: bytes) -> None:
    from .containers import note_start
    from .hookdata import parse_identity

    note_start(parse_identity(xml).uuid)


def _start(xml: bytes) -> None:
    from .containers import forget_start
    from .hookdata import parse_identity
    from .join import set_vlans_of

    forget_start(parse_identity(xml).uuid)
    set_vlans_of(xml)


def _may_stop(operation: str, xml: bytes) -> bool:
    """Only the start of a container that names a portgroup or has a ticket may fail.

    A ticket's file begins with the NIC's MAC address, and the XML has that. This function imports nothing, because
    another module may be what has failed.
    """
    if operation != "start":
        return False
    try:
        macs = [name[5:22].encode() for name in os.listdir("/run/libvirt-hooks") if name.startswith("veth-")]
    except OSError:
        macs = []
    return b"portgroup=" in xml or any(mac in xml for mac in macs)
