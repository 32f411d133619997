# SPDX-License-Identifier: MIT
"""When to say what is wrong with a NIC, and when to look at it again. Pure: is told the time.

All times are time.monotonic()'s, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A fault that is over sooner is not worth a word: a VM that ends, a tap that libvirt puts back, a bridge half made.
FAULT_SECONDS = 2
# A NIC that has to be repaired so often within a minute is looked at again after a pause, which doubles each time.
MINUTE, OFTEN, PAUSE_SECONDS, PAUSE_MAX_SECONDS = 60, 3, 4, 60


@dataclass
class Memory:
    """What watch remembers of a NIC or of a bridge."""

    fault: str = ""  # why nothing can be done
    told: bool = True
    since: float = 0.0  # when the fault was first seen
    off_since: float = 0.0  # when the tap was first seen on no bridge, 0: it is on one
    repairs: list[float] = field(default_factory=list)  # when, within the last minute, or since somebody insists
    pause: float = 0.0
    paused_until: float = 0.0


def note_fault(memory: Memory, sentence: str, now: float) -> bool:
    """Given why nothing can be done ("": there is no fault), return whether to say so: once, and if it lasts."""
    if sentence != memory.fault:
        memory.fault, memory.told, memory.since = sentence, not sentence, now
    if memory.told or now - memory.since < FAULT_SECONDS:
        return False
    memory.told = True
    return True


def next_look(memory: Memory, now: float) -> float:
    """Return when to look at a fault again, 0 if there is nothing to wait for."""
    if not memory.told:
        return max(memory.since + FAULT_SECONDS, memory.paused_until)
    return max(now + 1, memory.paused_until) if memory.fault and memory.repairs else 0.0


def note_repair(memory: Memory, now: float) -> str:
    """Note that a repair begins; return what is to be said if there were too many: whoever undoes them insists."""
    if not memory.pause:
        memory.repairs = [at for at in memory.repairs if at > now - MINUTE]
    memory.repairs.append(now)
    if len(memory.repairs) < OFTEN:
        return ""
    memory.pause = min(max(PAUSE_SECONDS, 2 * memory.pause), PAUSE_MAX_SECONDS)
    memory.paused_until = now + memory.pause
    return (
        f", {len(memory.repairs)} times so far: find out what else sets its VLANs; next check in {memory.pause:.0f} s"
    )


def note_right(memory: Memory, now: float) -> None:
    """Note that there was nothing to repair. After a minute of that, nobody insists any more."""
    if not any(at > now - MINUTE for at in memory.repairs):
        memory.repairs, memory.pause = [], 0.0
