# SPDX-License-Identifier: MIT
"""What libvirtd notes in /run/libvirt. A hook reads it there, because a hook that asks libvirtd waits for ever.

The files are no API of libvirt's, but have not moved in years. Where there is no file, the answer is no.
"""

from __future__ import annotations

import os

DIRECTORY = "/run/libvirt"


def has_port(network: str, uuid: str) -> bool:
    """Given a network's name and a port's uuid, return whether libvirt has granted the port and not taken it back.

    libvirt writes the file after the port-created hook has returned, and removes it after port-deleted has.
    Source: libvirt, src/conf/virnetworkobj.c, virNetworkObjGetPortStatusDir().
    """
    return _is_file_name(network) and os.path.exists(f"{DIRECTORY}/network/{network}/ports/{uuid}.xml")


def network_state(network: str) -> bytes:
    """Given a network's name, return libvirtd's note of it, the XML of <networkstatus>, b"" if there is none.

    It has what the network hook is given: portgroups, <metadata>, live changes.
    Source: libvirt, src/conf/virnetworkobj.c, virNetworkObjSaveStatus().
    """
    if not _is_file_name(network):
        return b""
    try:
        with open(f"{DIRECTORY}/network/{network}.xml", "rb") as file:
            return file.read()
    except OSError:
        return b""


def network_daemon() -> str:
    """Return the name of the daemon that calls the network hook: virtnetworkd if it has a socket, else libvirtd."""
    return "virtnetworkd" if os.path.exists(f"{DIRECTORY}/virtnetworkd-sock") else "libvirtd"


def runs_with(vm: str, tap: str) -> bool:
    """Given a VM's name and a tap's, return whether the VM runs with that tap.

    The file comes when QEMU is there. Source: libvirt, src/qemu/qemu_domain.c, qemuDomainSaveStatus().
    """
    if not _is_file_name(vm):
        return False
    try:
        with open(f"{DIRECTORY}/qemu/{vm}.xml", encoding="utf-8", errors="replace") as file:
            return f"<target dev='{tap}'/>" in file.read()
    except OSError:
        return False


def _is_file_name(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name
