#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Build each program as one file, with lib, the packages that it needs and their licences inside: for make dist.

    onefile/build.py DIRECTORY

A #! line with a zip file behind it, which Python runs as it is. Source: https://docs.python.org/3/library/zipapp.html
The same Python makes the same bytes of the same sources.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from py_compile import PycInvalidationMode
from zipfile import ZipFile, ZipInfo

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = [REPOSITORY / name for name in ("hooks/network", "hooks/qemu", "hooks/lxc", "sbin/libvirt-vlan")]
NOT_RUN = ("*.pyi", "py.typed", "RECORD", "WHEEL", "top_level.txt")  # the rest of a wheel is code or its licence


def fetch(wheels: Path) -> None:
    """Given a directory, put the packages' wheels there, by a pip of our own: Debian's Python comes without one."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        pip = [f"{directory}/bin/pip", "-q", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        subprocess.run([*pip, "-r", REPOSITORY / "onefile/requirements.txt", "-d", wheels], check=True)


def lay_out(program: Path, wheels: Path, tree: Path) -> None:
    """Given a program, the wheels and a directory, make it what is to be in the archive."""
    for wheel in wheels.iterdir():
        ZipFile(wheel).extractall(tree)
    for pattern in NOT_RUN:
        for file in tree.rglob(pattern):
            file.unlink()
    shutil.copytree(REPOSITORY / "lib", tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(REPOSITORY / "LICENSE", tree / "LICENSE")
    shutil.copyfile(program, tree / "__main__.py")
    # X.pyc beside X.py is where Python looks in an archive. Another version than ours takes X.py. Not checked by time,
    # which would be that of the host's time zone.
    unchecked = PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(tree, quiet=1, legacy=True, stripdir=str(tree), invalidation_mode=unchecked):
        raise SystemExit("not all of it can be compiled")


def archive(program: Path, tree: Path, target: Path) -> None:
    """Given a program, the directory made of it and a file's name, write that file."""
    with open(target, "wb") as file:
        file.write(program.read_bytes().partition(b"\n")[0] + b"\n")
        with ZipFile(file, "w") as entries:  # not compressed: it would be uncompressed at each start
            for path in sorted(path for path in tree.rglob("*") if path.is_file()):
                entry = ZipInfo(str(path.relative_to(tree)))  # of 1980, by default
                entry.external_attr = 0o644 << 16
                entries.writestr(entry, path.read_bytes())
    target.chmod(0o755)


def main() -> None:
    """Build all of them into the directory that the command line names."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        fetch(Path(directory, "wheels"))
        for program in PROGRAMS:
            tree = Path(directory, program.name)
            lay_out(program, Path(directory, "wheels"), tree)
            archive(program, tree, target / program.name)


if __name__ == "__main__":
    main()
