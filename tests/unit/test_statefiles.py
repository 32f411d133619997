# SPDX-License-Identifier: MIT
"""What libvirtd notes in /run/libvirt: names from its XML lead to no other file."""

import pytest

from libvirt_hooks import statefiles

UUID = "caa15290-e4fa-4d2b-a36b-68e22861b043"


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    """A VM that runs with vnet0, and a granted port of a network, called lan both."""
    (tmp_path / "network/lan/ports").mkdir(parents=True)
    (tmp_path / f"network/lan/ports/{UUID}.xml").touch()
    (tmp_path / "qemu").mkdir()
    (tmp_path / "qemu/lan.xml").write_bytes(b"<domain><name>\xff</name><target dev='vnet0'/></domain>")
    monkeypatch.setattr(statefiles, "DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_port_that_libvirt_has_granted_is_there():
    assert statefiles.has_port("lan", UUID)
    assert not statefiles.has_port("lan", UUID.replace("3", "4"))
    assert not statefiles.has_port("dmz", UUID)


def test_a_vm_runs_with_its_own_tap():
    assert statefiles.runs_with("lan", "vnet0")
    assert not statefiles.runs_with("lan", "vnet")
    assert not statefiles.runs_with("db", "vnet0")


@pytest.mark.parametrize("name", ["", "../network/lan", "../qemu/lan", "lan/../lan", "/lan", "lan\0"])
def test_a_name_that_is_no_file_name_leads_nowhere(name, run):
    (run / "network/ports").mkdir()
    (run / f"network/ports/{UUID}.xml").touch()  # what a network without a name would lead to
    (run / "qemu/.xml").write_text("<target dev='vnet0'/>")

    assert not statefiles.has_port(name, UUID)
    assert not statefiles.runs_with(name, "vnet0")
