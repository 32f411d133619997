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
        """What each of these modules has; its own docstrings say more."""

        GUEST: str  # what a message calls the guest
        INTERFACE: str  # and the interface
        HOOK: str  # the hook that libvirt calls before such a guest runs
        KEY_PREFIX: str  # how the keys of such NICs begin
        # libvirt changes such a NIC while the guest runs: it announces a second port, decides, and takes one back
        CHANGES_LIVE: bool
        HAS_FDB_MANAGER: bool  # libvirt heeds macTableManager for such NICs
        TICKET_LINES: tuple[str, ...]  # lines of a ticket's file, for other releases

        def key(self, mac: str) -> str: ...  # what tells a NIC apart: its lock, and the names of its tickets
        def daemon(self) -> str: ...  # the daemon that calls HOOK
        def announced(self, port: Port) -> tuple[str, str]: ...  # the port's own interface, and another guest's like it
        def port_at_start(self, domain: Domain, nic: Nic) -> Port | None: ...
        def at_start(self, nic: Nic) -> tuple[str, int]: ...  # the interface's name and index, as libvirt says
        def strangers(self, nic: Nic, bridge: str) -> list[str]: ...  # which could be taken for the NIC's own
        def seen(self, ticket: Ticket) -> dict[str, int]: ...  # what can be the ticket's interface, with numbers
        def on_bridge(self, ticket: Ticket) -> str: ...  # the ticket's interface, "" if it is not on its bridge
        def anywhere(self, ticket: Ticket) -> str: ...  # the same, whether it is on its bridge or not
        def lives(self, ticket: Ticket) -> bool: ...  # whether the interface is known to be there still
        def survives(self, ticket: Ticket) -> bool: ...  # whether it lives on when libvirt takes the port back
        def check(self, ticket: Ticket, name: str) -> None: ...  # raises HookError if this is another's interface


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
