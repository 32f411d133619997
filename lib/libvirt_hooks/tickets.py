# SPDX-License-Identifier: MIT
"""Tickets: the wanted VLANs of each port, kept in /run until libvirt takes the port back. Only their files: which of
several tickets applies, lifecycle.py says.

A ticket is a small file, named after its NIC's key and the port's uuid. With tickets the detached process can be
stopped and repeated, and the qemu and lxc hooks know what to check before a guest runs.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

from . import HookError, interfaces, log, sysfs
from .hookdata import Port
from .libvirt_records import has_port
from .log import one_line
from .vlans import Vlans, from_text, to_text

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .interfaces import Kind

DIRECTORY = "/run/libvirt-hooks"
LOOK = f"check ls -la {DIRECTORY} and df /run, and try again"  # what to do if the system refuses a file there
RELEASED = ".released"
LEFT_ALONE = "left alone"
DEFAULT_MARK = "(default)"  # behind a portgroup that the NIC does not name
# the lines of a ticket, each a name and a value; after END only what was seen since
TEXTS = ("uuid", "vm", "vm_uuid", "mac", "bridge", "network", "group")
DECISION = ("vlans", "live", "created")
APPLIED_OVER, UPLINKS = "applied_over", "uplinks"
END = "end"
TICK_NS = 10**8  # the kernel's clock for files has ticks of 10 ms at most (CONFIG_HZ)


class Ticket(SimpleNamespace):
    """The wanted VLANs of one port of a libvirt network, and who asked for them."""

    uuid: str  # of the networkport
    vm: str
    vm_uuid: str
    kind: Kind  # of the NIC's interface on the host
    mac: str  # the guest's
    bridge: str
    network: str
    group: str  # the portgroup, "" for none
    is_default: bool  # that is the network's default one: the NIC names none
    applied_over: str | None  # the portgroup that libvirt announces, and apply has replaced; None: apply has not
    isolated: bool | None  # as libvirt has set it at the bridge port; None: a release wrote this that did not note it
    fdb_managed: bool  # libvirt adds the guest's address to the bridge's forwarding database
    vlans: Vlans | None  # the wanted VLANs; None: the port is left alone
    uplinks: list[str]  # that are to carry the wanted VLANs, because the network names them
    live: bool  # the interface was there before the ticket
    created: float  # seconds, time.monotonic()
    released: bool  # libvirt has released the port
    right: tuple[str, int] | None  # name and index of the interface that was last seen with the VLANs that were wanted
    interface: tuple[str, int] | None  # name and index of the interface that is surely this NIC's; at first `right`
    bridge_index: int  # of the ticket's bridge when mark_bridge() noted that, 0: not noted yet
    link_down: bool  # sync or watch is putting the tap back on its bridge, and has set its link down for that


def guest(of: Port | Ticket) -> str:
    """Given a port or its ticket, return what a message calls the guest."""
    assert of.kind is not None
    return f"{of.kind.GUEST} {of.vm}"


def subject(ticket: Ticket, interface: str = "") -> str:
    """Given a ticket and its interface, "" if there is none yet, return what log lines about them begin with."""
    return log.nic(ticket.vm, ticket.mac, interface, shown_group(ticket.group, ticket.is_default))


def shown_group(group: str, is_default: bool) -> str:
    """Given a portgroup and whether it is the network's default one, return what a person reads, and a ticket has."""
    return group + (DEFAULT_MARK if is_default else "")


def key(of: Port | Ticket) -> str:
    """Given a port or its ticket, return the key of its NIC: its lock, and how the names of its tickets begin."""
    assert of.kind is not None
    return of.kind.key(of.mac)


def path(of: Port | Ticket) -> str:
    """Given a port or its ticket, return the path of the ticket."""
    return f"{DIRECTORY}/{key(of)}.{of.uuid}"


def of_port(port: Port) -> Ticket | None:
    """Given a port, return its ticket, None if there is none. A port whose kind nobody knows yet gets that, too.

    Raises HookError if the ticket is damaged.
    """
    for kind in interfaces.KINDS if port.kind is None else (port.kind,):
        try:
            ticket = read(f"{DIRECTORY}/{kind.key(port.mac)}.{port.uuid}")
        except FileNotFoundError:
            continue
        port.kind = kind
        return ticket
    return None


