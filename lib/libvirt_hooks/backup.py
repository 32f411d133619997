# SPDX-License-Identifier: MIT
"""Saving the definitions of VMs and networks when they start, for `virsh define` and `virsh net-define` to restore.

Never in the way: what cannot be saved is a log line, and the VM starts.
"""

from __future__ import annotations

import os
import time

from . import HookError, log
from .detach import run_detached, run_within
from .hookdata import Identity, changed_elements, parse_identity

DIRECTORY = "/var/backups/libvirt"
# libvirt's own files: only they have passwords, and all that a running domain's XML lacks
# source: libvirt, src/conf/domain_conf.c and virnetworkobj.c, virDomainConfigFile(), virNetworkConfigFile()
CONFIGURATION = {"qemu": "/etc/libvirt/qemu", "network": "/etc/libvirt/qemu/networks"}
DEFINE = {"qemu": "virsh define", "network": "virsh net-define"}
DUMP = {"qemu": "virsh dumpxml --inactive --security-info", "network": "virsh net-dumpxml --inactive"}
SAVE_SECONDS = 30  # a local disk takes milliseconds; a process that waits for a file system that hangs is killed
# a year of a VM that is changed every week; a definition has some 8 KiB
KEEP = 50
# A file name has 255 bytes at most (linux/limits.h, NAME_MAX); a dot and a uuid of 36 bytes come behind this.
NAME_MAX_BYTES = 200


def save_detached(kind: str, xml: bytes) -> None:
    """Save a definition as save_definition() does, in a process of its own: libvirtd does not wait for the disk."""
    run_detached(lambda: _save_in_time(kind, xml))


def _save_in_time(kind: str, xml: bytes) -> None:
    """Save a definition; after SAVE_SECONDS, log that the disk does not answer, and have the process killed that waits.

    The kernel kills a process that waits for a file system only once that answers. So such a process keeps its lock:
    two saves of one definition never mix, and a disk that hangs has one process wait for each definition.
    """
    from . import locks  # not while libvirtd waits

    try:
        given = parse_identity(xml)
        end = time.monotonic() + SAVE_SECONDS
        hangs = f"an earlier save has not ended: is the disk of {DIRECTORY} hanging?"
        lock = locks.take_within(SAVE_SECONDS, locks.take_definitions, given.uuid, hangs)
    except HookError as error:
        log.error(f"not backed up: {error}")
        return
    if not run_within(max(0.0, end - time.monotonic()), lambda: save_definition(kind, xml)):
        log.error(
            f"{given.name}: not backed up: no answer within {SAVE_SECONDS} s: is the disk of {DIRECTORY} hanging?"
        )
    os.close(lock)


def save_definition(kind: str, xml: bytes) -> None:
    """Given "qemu" or "network" and the XML of what libvirt starts, save the definition if that has changed.

    A transient VM or network has no configuration file of libvirt's, so the XML itself is saved. Raises nothing:
    whatever goes wrong is logged.
    """
    name = "?"
    try:
        given = parse_identity(xml)
        name = given.name
        save(kind, given, _persistent(kind, given) or _without_state(xml))
    except HookError as error:
        log.error(f"{name}: not backed up: {error}")
    except OSError as error:
        log.error(f"{name}: not backed up: {error.filename or DIRECTORY}: {error.strerror}")
    except Exception as error:  # our own mistake must not stop the VM
        log.error(f"{name}: not backed up: internal error, please report it: {log.described(error)}")


def network_in(hook_data: bytes) -> bytes:
    """Given the stdin of the network hook, return the XML of the network."""
    start, end = hook_data.find(b"<network"), hook_data.rfind(b"</network>")
    return hook_data[start:end] + b"</network>\n"


