# SPDX-License-Identifier: MIT
"""libvirt's records, in /run/libvirt and /etc/libvirt: a hook that asked libvirtd instead would wait for ever.

The files are no API of libvirt's, but have not moved in years. Where there is no file, the answer is no.
"""

from __future__ import annotations

import os

DIRECTORY = "/run/libvirt"
CONFIGURATION = "/etc/libvirt"


def has_port(network: str, uuid: str) -> bool:
    """Given a network's name and a port's uuid, return whether libvirt has granted the port and not taken it back.

    libvirt writes the file after the port-created hook has returned, and removes it after port-deleted has.
    Source: libvirt, src/conf/virnetworkobj.c, virNetworkObjGetPortStatusDir().
    """
    return _is_file_name(network) and os.path.exists(f"{DIRECTORY}/network/{network}/ports/{uuid}.xml")


def network_state(network: str) -> bytes:
    """Given a network's name, return libvirtd's record of it, the XML of <networkstatus>, b"" if there is none.

    It has what the network hook is given: portgroups, <metadata>, live changes.
    Source: libvirt, src/conf/virnetworkobj.c, virNetworkObjSaveStatus().
    """
    return _read(f"{DIRECTORY}/network/{network}.xml") if _is_file_name(network) else b""


def daemon(modular: str) -> str:
    """Given the name of a modular daemon, return it if the daemon has a socket, else libvirtd, which does all its work.

    Source: https://libvirt.org/daemons.html
    """
    return modular if os.path.exists(f"{DIRECTORY}/{modular}-sock") else "libvirtd"


def network_daemon() -> str:
    """Return the name of the daemon that calls the network hook."""
    return daemon("virtnetworkd")


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


def is_running(vm: str) -> bool:
    """Given a VM's name, return whether the VM's CPUs run: it has started, and is not paused.

    Source: libvirt, src/conf/domain_conf.c, virDomainObjFormat().
    """
    return b"<domstatus state='running'" in _read(f"{DIRECTORY}/qemu/{vm}.xml") if _is_file_name(vm) else False


def has_started(guest: str) -> bool:
    """Given a VM's or a container's name, return whether libvirt has a record of it: that comes after its ports."""
    paths = (f"{DIRECTORY}/{driver}/{guest}.xml" for driver in ("qemu", "lxc"))
    return _is_file_name(guest) and any(map(os.path.exists, paths))


def uses_port(guest: str, port_uuid: str) -> bool:
    """Given a VM's or a container's name and a port's uuid, return whether the guest runs with that port.

    libvirt makes its record of the guest after the guest's ports.
    Source: libvirt, src/conf/domain_conf.c, virDomainNetDefFormat().
    """
    records = (f"{DIRECTORY}/{driver}/{guest}.xml" for driver in ("qemu", "lxc"))
    names = f" portid='{port_uuid}'".encode()
    return _is_file_name(guest) and any(names in _read(record) for record in records)


def port_state(network: str, uuid: str) -> bytes:
    """Given a network's name and a port's uuid, return libvirt's record of the port, b"" if there is none."""
    return _read(f"{DIRECTORY}/network/{network}/ports/{uuid}.xml") if _is_file_name(network) else b""


def of_ports(network: str, vm_uuid: str, mac: str) -> list[bytes]:
    """Given a network's name, a domain's uuid and a NIC's MAC address, return libvirt's records of the NIC's ports,
    the newest first.

    One, if all is well. Each is what the network hook is given as <networkport>.
    Source: libvirt, src/conf/virnetworkportdef.c, virNetworkPortDefSaveStatus().
    """
    if not _is_file_name(network):
        return []
    directory = f"{DIRECTORY}/network/{network}/ports"
    try:
        with os.scandir(directory) as entries:
            files = sorted(entries, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        notes = [_read(file.path) for file in files]
    except OSError:
        return []
    words = (f"<uuid>{vm_uuid}</uuid>".encode(), f"<mac address='{mac}'/>".encode())
    return [note for note in notes if all(word in note for word in words)]


def of_container(name: str, uuid: str) -> bytes:
    """Given a container's name and uuid, return libvirt's record of it, the XML of <domstatus>, b"" if there is none.

    The note comes once the container runs. It has each NIC's veth and port; a NIC that is plugged in later is in there
    before `virsh attach-device` returns. If the container ends while its daemon is down, the note stays until the
    daemon is there again, and has announced the ports (seen on libvirt 9.0).
    Source: libvirt, src/lxc/lxc_process.c and lxc_driver.c, virDomainObjSave().
    """
    return _read_of(f"{DIRECTORY}/lxc/{name}.xml", uuid) if _is_file_name(name) else b""


def controller_lives(name: str, pid: str) -> bool:
    """Given a container's name and its controller's process id, return whether that process is its controller.

    The controller runs as long as the container does, as `libvirt_lxc --name NAME …` (seen on libvirt 9.0).
    """
    return pid.isdecimal() and f"\0--name\0{name}\0".encode() in _read(f"/proc/{pid}/cmdline")


def container_is_newer(name: str, path: str) -> bool:
    """Given a container's name and a file, return whether libvirt's record of the container is newer than that file."""
    try:
        return os.stat(f"{DIRECTORY}/lxc/{name}.xml").st_mtime_ns > os.stat(path).st_mtime_ns
    except OSError:
        return False


def is_defined_container(name: str, uuid: str) -> bool:
    """Given a domain's name and uuid, return whether libvirt has it as a container, and not as a VM."""
    if not _is_file_name(name) or not _read_of(f"{CONFIGURATION}/lxc/{name}.xml", uuid):
        return False
    return not _read_of(f"{CONFIGURATION}/qemu/{name}.xml", uuid)


def _read_of(path: str, uuid: str) -> bytes:
    """Given the path of a domain's file and a uuid, return the file's content if it is of that domain, else b""."""
    content = _read(path)
    return content if f"<uuid>{uuid}</uuid>".encode() in content else b""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _is_file_name(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name