def write(ticket: Ticket) -> None:
    """Write the ticket's file, whole or not at all, instead of one of another kind; raise HookError if that fails."""
    vlans = LEFT_ALONE if ticket.vlans is None else to_text(ticket.vlans)
    values = [getattr(ticket, name) for name in TEXTS] + [vlans, f"{int(ticket.live)}", f"{ticket.created}"]
    values[TEXTS.index("group")] = shown_group(ticket.group, ticket.is_default)
    lines = [f"{name} {_escaped(value)}" for name, value in zip((*TEXTS, *DECISION), values)]
    lines += ticket.kind.TICKET_LINES
    if ticket.applied_over is not None:
        lines.append(f"{APPLIED_OVER} {_escaped(ticket.applied_over)}")
    if ticket.uplinks:
        lines.append(f"{UPLINKS} {' '.join(ticket.uplinks)}")
    if ticket.isolated is not None:
        manager = "libvirt" if ticket.fdb_managed else "kernel"
        lines += [f"isolated {'yes' if ticket.isolated else 'no'}", f"macTableManager {manager}"]
    file_name = _file(ticket)
    seen = [f"right {ticket.right[0]} {ticket.right[1]}"] if ticket.right else []
    seen += [f"bridge {ticket.bridge_index}"] if ticket.bridge_index else []
    seen += ["link down"] if ticket.link_down else []
    try:
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(f"{file_name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, END, *seen, ""]))
        os.replace(f"{file_name}.new", file_name)
        for kind in interfaces.KINDS:
            if kind is not ticket.kind:  # the kind was not known yet
                _unlink(f"{DIRECTORY}/{kind.key(ticket.mac)}.{ticket.uuid}")
    except OSError as error:
        try:
            os.unlink(f"{file_name}.new")
        except OSError:  # there is no such file yet
            pass
        raise HookError(f"cannot write {file_name}: {error.strerror}: {LOOK}") from error


def read(file_name: str) -> Ticket:
    """Given a ticket's path, return it; raise HookError if it is damaged, FileNotFoundError if there is none."""
    try:
        with open(file_name, encoding="utf-8", errors="replace") as file:
            whole, end, seen = file.read().partition(f"\n{END}\n")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise HookError(f"the ticket {file_name} cannot be read ({error.strerror}): {LOOK}") from error
    found = dict(line.split(" ", 1) for line in whole.split("\n") if " " in line)
    try:
        if not end:
            raise ValueError("it is cut short")
        # ignore a line that a full /run has cut short
        notes = [line.split(" ") for line in seen.split("\n")[:-1]]
        rights = [(note[1], int(note[2])) for note in notes if len(note) == 3 and note[2].isdecimal()]
        right = rights[-1] if rights else None
        on = [int(note[1]) for note in notes if note[0] == "bridge" and len(note) == 2 and note[1].isdecimal()]
        links = [note[1] for note in notes if note[0] == "link" and len(note) == 2]
        texts = {name: _unescaped(found[name]) for name in TEXTS}
        is_default = texts["group"].endswith(DEFAULT_MARK)
        return Ticket(
            **{**texts, "group": texts["group"].removesuffix(DEFAULT_MARK)},
            is_default=is_default,
            applied_over=_unescaped(found[APPLIED_OVER]) if APPLIED_OVER in found else None,
            kind=interfaces.of_key(os.path.basename(file_name)),
            isolated=found["isolated"] == "yes" if "isolated" in found else None,
            fdb_managed=found.get("macTableManager") == "libvirt",
            uplinks=found.get(UPLINKS, "").split(),
            vlans=None if found["vlans"] == LEFT_ALONE else from_text(found["vlans"]),
            live=found["live"] == "1",
            created=float(found["created"]),
            released=file_name.endswith(RELEASED),
            right=right,
            interface=right,
            bridge_index=on[-1] if on else 0,
            link_down=links[-1:] == ["down"],
        )
    except (ValueError, KeyError, IndexError, HookError) as error:
        raise HookError(f"the ticket {file_name} is damaged ({error}): remove it and restart the VM") from error


def of(bridge: str, nic_key: str) -> list[Ticket]:
    """Given a bridge and a NIC's key, return their tickets, the oldest first; a damaged one is ignored."""
    return sorted((t for t in _all(f"{nic_key}.") if t.bridge == bridge), key=lambda ticket: ticket.created)


def by_nic(nic_key: str = "") -> dict[tuple[str, str], list[Ticket]]:
    """Given a NIC's key, or "" for all, return the tickets by bridge and key, the oldest first."""
    found: dict[tuple[str, str], list[Ticket]] = {}
    for ticket in sorted(_all(f"{nic_key}." if nic_key else ""), key=lambda ticket: ticket.created):
        found.setdefault((ticket.bridge, key(ticket)), []).append(ticket)
    return found


def names_by_key() -> dict[str, set[str]]:
    """Return, by their NICs' keys, what follows the key in the name of each ticket's file; no ticket is read."""
    found: dict[str, set[str]] = {}
    for entry in _entries():
        nic_key, _, rest = entry.name.partition(".")
        found.setdefault(nic_key, set()).add(rest)
    return found


def not_in(known: set[tuple[str, int]], since_ns: int) -> list[Ticket]:
    """Given the names and inodes of tickets and a time (st_ctime_ns), return the other tickets that have changed since.

    Add all other tickets to the known ones. A ticket that is written again has another inode.
    """
    found = []
    for entry in _entries():
        try:
            if (entry.name, entry.inode()) in known:
                continue
            known.add((entry.name, entry.inode()))
            if entry.stat().st_ctime_ns >= since_ns:
                found.append(read(entry.path))
        except FileNotFoundError:  # libvirt has released the port meanwhile
            continue
        except HookError as error:
            log.warning(f"ignored: {error}")
    return found


def changed_ns(ticket: Ticket | None = None) -> int:
    """Given a ticket, return when its file last changed (st_ctime_ns); without, when the list of tickets did.

    0: there is no such file or directory, or it is so recent that the next change can have the same time.
    """
    try:
        if ticket:
            return os.stat(_file(ticket)).st_ctime_ns
        changed = os.stat(DIRECTORY).st_mtime_ns
    except OSError:
        return 0
    return changed if time.time_ns() - changed > TICK_NS else 0


def mark_right(ticket: Ticket, name: str, index: int) -> None:
    """Note in the ticket, if it is still there, that this interface has been seen with the wanted VLANs."""
    if ticket.right != (name, index):
        _note(ticket, f"right {name} {index}")
    if not ticket.bridge_index:
        mark_bridge(ticket)


def mark_bridge(ticket: Ticket) -> None:
    """Note in the ticket which bridge has its bridge's name now: the name can come back as another bridge's."""
    index = sysfs.ifindex(ticket.bridge)
    if index and ticket.bridge_index != index:
        _note(ticket, f"bridge {index}")


def mark_link(ticket: Ticket, down: bool) -> None:
    """Note in the ticket that its tap is being put back, and so is down, or that this is done."""
    if ticket.link_down != down:
        _note(ticket, "link down" if down else "link up")
        ticket.link_down = down


def bridge_was_replaced(ticket: Ticket) -> bool:
    """Given a ticket, return whether its bridge was deleted, or deleted and created again, since mark_bridge()."""
    return bool(ticket.bridge_index) and ticket.bridge_index != sysfs.ifindex(ticket.bridge)


def is_there(ticket: Ticket) -> bool:
    """Given a ticket, return whether its file is still there: libvirt has not taken the port back since."""
    return os.path.exists(_file(ticket))


def remove(ticket: Ticket) -> None:
    """Remove the ticket if it is still there."""
    _unlink(_file(ticket))


def forget(port: Port) -> None:
    """Remove the ticket of a port, whatever its kind."""
    for kind in interfaces.KINDS:
        _unlink(f"{DIRECTORY}/{kind.key(port.mac)}.{port.uuid}")


def keep_released(ticket: Ticket) -> None:
    """Note that libvirt has taken the ticket's port back, while the interface lives on."""
    os.rename(_file(ticket), path(ticket) + RELEASED)


def sweep(older_than_seconds: float) -> None:
    """Remove the tickets older than this whose port libvirt has forgotten and whose interface is gone."""
    for ticket in _all("", older_than_seconds):
        old = time.monotonic() - ticket.created > older_than_seconds
        if not old or has_port(ticket.network, ticket.uuid):
            continue
        if not ticket.kind.anywhere(ticket):
            remove(ticket)


def _escaped(text: str) -> str:
    """Given a name, return it in one line, for _unescaped()."""
    return one_line(text.replace("\\", "\\\\"))


def _unescaped(text: str) -> str:
    """Given what _escaped() returned, return the name."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in text else text


def _unlink(file_name: str) -> None:
    try:
        os.unlink(file_name)
    except FileNotFoundError:
        pass


def _note(ticket: Ticket, line: str) -> None:
    try:
        with open(os.open(_file(ticket), os.O_WRONLY | os.O_APPEND), "w", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError:  # then the qemu hook reads the tap's VLANs itself
        pass


def _file(ticket: Ticket) -> str:
    return path(ticket) + (RELEASED if ticket.released else "")


def _all(prefix: str, older_than_seconds: float = 0) -> Iterator[Ticket]:
    """Given how a ticket's name begins and how old its file is at least, return the tickets that can be read."""
    for entry in sorted(_entries(), key=lambda entry: entry.name):
        if not entry.name.startswith(prefix):
            continue
        try:
            if not older_than_seconds or time.time() - entry.stat().st_mtime > older_than_seconds:
                yield read(entry.path)
        except FileNotFoundError:  # libvirt has released the port meanwhile
            continue
        except HookError as error:
            log.warning(f"ignored: {error}")


def _entries() -> list[os.DirEntry[str]]:
    """Return the directory's entries that are tickets."""
    try:
        with os.scandir(DIRECTORY) as entries:
            return [entry for entry in entries if ":" in entry.name and not entry.name.endswith(".new")]
    except (FileNotFoundError, NotADirectoryError):
        return []
