# SPDX-License-Identifier: MIT
"""The qemu hook: which operations it takes, what it does for each, and what may stop libvirt.

Each operation imports what it needs: libvirtd waits, and most calls need nothing.
"""

from __future__ import annotations

import os

from . import hook


def main(arguments: list[str]) -> int:
    """Given libvirt's arguments (domain, operation, sub-operation, extra), do what is due, return the exit status.

    Nothing is ever written to stdout, which libvirt takes for XML in `migrate` and `restore`.
    """
    return hook.run("qemu", arguments, {"prepare": _save, "start": _start}, _may_stop, f"VM {''.join(arguments[:1])}: ")


def _save(xml: bytes) -> None:
    from .backup import save_in_time

    save_in_time("qemu", xml)


def _start(xml: bytes) -> None:
    from .join import set_vlans_of

    set_vlans_of(xml)


def _may_stop(operation: str, xml: bytes) -> bool:
    """Only the start of a VM that names a portgroup or has a ticket may fail: in `reconnect` the VM would be killed.

    A ticket's file is named after its port, and the XML names the VM's ports. This function imports nothing, because
    another module may be what has failed.
    """
    if operation != "start":
        return False
    try:
        uuids = [name.split(".")[1].encode() for name in os.listdir("/run/libvirt-hooks") if "." in name]
    except OSError:
        uuids = []
    return b"portgroup=" in xml or any(uuid and uuid in xml for uuid in uuids)
