# SPDX-License-Identifier: MIT
"""The hook as one file, made by make dist, where none of the Python packages is installed."""

import shutil
from zipfile import ZipFile

import pytest
from conftest import LOG, hook, port_created
from iproute import ACCESS, eventually, vlans
from packages import DIST, hidden


@pytest.fixture(autouse=True)
def _no_packages(tmp_path_factory):
    with hidden(tmp_path_factory.mktemp("hidden")):
        yield


@pytest.fixture
def rewritten(tmp_path):
    """Give rewritten(change), which returns the hook with change(name, bytes) for each member of its archive."""

    def rewrite(change):
        members, target = ZipFile(DIST / "network"), tmp_path / "network"
        with open(target, "wb") as file:
            file.write(b"#!/usr/bin/python3 -IS\n")
            with ZipFile(file, "w") as archive:
                for name in members.namelist():
                    archive.writestr(name, change(name, members.read(name)))
        target.chmod(0o755)
        return target

    return rewrite


def becomes_right(bridge, executable):
    """Have this hook put a port into its VLAN, and see it there."""
    done = hook("port-created", port_created(), executable=executable)
    assert (done.returncode, done.stderr) == (0, "")
    tap = bridge.add_tap()
    eventually(lambda: vlans(tap) == {46: ACCESS})


def test_a_port_is_put_into_its_vlan(bridge):
    becomes_right(bridge, DIST / "network")


def test_an_older_lib_beside_it_is_not_used(bridge, tmp_path):
    (tmp_path / "lib/libvirt_hooks").mkdir(parents=True)
    (tmp_path / "lib/libvirt_hooks/__init__.py").write_text("raise SystemExit('the older lib')\n")

    becomes_right(bridge, shutil.copy(DIST / "network", tmp_path))


def test_a_python_of_another_version_than_the_builders_takes_the_sources(bridge, rewritten):
    becomes_right(bridge, rewritten(lambda name, data: b"\0\0\r\n" + data[4:] if name.endswith(".pyc") else data))


@pytest.mark.parametrize("member", ["libvirt_hooks/network.py", "libvirt_hooks/ports.py", "defusedxml/__init__.py"])
def test_when_it_is_damaged_only_vms_with_a_portgroup_are_stopped(bridge, rewritten, member):
    damaged = rewritten(lambda name, data: b"(" + data[8:] if name.startswith(member) else data)

    done = hook("port-created", port_created(), executable=damaged)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert hook("port-created", port_created("no-portgroup"), executable=damaged).returncode == 0
    assert hook("started", executable=damaged).returncode == 0
    LOG.unlink(missing_ok=True)
