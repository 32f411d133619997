# SPDX-License-Identifier: MIT
"""Half of the tests for each of two labs: for tests/check, because a lab has one processor."""

import os
from collections import Counter

# What a test takes, measured in the lab on two processors with three other labs: on average, and where it is far more.
SECONDS_EACH = {"kernel": 3, "libvirt": 8}
SECONDS = {
    "kernel/test_watch.py": 160,
    "kernel/test_port.py": 140,
    "kernel/test_stateful.py": 55,
    "kernel/test_install_live.py": 50,
    "kernel/test_kill.py": 50,
    "kernel/test_uplinks.py": 30,
    "libvirt/test_container.py": 180,
    "libvirt/test_not_called.py": 105,
    "libvirt/test_show_check_sync.py": 175,
    "libvirt/test_live.py": 160,
    "libvirt/test_apply.py": 130,
    "libvirt/test_join.py": 85,
    "libvirt/test_neighbours.py": 100,
    "libvirt/test_leak.py": 80,
    "libvirt/test_migration.py": 80,
    "libvirt/test_tool.py": 55,
    "libvirt/test_uplinks.py": 50,
    "libvirt/test_watch.py": 55,
}


def half(items):
    """Given tests, return the half that LAB_HALF in the environment names, 1 or 2. Without LAB_HALF, return all tests.

    A file is in one half as a whole. The next longest file goes to the half that has the shorter ones so far.
    """
    number = os.environ.get("LAB_HALF")
    if not number:
        return items
    halves = {"1": [], "2": []}
    seconds = seconds_by_file(items)
    for path in sorted(seconds, key=lambda path: (-seconds[path], path)):
        shorter = min(halves, key=lambda number: sum(seconds[file] for file in halves[number]))
        halves[shorter].append(path)
    return [item for item in items if item.path in halves[number]]


def seconds_by_file(items):
    """Given tests, return by file how long they take."""
    counts = Counter(item.path for item in items)
    return {
        path: SECONDS.get(f"{path.parent.name}/{path.name}", count * SECONDS_EACH[path.parent.name])
        for path, count in counts.items()
    }
