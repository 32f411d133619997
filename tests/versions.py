# SPDX-License-Identifier: MIT
"""The table of docs/versions.md, as the tests read it."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/versions.md"


def tables():
    """Return the page's tables, each as a list of rows, each of these as a list of cells."""
    blocks = re.findall(r"(?m)(?:^\|.*\n)+", PAGE.read_text())
    rows = [[line.strip("|").split("|") for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for row in table if set(row[0]) != {"-"}] for table in rows]


def environments():
    """Return what the first table says, as {environment: {what: version}}."""
    head, *rows = tables()[0]
    names = [re.findall(r"`(\w+)`", cell) for cell in head]
    return {
        name: {row[0]: row[column] for row in rows} for column in range(1, len(head)) for name in names[column]
    }  # fmt: skip
