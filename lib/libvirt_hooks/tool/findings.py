# SPDX-License-Identifier: MIT
"""What `check` finds: problems, and notes about what is possibly intentional. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..vlans import Vlans

# Programs rely on these words (docs/monitoring.md): a code keeps its name and its meaning.
Problem = Literal[
    "wrong-vlans",
    "not-on-bridge",
    "refused",
    "made-plain",
    "no-bridge",
    "bridge-does-not-filter",
    "uplink-lacks-vlan",
    "switched-off",
    "hook-missing",
    "hook-not-executable",
    "hook-newer-than-daemon",
    "installed-twice",
    "writable-by-others",
    "watch-not-running",
]
Note = Literal["waits-for-restart", "in-default-vlan", "no-uplink"]
PROBLEMS: tuple[str, ...] = get_args(Problem)
NOTES: tuple[str, ...] = get_args(Note)


@dataclass(frozen=True)
class Finding:
    """One thing that `check` says; a field that does not apply is "" or None."""

    code: Problem | Note
    sentence: str  # what is wrong; where there is no one command, also what to do
    command: str = ""  # what to type
    advice: str = ""  # the command within the words that it needs, if it needs any
    subject: str = ""  # what the line begins with
    vm: str = ""
    vm_uuid: str = ""
    mac: str = ""
    tap: str = ""
    bridge: str = ""
    wanted: Vlans | None = None
    current: Vlans | None = None

    @property
    def is_note(self) -> bool:
        """Whether the finding is no problem, but possibly intentional."""
        return self.code in NOTES

    @property
    def line(self) -> str:
        """The finding as the plain `check` says it."""
        parts = ("note" if self.is_note else "", self.subject, self.sentence, self.advice or self.command)
        return ": ".join(part for part in parts if part)
