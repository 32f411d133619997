#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draw the figures that matter most in docs/benchmarks.md, from the page itself: so the plot has the page's numbers.

    tests/bench/plot.py docs/benchmarks.md docs/benchmarks.svg

The same page and the same matplotlib make the same bytes.
"""

import re
import sys
from pathlib import Path

BLOCKED = "libvirtd blocked by port-created"
JOINS = "tap joins {} s after the hook → last VLAN change"
OURS, OTHERS, BASH = (
    "#0072B2",
    "#999999",
    "#E69F00",
)  # of Okabe's and Ito's colours, which colour-blind people tell apart
Bars = list[tuple[str, int, str]]  # what was measured, its milliseconds, its colour


def figures(page: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Given the page, return what the table says: (what, against) and the milliseconds of each."""
    found, last = {}, ""
    for what, ours, against, theirs in re.findall(r"(?m)^\| (.*?) \| (\d+) \| (.*?) \| (\d+) \|", page):
        last = what.strip() or last
        found[last, against] = (int(ours), int(theirs))
    return found


def bars(page: str) -> dict[str, Bars]:
    """Given the page, return the bars of each part of the plot, from the top. Raises KeyError if the page lacks one."""
    of = figures(page)
    blocked: Bars = [
        ("bare Python", of[BLOCKED, "bare Python"][1], OTHERS),
        ("the least possible", of[BLOCKED, "the least possible"][1], OTHERS),
        ("these hooks", of[BLOCKED, "bare Python"][0], OURS),
        ("bash hook", of[BLOCKED, "bash hook"][1], BASH),
    ]
    joining: Bars = [("typed by hand", of[JOINS.format(3), "typed"][1], OTHERS)]
    for seconds in ("0", "0.3", "3", "30"):
        joining.append((f"these hooks, tap after {seconds} s", of[JOINS.format(seconds), "typed"][0], OURS))
    joining.append(("bash hook, tap after 0.3 s", of[JOINS.format("0.3"), "bash hook"][1], BASH))
    return {
        "How long port-created blocks libvirtd": blocked,
        "From the tap's joining the bridge to its last VLAN change": joining,
    }


def draw(parts: dict[str, Bars], file: str) -> None:
    """Given the bars of each part, draw them into an SVG file."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    heights = [len(part) for part in parts.values()]
    figure, panels = pyplot.subplots(len(parts), 1, figsize=(7, 4), height_ratios=heights, layout="constrained")
    longest = max(milliseconds for part in parts.values() for _, milliseconds, _ in part)
    for panel, (title, part) in zip(panels, parts.items()):
        names, milliseconds, colours = zip(*part)
        drawn = panel.barh(names, milliseconds, color=colours, height=0.7)
        panel.bar_label(drawn, labels=[f"{value} ms" for value in milliseconds], padding=3)
        panel.set_title(title, loc="left", fontsize=10)
        panel.set_xlim(0, longest * 1.12)
        panel.invert_yaxis()
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.tick_params(left=False, bottom=False, labelbottom=False)
    figure.savefig(file, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(bars(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])
