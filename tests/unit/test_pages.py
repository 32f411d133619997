# SPDX-License-Identifier: MIT
"""The pages for users: what they link to is there, and what they show is what the demo and the tool do."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from libvirt_hooks.tool.command import parser

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
HOW_IT_WORKS = (REPOSITORY / "docs/how-it-works.md").read_text()
PAGES = {
    str(page.relative_to(REPOSITORY)): page.read_text()
    for page in [*REPOSITORY.glob("*.md"), *sorted(REPOSITORY.glob("docs/*.md"))]
}
WORDS_MAX = 1200  # ten minutes at the pace at which people read about commands
BLOCKS = [(name, block) for name, page in PAGES.items() for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", page)]
LINKS = [(name, link) for name, page in PAGES.items() for link in re.findall(r"\]\(([^)\s]+)\)", page)]
TOOL = [
    command
    for _, block in BLOCKS
    for line in block.splitlines()
    if (command := shlex.split(line, comments=True))[:1] == ["libvirt-vlan"]
]


def anchors(page):
    """Given a page's text, return the anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_readme_is_read_in_ten_minutes():
    assert len(README.split()) <= WORDS_MAX


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_each_link_leads_somewhere(name, link):
    if link.startswith("https://"):
        return
    path, _, anchor = link.partition("#")
    file = (REPOSITORY / name).parent / path if path else REPOSITORY / name

    assert file.exists()
    assert not anchor or anchor in anchors(file.read_text())


def test_each_page_is_linked_from_the_readme():
    linked = {link for name, link in LINKS if name == "README.md"}

    assert {name for name in PAGES if name.startswith("docs/")} - linked == set()


@pytest.mark.parametrize(("name", "block"), BLOCKS)
def test_each_block_of_commands_is_shell(name, block):
    done = subprocess.run(["sh", "-n"], input=block, text=True, capture_output=True, check=False)

    assert done.stderr == ""


@pytest.mark.parametrize("command", TOOL, ids=shlex.join)
def test_the_tool_takes_each_command(command):
    assert parser().parse_args(command[1:])


def test_the_network_is_the_demos():
    example = (REPOSITORY / "examples/network.xml").read_text()

    assert re.sub(r"(?s)  <!--.*?-->\n", "", example) in README


def test_the_nic_is_the_demos():
    lines = (REPOSITORY / "examples/web.xml").read_text().splitlines(keepends=True)
    # the demo has no option ROMs for a guest without a disk, and no hypervisor needs that line
    nic = "".join(line for line in lines[lines.index("    <interface type='network'>\n") :] if "<rom " not in line)

    assert nic.partition("</interface>\n")[0] in README


def test_every_module_is_in_the_table():
    modules = {file.stem for file in (REPOSITORY / "lib/libvirt_hooks").rglob("*.py")} - {"__init__"}

    assert [module for module in sorted(modules) if f"`{module}`" not in HOW_IT_WORKS] == []


def imports_of(file):
    """Given one of our modules, return the modules of ours that it imports, also in a function; not those for types."""
    tree = ast.parse(file.read_text())
    for block in [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]:
        block.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module.rpartition(".")[2]} if node.module else {name.name for name in node.names}
    return found & MODULES


MODULES = {file.stem for file in (REPOSITORY / "lib/libvirt_hooks").rglob("*.py")} - {"__init__"}


def test_each_module_imports_only_those_below_it_in_the_table():
    """So there is no circle, and no import that runs upwards."""
    table = HOW_IT_WORKS[HOW_IT_WORKS.index("| module |") :]
    order = [name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    upwards = [
        f"{file.stem} imports {name}"
        for file in (REPOSITORY / "lib/libvirt_hooks").rglob("*.py")
        if file.stem in MODULES
        for name in imports_of(file)
        if order.index(name) <= order.index(file.stem)
    ]

    assert sorted(order) == sorted(MODULES)
    assert upwards == []
