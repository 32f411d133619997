# SPDX-License-Identifier: MIT
"""The kinds of interface that a NIC can have on the host, each a module with the functions that Kind names.

A kind's name is nowhere else: which kind a NIC has is decided in facts.py, and by the name of its ticket's file.
"""

from __future__ import annotations

from . import taps, veths

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from typing import Protocol

    from .hookdata import Domain, Nic, Port
    from .tickets import Ticket

    class Kind(Protocol):
        """What a module of this list has; the modules' own docstrings say more."""

        GUEST: str  # what a message calls the guest
        INTERFACE: str  # and the interface
        HOOK: str  # the hook that libvirt calls before such a guest runs
        KEY_PREFIX: str  # how the keys of such NICs begin
        # libvirt changes such a NIC while the guest runs: it announces a second port, decides, and takes one back
        CHANGES_LIVE: bool
        TICKET_LINES: tuple[str, ...]  # lines of a ticket's file, for other releases

        def key(self, mac: str) -> str:
            """Given a NIC's MAC address, return what tells the NIC apart: its lock, and its tickets' names."""

        def daemon(self) -> str:
            """Return the name of the daemon that calls HOOK."""

        def announced(self, port: Port) -> tuple[str, str]:
            """Given a port, return the NIC's interface if that is there already, and another guest's like it."""

        def port_at_start(self, domain: Domain, nic: Nic) -> Port | None:
            """Given a guest that is about to run and a NIC, return the NIC's port, None if it has none."""

        def at_start(self, nic: Nic) -> tuple[str, int]:
            """Given a NIC of a guest that is about to run, return its interface's name and index."""

        def strangers(self, nic: Nic, bridge: str) -> list[str]:
            """Given a NIC of a guest that is about to run, return the interfaces that can be taken for its own."""

        def seen(self, ticket: Ticket) -> dict[str, int]:
            """Given a ticket, return the interfaces on its bridge that can be its own, with numbers."""

        def on_bridge(self, ticket: Ticket) -> str:
            """Given a ticket, return its interface's name, "" if that is not on its bridge."""

        def anywhere(self, ticket: Ticket) -> str:
            """Given a ticket, return its interface's name, "" if that is gone."""

        def lives(self, ticket: Ticket) -> bool:
            """Given a ticket, return whether its interface is known to be there still."""

        def survives(self, ticket: Ticket) -> bool:
            """Given a ticket whose port libvirt takes back, return whether its interface lives on."""

        def check(self, ticket: Ticket, name: str) -> None:
            """Raise HookError if this interface is not the ticket's."""


KINDS: tuple[Kind, ...] = (taps, veths)


def of_key(key: str) -> Kind:
    """Given a NIC's key, or a name that begins with it, return the NIC's kind."""
    return next(kind for kind in reversed(KINDS) if key.startswith(kind.KEY_PREFIX))


def lock_place(key: str) -> int:
    """Given a NIC's key, return the number of the byte that is its lock: no two NICs' are the same.

    Releases must agree on it: a process of the one before can still be waiting.
    """
    kind = of_key(key)
    return KINDS.index(kind) << 48 | int(key[len(kind.KEY_PREFIX) :].replace(":", ""), 16)
