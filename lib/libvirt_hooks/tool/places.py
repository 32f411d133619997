# SPDX-License-Identifier: MIT
"""Which interfaces have tickets, so that a thousand others cost next to nothing.

An interface is known by its index: a name can come back as another's, an index cannot.
"""

from __future__ import annotations

import os
import time

from .. import sysfs, tickets
from ..tickets import Ticket
from ..vlans import Vlans

SEARCH_SECONDS = 1  # between two searches for taps that are not there yet
COMPARE_SECONDS = 1  # between two looks at uplinks: one that loses its carrier again and again has many events
SETTLED_SECONDS = 1  # a directory that changes twice within so short a time can keep its time

Nic = tuple[str, str]  # the bridge and the NIC's key, as in tickets.key(); without a key the bridge itself


class Places:
    """The taps of the tickets, by their indices, as far as they are known."""

    def __init__(self) -> None:
        """Know none."""
        self.search_due = 0.0  # time.monotonic(), 0: there is nothing to search for
        self.uplinks_due = 0.0  # the same, 0: no uplink has changed
        self._compared = 0.0
        self._nics: dict[int, Nic] = {}
        self._indices: dict[Nic, int] = {}  # the same, the other way round
        self._users: dict[str, dict[Nic, set[int]]] = {}  # what an uplink is to carry for which NIC, by its name
        self._strangers: set[int] = set()  # indices of interfaces that have no ticket
        self._bridges: dict[str, tuple[int, bool]] = {}  # index, and whether it filters VLANs
        self._files: dict[str, set[str]] = {}  # the names of the tickets by their NICs' keys
        self._changed = 0  # when the directory of the tickets changed; 0: that was too short ago to tell
        self._searched = 0.0

    def start_anew(self, bridges: set[str]) -> None:
        """Forget what is known, but for these bridges."""
        self._nics.clear()
        self._users.clear()
        self._indices.clear()
        self._strangers.clear()
        self._bridges = {name: _state(name) for name in bridges}
        self._changed = 0
        self._read_files()

    def add(self, nic: Nic, tap: str, ticket: Ticket) -> None:
        """Note that this is the NIC's tap, and which uplinks are to carry which VLANs, as its ticket says."""
        self.remove(nic)
        index = sysfs.ifindex(tap)
        self._nics[index], self._indices[nic] = nic, index
        for name in ticket.uplinks:
            self._users.setdefault(name, {})[nic] = set(ticket.vlans or ())
        self._bridges.setdefault(nic[0], _state(nic[0]))

    def remove(self, nic: Nic) -> None:
        """Note that the NIC has no tap."""
        self._nics.pop(self._indices.pop(nic, 0), None)

    def filters(self, bridge: str) -> bool:
        """Given a bridge that has tickets, return whether it filtered VLANs when that was last read."""
        return self._bridges[bridge][1]

    def concerned(self, names: dict[int, str], now: float) -> set[Nic]:
        """Given the names by index of interfaces that the kernel has reported, return their NICs."""
        self._read_files()
        found, unknown = set(), set()
        for index, name in names.items():
            names_of_it = {name, name.rpartition("@")[0]}
            if index in self._nics:
                found.add(self._nics[index])
            elif names_of_it & self._users.keys():
                self.uplinks_due = self.uplinks_due or max(now, self._compared + COMPARE_SECONDS)
            elif index not in self._strangers:
                bridge = next(iter(names_of_it & self._bridges.keys()), "")
                if bridge:
                    found |= self._of_changed_bridge(bridge)
                else:
                    unknown.add(index)
        if unknown and self._unplaced():
            self.search_due = max(now, self._searched + SEARCH_SECONDS)
        else:
            self._strangers |= unknown
        return found

    def lacking(self, current: dict[str, Vlans], now: float) -> set[Nic]:
        """Given the VLANs of all bridge ports, return the NICs whose VLANs an uplink on their bridge lacks."""
        self._compared, self.uplinks_due = now, 0.0
        return {
            nic
            for name, users in self._users.items()
            for nic, vids in users.items()
            if vids - current.get(name, {}).keys() and sysfs.master(name) == nic[0]
        }

    def search(self, now: float) -> set[Nic]:
        """Return the NICs that have tickets and no known taps."""
        self._searched, self.search_due = now, 0.0
        return {nic for nic_key in self._unplaced() for nic in tickets.by_nic(nic_key)}

    def _unplaced(self) -> set[str]:
        return self._files.keys() - {nic_key for _, nic_key in self._indices}

    def _of_changed_bridge(self, name: str) -> set[Nic]:
        """Given a bridge, return its NICs, and itself, if it was created again, or filters VLANs unlike before."""
        state = _state(name)
        if state == self._bridges[name]:
            return set()
        self._bridges[name] = state
        return {(name, ""), *(nic for nic in self._indices if nic[0] == name)}

    def _read_files(self) -> None:
        """Read the names of the tickets if they have changed, and forget the taps of those that have."""
        try:
            changed = os.stat(tickets.DIRECTORY).st_mtime_ns
            if changed == self._changed:
                return
            files = tickets.names_by_key()
        except OSError:
            changed, files = 0, {}
        self._changed = changed if time.time() - changed / 1e9 > SETTLED_SECONDS else 0
        if files == self._files:
            return
        for nic in list(self._indices):
            if files.get(nic[1]) != self._files.get(nic[1]):
                self.remove(nic)
        self._files, self._searched = files, 0.0
        self._strangers.clear()


def _state(bridge: str) -> tuple[int, bool]:
    return sysfs.ifindex(bridge), sysfs.bridge(bridge).vlan_filtering
