# SPDX-License-Identifier: MIT
"""The network hook: which operations it takes, what it does for each, and what may stop libvirt.

Each operation imports what it needs: libvirtd waits, and most calls need nothing.
"""

from __future__ import annotations

from . import hook


def main(arguments: list[str]) -> int:
    """Given libvirt's arguments (network, operation, sub-operation, extra), do what is due, return the exit status."""
    operations = {
        "port-created": _port_created,
        "port-deleted": _port_deleted,
        "started": _save,
        "updated": _save,
    }
    return hook.run("network", arguments, operations, _may_stop)


def _port_created(xml: bytes) -> None:
    from .ports import port_created

    port_created(xml)


def _port_deleted(xml: bytes) -> None:
    from .ports import port_deleted

    port_deleted(xml)


def _save(xml: bytes) -> None:
    from .backup import save_network

    save_network(xml)


def _may_stop(operation: str, xml: bytes) -> bool:
    """Only a port that names a portgroup, or whose network has a default one, may be refused.

    If the XML cannot be read, these words in it decide: rather no start than a start in the default VLAN.
    """
    return operation == "port-created" and (b"<group>" in xml or b"default='yes'" in xml)
