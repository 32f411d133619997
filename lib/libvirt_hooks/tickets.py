# SPDX-License-Identifier: MIT
"""Tickets: what libvirt has asked for each port, kept in /run until it takes the port back.

A ticket is a small file, named after the port's tap address and uuid. It is what makes the detached process stoppable
and repeatable, and what the qemu hook checks before a guest runs.

Several tickets for one tap are the rule in live changes: `virsh update-device` makes libvirt announce a new port,
decide, and take one of the two back. So a ticket for a tap that was there before (`live`) counts only once libvirt has
let it stand for a while; and the last ticket of a tap that lives on without any port (`virsh domif-setlink`) is kept,
released, and goes on counting.
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

from . import HookError, log, sysfs
from .hookdata import Port, tap_address
from .log import one_line
from .statefiles import has_port
from .vlans import Vlans, from_text, to_text

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "/run/libvirt-hooks"
# Between the announcement of a live change and libvirt's taking it back lie milliseconds; seconds on a busy host.
LIVE_GRACE_SECONDS = 5
RELEASED = ".released"
LEFT_ALONE = "left alone"
# the lines of a ticket, each a name and a value; after END only what was seen since
TEXTS = ("uuid", "vm", "vm_uuid", "mac", "bridge", "network", "group")
DECISION = ("vlans", "live", "created")
END = "end"


class Ticket(SimpleNamespace):
    """What one port of a libvirt network is to have."""

    uuid: str  # of the networkport
    vm: str
    vm_uuid: str
    mac: str  # the guest's
    bridge: str
    network: str
    group: str
    vlans: Vlans | None  # None: its VLANs are not ours to set
    live: bool  # the tap was there before the ticket
    created: float  # seconds, time.monotonic()
    released: bool  # libvirt has taken the port back
    right: tuple[str, int] | None  # name and index of the port that was seen to have its VLANs


def new(port: Port, network: str, vlans: Vlans | None, live: bool) -> Ticket:
    """Given a port, its network's name, its VLANs and whether its tap exists already, return its ticket, unwritten."""
    return Ticket(
        uuid=port.uuid, vm=port.vm, vm_uuid=port.vm_uuid, mac=port.mac, bridge=port.bridge, network=network,
        group=port.group, vlans=vlans, live=live, created=time.monotonic(), released=False, right=None,
    )  # fmt: skip


def subject(ticket: Ticket, port: str = "-") -> str:
    """Given a ticket and a port's name if there is one, return what a log line about them begins with."""
    return f"{ticket.vm} {ticket.mac} {port} {ticket.group or '-'}"


def path(mac: str, uuid: str) -> str:
    """Given a guest's MAC address and its port's uuid, return the path of the port's ticket."""
    return f"{DIRECTORY}/{tap_address(mac)}.{uuid}"


