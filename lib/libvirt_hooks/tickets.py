# SPDX-License-Identifier: MIT
"""Tickets: the wanted VLANs of each port, kept in /run until libvirt takes the port back.

A ticket is a small file, named after its NIC's key and the port's uuid. With tickets the detached process can be
stopped and repeated, and the qemu and lxc hooks know what to check before a guest runs.

In a live change one tap has several tickets: `virsh update-device` makes libvirt announce a new port, decide, and take
one of the two ports back. So the ticket of a port whose tap was there before (`live`) applies only once libvirt has let
the port stand for a while. A tap can live on without any port (`virsh domif-setlink`): its last ticket is then kept as
released, and still applies.
"""

from __future__ import annotations

import fcntl
import os
import time
from types import SimpleNamespace

from . import HookError, interfaces, log, sysfs
from .hookdata import Port, tap_address
from .log import one_line
from .statefiles import has_port, runs_with
from .vlans import Vlans, from_text, to_text

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "/run/libvirt-hooks"
LOOK = f"look at ls -la {DIRECTORY} and df /run, and try again"  # what to do if the system refuses a file there
# Between the announcement of a live change and libvirt's taking it back lie milliseconds; seconds on a busy host.
LIVE_GRACE_SECONDS = 5
# Between the end of port-created and libvirt's own record of the port lie milliseconds; seconds on a busy host.
NOTED_SECONDS = 10
VETH = "veth-"  # how the keys of containers' tickets begin
RELEASED = ".released"
LEFT_ALONE = "left alone"
# the lines of a ticket, each a name and a value; after END only what was seen since
TEXTS = ("uuid", "vm", "vm_uuid", "mac", "bridge", "network", "group")
DECISION = ("vlans", "live", "created")
END = "end"


class Ticket(SimpleNamespace):
    """The wanted VLANs of one port of a libvirt network, and who asked for them."""

    uuid: str  # of the networkport
    vm: str
    vm_uuid: str
    container: bool  # the guest is a container, so its interface is a veth without an address of its own
    mac: str  # the guest's
    bridge: str
    network: str
    group: str
    vlans: Vlans | None  # the wanted VLANs; None: the port is left alone
    live: bool  # the tap was there before the ticket
    created: float  # seconds, time.monotonic()
    released: bool  # libvirt has taken the port back
    right: tuple[str, int] | None  # name and index of the tap that was last seen with the wanted VLANs
    veth: tuple[str, int] | None  # name and index of a container's veth, once veths.py has found or checked it
    bridge_index: int  # of the ticket's bridge when mark_bridge() noted that, 0: not noted yet


def new(port: Port, network: str, vlans: Vlans | None, live: bool) -> Ticket:
    """Given a port, its network's name, its wanted VLANs and whether its tap is there, return its ticket, unwritten."""
    return Ticket(
        uuid=port.uuid, vm=port.vm, vm_uuid=port.vm_uuid, container=port.container, mac=port.mac, bridge=port.bridge,
        network=network, group=port.group, vlans=vlans, live=live, created=time.monotonic(), released=False, right=None,
        veth=None, bridge_index=0,
    )  # fmt: skip


def guest(of: Port | Ticket) -> str:
    """Given a port or its ticket, return what a message calls the guest."""
    return f"{'container' if of.container else 'VM'} {of.vm}"


def subject(ticket: Ticket, tap: str = "") -> str:
    """Given a ticket and its tap, "" if there is none yet, return what log lines about them begin with."""
    return log.nic(ticket.vm, ticket.mac, tap, ticket.group)


def key(of: Port | Ticket) -> str:
    """Given a port or its ticket, return the key of its NIC: the lock's, and what the names of its tickets begin with.

    Taps are told apart by their addresses. A container's veth has a random one, so its NIC's own address is the key.
    """
    return f"{VETH}{of.mac}" if of.container else tap_address(of.mac)


def path(of: Port | Ticket) -> str:
    """Given a port or its ticket, return the path of the ticket."""
    return f"{DIRECTORY}/{key(of)}.{of.uuid}"


