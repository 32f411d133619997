# SPDX-License-Identifier: MIT
"""The network hook: which operations it takes, and what it does for each.

Each operation imports what it needs: libvirtd waits, and most calls need nothing.
"""

from __future__ import annotations

from . import hook


def main(arguments: list[str], may_stop: hook.MayStop) -> int:
    """Given libvirt's arguments (network, operation, sub-operation, extra), do what is due, return the exit status."""
    operations = {
        "port-created": _port_created,
        "port-deleted": _port_deleted,
        "started": _save,
        "updated": _save,
    }
    return hook.run("network", arguments, operations, may_stop)


def _port_created(xml: bytes) -> None:
    from .ports import port_created

    port_created(xml)


def _port_deleted(xml: bytes) -> None:
    from .ports import port_deleted

    port_deleted(xml)


def _save(xml: bytes) -> None:
    from .backup import network_in, save_detached

    save_detached("network", network_in(xml))
