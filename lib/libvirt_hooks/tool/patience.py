# SPDX-License-Identifier: MIT
"""When to say what is wrong with a NIC, and when to look at it again. Pure: is told the time.

All times are time.monotonic()'s, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A fault that is over sooner is not worth a word: a VM that ends, a tap that libvirt puts back, a bridge half made.
FAULT_SECONDS = 2
# While something undoes each repair, watch repairs once a second. After OFTEN repairs within a minute, watch reports
# one repair a minute.
MINUTE, OFTEN, REPAIR_SECONDS = 60, 3, 1


@dataclass
class Memory:
    """What watch remembers of a NIC or of a bridge."""

    fault: str = ""  # why nothing can be done
    told: bool = True
    since: float = 0.0  # when the fault was first seen
    off_since: float = 0.0  # when the tap was first seen on no bridge, 0: it is on one
    repairs: list[float] = field(default_factory=list)  # when, within the last minute
    said: float = 0.0  # when the last repair was said
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


def note_repair(memory: Memory, now: float) -> tuple[bool, str]:
    """Note that a repair begins; return whether to say so, and what else to say if somebody undoes the repairs."""
    memory.repairs = [*(at for at in memory.repairs if at > now - MINUTE), now]
    memory.paused_until = now + REPAIR_SECONDS
    times = len(memory.repairs)
    if times > OFTEN and now - memory.said < MINUTE:
        return False, ""
    memory.said = now
    if times < OFTEN:
        return True, ""
    return True, (
        f", {times} times within a minute: find out what else sets its VLANs; watch goes on, and says so once a minute"
    )


def note_right(memory: Memory, now: float) -> None:
    """Note that there was nothing to repair."""
    memory.repairs = [at for at in memory.repairs if at > now - MINUTE]
