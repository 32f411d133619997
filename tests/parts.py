# SPDX-License-Identifier: MIT
"""A part of the tests for each of some labs: for tests/check, because a lab has one processor."""

import os
from collections import Counter

# What a test takes, measured in a lab on a processor of its own: on average, and where it is far more.
SECONDS_EACH = {"kernel": 0.5, "libvirt": 3}
SECONDS = {
    "kernel/test_watch.py": 127,
    "kernel/test_port.py": 100,
    "kernel/test_faults.py": 87,
    "kernel/test_container.py": 62,
    "kernel/test_waiting.py": 42,
    "kernel/test_twin.py": 25,
    "kernel/test_join.py": 25,
    "kernel/test_stateful.py": 20,
    "kernel/test_install_live.py": 17,
    "kernel/test_one_process.py": 15,
    "libvirt/test_apply.py": 108,
    "libvirt/test_live.py": 103,
    "libvirt/test_container.py": 103,
    "libvirt/test_show_check_sync.py": 103,
    "libvirt/test_join.py": 66,
    "libvirt/test_mac_table.py": 56,
    "libvirt/test_not_called.py": 48,
    "libvirt/test_watch.py": 48,
    "libvirt/test_tool.py": 42,
    "libvirt/test_neighbours.py": 38,
    "libvirt/test_uplinks.py": 32,
    "libvirt/test_backup.py": 31,
    "libvirt/test_start.py": 29,
    "libvirt/test_leak.py": 28,
    "libvirt/test_apparmor.py": 19,
}


def own_part(items):
    """Given tests, return the part that LAB_PART in the environment names, as "2 of 3". Without it, return all tests.

    A file is in one part as a whole. The next longest file goes to the part that takes the least time so far.
    """
    if not os.environ.get("LAB_PART"):
        return items
    number, _, count = os.environ["LAB_PART"].partition(" of ")
    parts = [[] for _ in range(int(count))]
    seconds = seconds_by_file(items)
    for path in sorted(seconds, key=lambda path: (-seconds[path], path)):
        min(parts, key=lambda part: sum(seconds[file] for file in part)).append(path)
    return [item for item in items if item.path in parts[int(number) - 1]]


def seconds_by_file(items):
    """Given tests, return by file how long they take."""
    counts = Counter(item.path for item in items)
    return {
        path: SECONDS.get(f"{path.parent.name}/{path.name}", count * SECONDS_EACH[path.parent.name])
        for path, count in counts.items()
    }
