# SPDX-License-Identifier: MIT
"""What the README shows is what the demo runs."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_the_network_is_the_demos():
    assert (REPOSITORY / "examples/network.xml").read_text() in README


def test_the_nic_is_the_demos():
    lines = (REPOSITORY / "examples/web.xml").read_text().splitlines(keepends=True)
    # the demo has no option ROMs for a guest without a disk, and no hypervisor needs that line
    nic = "".join(line for line in lines[lines.index("    <interface type='network'>\n") :] if "<rom " not in line)

    assert nic.partition("</interface>\n")[0] in README


def test_every_module_is_in_the_table():
    modules = {file.stem for file in (REPOSITORY / "lib/libvirt_hooks").rglob("*.py")} - {"__init__"}

    assert [module for module in sorted(modules) if f"`{module}`" not in README] == []
