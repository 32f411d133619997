# SPDX-License-Identifier: MIT
"""Half of the tests for each of two labs: for tests/check, because a lab has one processor."""

import os
from collections import Counter


def half(items):
    """Given tests, return the half that LAB_HALF in the environment names, 1 or 2. Without LAB_HALF, return all tests.

    A file is in one half as a whole. The next largest file goes to the half with fewer tests so far.
    """
    number = os.environ.get("LAB_HALF")
    if not number:
        return items
    halves = {"1": [], "2": []}
    counts = Counter(item.path for item in items)
    for path in sorted(counts, key=lambda path: (-counts[path], path)):
        fewer = min(halves, key=lambda number: sum(counts[file] for file in halves[number]))
        halves[fewer].append(path)
    return [item for item in items if item.path in halves[number]]