def write(ticket: Ticket) -> None:
    """Write the ticket's file, whole or not at all; raise HookError if that fails."""
    vlans = LEFT_ALONE if ticket.vlans is None else to_text(ticket.vlans)
    values = [getattr(ticket, name) for name in TEXTS] + [vlans, f"{int(ticket.live)}", f"{ticket.created}"]
    lines = [f"{name} {_escaped(value)}" for name, value in zip((*TEXTS, *DECISION), values)]
    lines += ["container 1"] if ticket.container else []
    file_name = path(ticket)
    seen = [f"right {ticket.right[0]} {ticket.right[1]}"] if ticket.right else []
    seen += [f"bridge {ticket.bridge_index}"] if ticket.bridge_index else []
    try:
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(f"{file_name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, END, *seen, ""]))
        os.replace(f"{file_name}.new", file_name)
    except OSError as error:
        try:
            os.unlink(f"{file_name}.new")
        except OSError:  # there is no such file yet
            pass
        raise HookError(f"cannot write {file_name}: {error.strerror}: {LOOK}") from error


def write_as_containers(ticket: Ticket) -> None:
    """Given a container's ticket, write it, also if it was written as a VM's, and note that it is right if it is."""
    write(ticket)
    try:
        os.unlink(f"{DIRECTORY}/{tap_address(ticket.mac)}.{ticket.uuid}")
    except FileNotFoundError:
        pass
    if ticket.veth:
        mark_right(ticket, *ticket.veth)


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
        return Ticket(
            **{name: _unescaped(found[name]) for name in TEXTS},
            container=found.get("container") == "1",
            vlans=None if found["vlans"] == LEFT_ALONE else from_text(found["vlans"]),
            live=found["live"] == "1",
            created=float(found["created"]),
            released=file_name.endswith(RELEASED),
            right=right,
            veth=right,
            bridge_index=on[-1] if on else 0,
        )
    except (ValueError, KeyError, IndexError, HookError) as error:
        raise HookError(f"the ticket {file_name} is damaged ({error}): remove it and restart the VM") from error


def of(bridge: str, nic_key: str) -> list[Ticket]:
    """Given a bridge and a NIC's key, return their tickets, the oldest first; a damaged one is passed over."""
    return sorted((t for t in _all(f"{nic_key}.") if t.bridge == bridge), key=lambda ticket: ticket.created)


def by_nic(nic_key: str = "") -> dict[tuple[str, str], list[Ticket]]:
    """Given a NIC's key, or "" for all, return the tickets by bridge and key, the oldest first."""
    found: dict[tuple[str, str], list[Ticket]] = {}
    for ticket in sorted(_all(f"{nic_key}." if nic_key else ""), key=lambda ticket: ticket.created):
        found.setdefault((ticket.bridge, key(ticket)), []).append(ticket)
    return found


def counting(tickets: list[Ticket], now: float) -> Ticket | None:
    """Given the tickets of one tap, oldest first, and time.monotonic(), return the one that applies, None if none does.

    The oldest whose port libvirt has granted applies, or else the one whose port libvirt took back last. A ticket whose
    port is only announced never applies.
    """
    standing = [ticket for ticket in tickets if not ticket.released and not _is_announced(ticket, now)]
    released = [ticket for ticket in tickets if ticket.released]
    return next(iter(standing), None) or next(iter(released), None)


def take_lock(nic_key: str) -> int:
    """Take the lock of a NIC's key, so that two processes never decide or type for one tap.

    Return a descriptor: the lock is free again once it is closed. The lock is one byte of one file: no lock files to
    tidy up, and the kernel frees the byte when a process dies.
    Raises BlockingIOError if another process holds the lock, HookError if there can be no such file.
    """
    file_name = f"{DIRECTORY}/lock"
    try:
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(file_name, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise HookError(f"cannot lock {file_name}: {error.strerror}: {LOOK}") from error
    try:
        place = int(nic_key.replace(VETH, "1").replace(":", ""), 16)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_address(port: Port, tap: str, known: list[Ticket]) -> None:
    """Given a port, its tap or "", and the tickets of the tap's address, raise HookError if another NIC has the same.

    A tap is found by its address: if two taps had the same, one would get the other's VLANs.
    """
    others = [other for other in known if other.vm_uuid != port.vm_uuid and is_granted(other)]
    if tap and not port.container and not runs_with(port.vm, tap):
        taken = f"{tap} on {port.bridge}, which is not this VM's, has that address already"
    elif others:
        taken = f"{guest(others[0])} has that address on {port.bridge} already"
    else:
        return
    raise HookError(f"{taken}: give one of the two another MAC address")


def is_granted(ticket: Ticket) -> bool:
    """Given a ticket, return whether libvirt has granted its port, or may be about to, and the tap has not gone since.

    libvirt notes a port only after the hook has returned. So a young ticket passes as granted, too, unless its tap has
    already come and gone.
    """
    noted = has_port(ticket.network, ticket.uuid)
    if ticket.right:  # a daemon that was down keeps the port of a guest that has ended
        return noted and bool(interfaces.anywhere(ticket))
    return noted or (not ticket.released and time.monotonic() - ticket.created < NOTED_SECONDS)


def without_forgotten(tickets: list[Ticket]) -> list[Ticket]:
    """Given the tickets of one tap, remove those whose ports libvirt has forgotten, return the rest.

    libvirt forgets a network's ports without a word when the network is stopped (`virsh net-destroy`). A younger
    ticket of the same tap shows that.
    """
    standing = [ticket for ticket in tickets if not ticket.released]
    forgotten = [ticket for ticket in standing[:-1] if not has_port(ticket.network, ticket.uuid)]
    for ticket in forgotten:
        remove(ticket)
    return [ticket for ticket in tickets if ticket not in forgotten]


def release(ticket: Ticket, tap_lives: bool) -> None:
    """Remove the ticket, whose port libvirt takes back. If the tap lives on, keep the ticket that applies to it."""
    others = [other for other in of(ticket.bridge, key(ticket)) if other.uuid != ticket.uuid]
    standing = [other for other in others if not other.released]
    if not tap_lives:
        for gone in [ticket, *(other for other in others if other.released)]:
            remove(gone)
    elif _is_announced(ticket, time.monotonic()):  # libvirt has decided against this port
        remove(ticket)
    elif standing:  # libvirt takes this port back, so the other one stays
        for other in standing:
            other.live = False
            write(other)
        remove(ticket)
    else:
        for other in others:
            remove(other)
        os.rename(_file(ticket), _file(ticket) + RELEASED)


def mark_right(ticket: Ticket, tap: str, index: int) -> None:
    """Note in the ticket, if it is still there, that this tap has been seen with the wanted VLANs."""
    if ticket.right != (tap, index):
        _note(ticket, f"right {tap} {index}")
    if not ticket.bridge_index:
        mark_bridge(ticket)


def mark_bridge(ticket: Ticket) -> None:
    """Note in the ticket which bridge has its bridge's name now: the name can come back as another bridge's."""
    index = sysfs.ifindex(ticket.bridge)
    if index and ticket.bridge_index != index:
        _note(ticket, f"bridge {index}")


def bridge_was_replaced(ticket: Ticket) -> bool:
    """Given a ticket, return whether its bridge was deleted, or deleted and created again, since mark_bridge()."""
    return bool(ticket.bridge_index) and ticket.bridge_index != sysfs.ifindex(ticket.bridge)


def is_there(ticket: Ticket) -> bool:
    """Given a ticket, return whether its file is still there: libvirt has not taken the port back since."""
    return os.path.exists(_file(ticket))


def remove(ticket: Ticket) -> None:
    """Remove the ticket if it is still there."""
    try:
        os.unlink(_file(ticket))
    except FileNotFoundError:
        pass


def sweep(older_than_seconds: float) -> None:
    """Remove the tickets older than this whose port libvirt has forgotten and whose tap is gone."""
    for ticket in _all("", older_than_seconds):
        old = time.monotonic() - ticket.created > older_than_seconds
        if not old or has_port(ticket.network, ticket.uuid):
            continue
        if not interfaces.anywhere(ticket):
            remove(ticket)


def _escaped(text: str) -> str:
    """Given a name, return it in one line, for _unescaped()."""
    return one_line(text.replace("\\", "\\\\"))


def _unescaped(text: str) -> str:
    """Given what _escaped() returned, return the name."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in text else text


def _is_announced(ticket: Ticket, now: float) -> bool:
    return ticket.live and not ticket.released and now - ticket.created < LIVE_GRACE_SECONDS


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
    try:
        names = sorted(os.listdir(DIRECTORY))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if not name.startswith(prefix) or ":" not in name or name.endswith(".new"):  # no ticket
            continue
        try:
            if not older_than_seconds or time.time() - os.stat(f"{DIRECTORY}/{name}").st_mtime > older_than_seconds:
                yield read(f"{DIRECTORY}/{name}")
        except FileNotFoundError:  # libvirt has taken the port back meanwhile
            continue
        except HookError as error:
            log.warning(f"passed over: {error}")
