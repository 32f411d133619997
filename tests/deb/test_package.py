# SPDX-License-Identifier: MIT
"""make deb. What is in the package: test_contents.py. What it does on a host: tests/libvirt/test_deb.py."""

import os
import shutil
import subprocess
from pathlib import Path

from libvirt_hooks import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
DIRECTORY = Path(os.environ["LAB_DEB"])  # where make deb has put it
PACKAGE = DIRECTORY / f"libvirt-hooks_{VERSION}_all.deb"


def test_lintian_finds_nothing():
    done = subprocess.run(["lintian", "--allow-root", PACKAGE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_same_bytes_are_built_again_elsewhere_later_and_by_a_user_with_another_umask(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(
        REPOSITORY, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist"), copy_function=shutil.copyfile
    )
    for program in [copy / "debian/rules", *copy.glob("hooks/*"), *copy.glob("sbin/*")]:
        program.chmod(0o700)
    umask = os.umask(0o077)
    try:
        subprocess.run(["make", "-s", "-C", copy, "deb", f"DIST={tmp_path}"], check=True, stdin=subprocess.DEVNULL)
    finally:
        os.umask(umask)

    assert (tmp_path / PACKAGE.name).read_bytes() == PACKAGE.read_bytes()


def test_whoever_builds_it_is_its_maintainer(tmp_path):
    command = ["make", "-s", "-C", REPOSITORY, "deb", f"DIST={tmp_path}", "MAINTAINER=R&D |1 <hosts@example.net>"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shown = subprocess.check_output(["dpkg-deb", "-f", tmp_path / PACKAGE.name, "Maintainer"], text=True)

    assert shown == "R&D |1 <hosts@example.net>\n"


def test_its_checksum_is_beside_it():
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=DIRECTORY, check=True, capture_output=True, text=True)

    assert f"{PACKAGE.name}: OK" in done.stdout.splitlines()
