# SPDX-License-Identifier: MIT
"""The plot in docs/ has the numbers of its page."""

from pathlib import Path
from xml.etree import ElementTree as ET

from bench.plot import bars, figures

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "benchmarks.md").read_text()
TABLE = """\
| libvirtd blocked by port-created | 405 | bare Python | 272 | 1.49 | ≤ 1.5 |
|  | 406 | the least possible | 332 | 1.22 |  |
| importing tenacity | 309 | typed | 80 | 3.88 | missed: |
"""


def test_the_table_is_read_with_what_a_row_leaves_out():
    assert figures(TABLE) == {
        ("libvirtd blocked by port-created", "bare Python"): (405, 272),
        ("libvirtd blocked by port-created", "the least possible"): (406, 332),
        ("importing tenacity", "typed"): (309, 80),
    }


def test_the_plot_has_the_pages_numbers():
    drawn = [text.text for text in ET.parse(DOCS / "benchmarks.svg").iter("{http://www.w3.org/2000/svg}text")]

    for title, part in bars(PAGE).items():
        assert title in drawn
        names, milliseconds, _ = zip(*part)
        begin = drawn.index(names[0])
        assert drawn[begin : begin + len(part)] == list(names)
        values = [f"{value} ms" for value in milliseconds]
        assert "\n".join(values) in "\n".join(drawn)