def save(kind: str, of: Identity, content: bytes) -> None:
    """Save the definition of this VM ("qemu") or network ("network"), unless the newest saved one is the same.

    Raises OSError if that fails; then everything saved before is still there.
    """
    directory = f"{DIRECTORY}/{kind}/{directory_name(of)}"
    os.umask(0o077)  # a definition can hold passwords
    os.makedirs(directory, exist_ok=True)
    saved = sorted(name for name in os.listdir(directory) if is_file_name(name))
    newest = f"{directory}/{saved[-1]}" if saved else ""
    old = _read(newest) if newest else b""
    if old == content:
        return
    path = f"{directory}/{file_name(time.time_ns(), saved[-1] if saved else '')}"
    _write_whole(path, content)
    for name in surplus(saved):
        os.unlink(f"{directory}/{name}")
    if not newest:
        log.info(f"{of.name}: saved: {DEFINE[kind]} {path} restores it")
        return
    changed = ", ".join(_changed(old, content))
    log.info(
        f"{of.name}: changed since {newest} ({changed}), saved as {path}; "
        f"to go back: {DEFINE[kind]} {newest}"
    )  # fmt: skip


def directory_name(of: Identity) -> str:
    """Given which VM or network, return the name of its directory, NAME.UUID: two never share one.

    The name keeps only characters that are safe in a path. The uuid tells VMs of one name apart, and shows after a
    renaming which directories belong together.
    """
    readable = "".join(c if c.isalnum() or c in "._+@-" else "_" for c in of.name)
    readable = "_" + readable[1:] if readable[:1] in (".", "-") else readable
    return readable.encode()[:NAME_MAX_BYTES].decode(errors="ignore") + f".{of.uuid}"


def file_name(now_ns: int, newest: str) -> str:
    """Given the time (ns since 1970, UTC) and the name of the newest file or "", return the next, which sorts after it.

    A clock that was set back must not make the newest file an old one.
    """
    seconds, nanoseconds = divmod(now_ns, 10**9)
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}.{nanoseconds:09}Z.xml"
    return name if name > newest else file_name(_when(newest) + 1, "")


def _when(name: str) -> int:
    """Given what file_name() returned, return the time in it (ns since 1970, UTC)."""
    import calendar  # needed only after the clock was set back

    fields = (name[:4], name[4:6], name[6:8], name[9:11], name[11:13], name[13:15])
    return calendar.timegm(tuple(int(field) for field in fields)) * 10**9 + int(name[16:25])


def is_file_name(name: str) -> bool:
    """Given the name of a file, return whether file_name() made it. Other files are left alone."""
    return "".join("0" if c in "0123456789" else c for c in name) == "00000000T000000.000000000Z.xml"


def surplus(saved: list[str]) -> list[str]:
    """Given the names of the files saved before, oldest first, return those to remove when one more has been saved."""
    return saved[: max(0, len(saved) + 1 - KEEP)]


def _persistent(kind: str, given: Identity) -> bytes:
    """Given which VM or network, return libvirt's own file of its definition, b"" if there is none: it is transient."""
    if "/" in given.name:
        return b""
    path = f"{CONFIGURATION[kind]}/{given.name}.xml"
    try:
        content = _read(path)
        return content if parse_identity(content).uuid == given.uuid else b""
    except FileNotFoundError:
        return b""
    except HookError as error:
        raise HookError(
            f"{path} is damaged: {DUMP[kind]} prints the definition in use, and {DEFINE[kind]} writes it again"
        ) from error


def _without_state(xml: bytes) -> bytes:
    """Given a definition, return it without those attributes of its first tag that only a running one has."""
    head, end, rest = xml.partition(b">")
    words = [word for word in head.split(b" ") if not word.startswith((b"id=", b"connections="))]
    return b" ".join(words) + end + rest


def _changed(old: bytes, new: bytes) -> list[str]:
    try:
        return changed_elements(old, new) or ["its layout only"]
    except HookError:
        return ["the saved one cannot be read"]


def _write_whole(path: str, content: bytes) -> None:
    """Write the content to a file, whole or not at all, and on the disk when this returns."""
    directory = os.path.dirname(path)
    new = f"{directory}/.new"
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
