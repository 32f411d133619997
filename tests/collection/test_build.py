# SPDX-License-Identifier: MIT
"""make collection: what is inside, and that the same sources make the same bytes. Needs ansible-core, and no lab."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = "roles/libvirt_hooks/files"


def build(repository, directory, umask=0o022):
    """Build the collection from a checkout, and return the path of its archive in this directory."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["make", "-s", "-C", repository, "collection", f"DIST={directory}"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path}, umask=umask, stdout=subprocess.DEVNULL)
    (archive,) = directory.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return build(REPOSITORY, tmp_path_factory.mktemp("dist"))


def test_a_copy_of_the_sources_makes_the_same_bytes(collection, tmp_path):
    """Made later, in another order, by somebody with another umask, after Python has compiled them."""
    for name in sorted(os.listdir(REPOSITORY), reverse=True):
        if name in ("ansible", "completion", "hooks", "lib", "sbin", "man", "systemd"):
            shutil.copytree(REPOSITORY / name, tmp_path / "copy" / name, copy_function=shutil.copy)
    for name in ("Makefile", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / "copy")
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path / "copy"], check=True)

    assert build(tmp_path / "copy", tmp_path / "dist", 0o077).read_bytes() == collection.read_bytes()


def test_the_role_has_all_that_make_install_installs(collection, tmp_path):
    make = ["make", "-s", "-C", REPOSITORY, "install", f"DESTDIR={tmp_path}", "SHTAB_PYTHON=false"]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    installed = {file.name for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    with tarfile.open(collection) as archive:
        inside = {Path(name).name for name in archive.getnames() if name.startswith(f"{FILES}/")}

    assert installed - inside == set()


def test_nothing_is_inside_that_was_made_on_the_machine_that_builds_it(collection):
    with tarfile.open(collection) as archive:
        entries = archive.getmembers()

    assert [entry.name for entry in entries if "__pycache__" in entry.name or entry.name.endswith(".pyc")] == []
    assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in entries} == {(0, 0, "", "", 0)}
