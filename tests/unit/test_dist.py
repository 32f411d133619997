# SPDX-License-Identifier: MIT
"""make dist: each program as one file. That the hooks work so is seen in the lab."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from libvirt_hooks.tool import installation

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = ("libvirt-vlan", "lxc", "network", "qemu")


def make_dist(repository, target):
    subprocess.run(["make", "-s", "-C", repository, "dist", f"DIST={target}"], check=True, stdin=subprocess.DEVNULL)
    return target


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Give the directory that make dist has built."""
    return make_dist(REPOSITORY, tmp_path_factory.mktemp("dist"))


def test_the_same_bytes_are_built_again_elsewhere_and_later(dist, tmp_path):
    copy = tmp_path / "copy"
    for part in ("hooks", "lib", "sbin", "onefile"):
        shutil.copytree(REPOSITORY / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("Makefile", "LICENSE"):
        shutil.copyfile(REPOSITORY / part, copy / part)
    again = make_dist(copy, tmp_path / "again")

    assert sorted(file.name for file in again.iterdir()) == ["SHA256SUMS", *PROGRAMS]
    for program in PROGRAMS:
        assert (again / program).read_bytes() == (dist / program).read_bytes(), program


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_modules_are_inside_with_their_compiled_code_and_nothing_else(dist, program):
    inside = {name for name in ZipFile(dist / program).namelist() if ".dist-info/" not in name}
    sources = {name for name in inside if name.endswith(".py")}

    lib = REPOSITORY / "lib"
    assert sources >= {str(file.relative_to(lib)) for file in lib.rglob("*.py")}
    assert sources >= {"__main__.py", "defusedxml/__init__.py", "sh/__init__.py", "tenacity/__init__.py"}
    assert inside == {*sources, *(f"{name}c" for name in sources), "LICENSE"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_licence_of_all_that_is_inside_is_inside(dist, program):
    file = ZipFile(dist / program)
    licences = {name.partition("-")[0]: file.read(name).decode() for name in file.namelist() if "LICENSE" in name}

    assert sorted(licences) == ["LICENSE", "defusedxml", "sh", "tenacity"]
    assert licences["LICENSE"] == (REPOSITORY / "LICENSE").read_text()
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in licences["defusedxml"]
    assert "Permission is hereby granted, free of charge" in licences["sh"]
    assert "Apache License" in licences["tenacity"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_a_script_for_the_systems_python(dist, program):
    assert (dist / program).stat().st_mode & 0o777 == 0o755
    assert (dist / program).read_bytes().startswith(b"#!/usr/bin/python3 -I")


def test_the_tool_needs_no_packages(dist):
    """-S: no directory of packages is on sys.path."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", dist / "libvirt-vlan", "--help"], check=True, env={}, capture_output=True
    )

    assert done.stdout.startswith(b"usage: libvirt-vlan")


def test_nothing_is_compiled_at_a_start(dist, tmp_path):
    """Sources that cannot be compiled do no harm, so they are not even read."""
    members, changed = ZipFile(dist / "libvirt-vlan"), tmp_path / "libvirt-vlan"
    with open(changed, "wb") as file, ZipFile(file, "w") as archive:
        for name in members.namelist():
            archive.writestr(name, b"(" if name.endswith(".py") else members.read(name))
    done = subprocess.run(["/usr/bin/python3", "-I", changed, "--help"], check=True, env={}, capture_output=True)

    assert done.stdout.startswith(b"usage: libvirt-vlan")


@pytest.fixture
def installed(dist, tmp_path):
    """Give the directory of a / where the hooks are installed as one file each."""
    hooks = tmp_path / "etc/libvirt/hooks"
    hooks.mkdir(parents=True)
    for hook in ("network", "qemu", "lxc"):
        shutil.copy(dist / hook, hooks)
    return hooks


def make(target, root):
    subprocess.run(["make", "-s", "-C", REPOSITORY, target, f"DESTDIR={root}"], check=True, capture_output=True)


def test_what_is_installed_so_is_upgraded_as_ours(installed, tmp_path):
    make("install", tmp_path)

    for hook in ("network", "qemu", "lxc"):
        assert (installed / hook).read_bytes() == (REPOSITORY / "hooks" / hook).read_bytes()
        assert not (installed / f"{hook}.d").exists()


def test_what_is_installed_so_is_uninstalled_as_ours(installed, tmp_path):
    make("uninstall", tmp_path)

    assert list(installed.iterdir()) == []


def test_what_is_installed_so_is_ours_to_libvirt_vlan_check(installed, tmp_path, monkeypatch):
    monkeypatch.setattr(installation, "HOOKS", installed)
    monkeypatch.setattr(installation, "PROC", tmp_path / "no-proc")

    codes = {finding.code for finding in installation.problems()}
    assert not codes & {"hook-missing", "hook-not-executable"}