def write(ticket: Ticket) -> None:
    """Given a ticket, write it whole; raise HookError if that fails."""
    vlans = LEFT_ALONE if ticket.vlans is None else to_text(ticket.vlans)
    values = [getattr(ticket, name) for name in TEXTS] + [vlans, f"{int(ticket.live)}", f"{ticket.created}"]
    lines = [f"{name} {one_line(value)}" for name, value in zip((*TEXTS, *DECISION), values)]
    file_name = path(ticket.mac, ticket.uuid)
    try:
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(f"{file_name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, END, ""]))
        os.replace(f"{file_name}.new", file_name)
    except OSError as error:
        try:
            os.unlink(f"{file_name}.new")
        except OSError:  # it has not come so far
            pass
        raise HookError(f"cannot write {file_name}: {error.strerror}: mend that and try again") from error


def read(file_name: str) -> Ticket:
    """Given a ticket's path, return it; raise HookError if it is damaged, FileNotFoundError if there is none."""
    try:
        with open(file_name, encoding="utf-8", errors="replace") as file:
            whole, end, seen = file.read().partition(f"\n{END}\n")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise HookError(f"the ticket {file_name} cannot be read ({error.strerror}): remove it") from error
    found = dict(line.split(" ", 1) for line in whole.split("\n") if " " in line)
    try:
        if not end:
            raise ValueError("it is cut short")
        # a line that a full /run has cut short notes nothing
        notes = [line.split(" ") for line in seen.split("\n")[:-1]]
        right = [(note[1], int(note[2])) for note in notes if len(note) == 3 and note[2].isdecimal()]
        return Ticket(
            **{name: found[name] for name in TEXTS},
            vlans=None if found["vlans"] == LEFT_ALONE else from_text(found["vlans"]),
            live=found["live"] == "1",
            created=float(found["created"]),
            released=file_name.endswith(RELEASED),
            right=right[-1] if right else None,
        )
    except (ValueError, KeyError, IndexError, HookError) as error:
        raise HookError(f"the ticket {file_name} is damaged ({error}): remove it and restart the VM") from error


def of(bridge: str, address: str) -> list[Ticket]:
    """Given a bridge and a tap's address, return their tickets, the oldest first; a damaged one is passed over."""
    return sorted((t for t in _all(f"{address}.") if t.bridge == bridge), key=lambda ticket: ticket.created)


def counting(tickets: list[Ticket], now: float) -> Ticket | None:
    """Given the tickets of one tap, oldest first, and time.monotonic(), return the one that counts, None if none does.

    The oldest that libvirt has not taken back, then the last that it has taken back; never one that is announced only.
    """
    standing = [ticket for ticket in tickets if not ticket.released and not _is_announced(ticket, now)]
    released = [ticket for ticket in tickets if ticket.released]
    return next(iter(standing), None) or next(iter(released), None)


def without_forgotten(tickets: list[Ticket]) -> list[Ticket]:
    """Given the tickets of one tap, remove those that libvirt has forgotten, return the rest.

    It forgets ports without a word when their network is stopped (`virsh net-destroy`); here that shows once a younger
    ticket has come.
    """
    standing = [ticket for ticket in tickets if not ticket.released]
    forgotten = [ticket for ticket in standing[:-1] if not has_port(ticket.network, ticket.uuid)]
    for ticket in forgotten:
        remove(ticket)
    return [ticket for ticket in tickets if ticket not in forgotten]


def release(ticket: Ticket, tap_lives: bool) -> None:
    """Given a ticket whose port libvirt takes back and whether its tap is still there, keep of it what still counts."""
    others = [other for other in of(ticket.bridge, tap_address(ticket.mac)) if other.uuid != ticket.uuid]
    standing = [other for other in others if not other.released]
    if not tap_lives:
        for gone in [ticket, *(other for other in others if other.released)]:
            remove(gone)
    elif _is_announced(ticket, time.monotonic()):  # libvirt has decided against it
        remove(ticket)
    elif standing:  # libvirt has decided against this one, so for the other
        for other in standing:
            other.live = False
            write(other)
        remove(ticket)
    else:
        for other in others:
            remove(other)
        os.rename(_file(ticket), _file(ticket) + RELEASED)


def mark_right(ticket: Ticket, port: str, index: int) -> None:
    """Given a ticket and the port that was seen to have its VLANs, note it in the ticket, unless that is gone."""
    try:
        with open(os.open(_file(ticket), os.O_WRONLY | os.O_APPEND), "w", encoding="utf-8") as file:
            file.write(f"right {port} {index}\n")
    except OSError:  # then the qemu hook looks for itself
        pass


def is_there(ticket: Ticket) -> bool:
    """Given a ticket that was read, return whether it is still there as it was: nobody has taken it back since."""
    return os.path.exists(_file(ticket))


def remove(ticket: Ticket) -> None:
    """Given a ticket, remove it, if it is still there."""
    try:
        os.unlink(_file(ticket))
    except FileNotFoundError:
        pass


def sweep(older_than_seconds: float) -> None:
    """Given an age, remove the tickets of that age that neither libvirt nor an interface has a use for any more."""
    for ticket in _all(""):
        old = time.monotonic() - ticket.created > older_than_seconds
        if not old or has_port(ticket.network, ticket.uuid):
            continue
        if not sysfs.interface_with(tap_address(ticket.mac), ticket.bridge):
            remove(ticket)


def _is_announced(ticket: Ticket, now: float) -> bool:
    return ticket.live and not ticket.released and now - ticket.created < LIVE_GRACE_SECONDS


def _file(ticket: Ticket) -> str:
    return path(ticket.mac, ticket.uuid) + (RELEASED if ticket.released else "")


def _all(prefix: str) -> Iterator[Ticket]:
    try:
        names = sorted(os.listdir(DIRECTORY))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith(prefix) and name != "lock" and not name.endswith(".new"):
            try:
                yield read(f"{DIRECTORY}/{name}")
            except FileNotFoundError:  # taken back meanwhile
                continue
            except HookError as error:
                log.warning(f"passed over: {error}")
