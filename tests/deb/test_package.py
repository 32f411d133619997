# SPDX-License-Identifier: MIT
"""make deb, and what is in the package that it makes. What the package does on a host: tests/libvirt/test_deb.py."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from libvirt_hooks import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
DIRECTORY = Path(os.environ["LAB_DEB"])  # where make deb has put it
PACKAGE = DIRECTORY / f"libvirt-hooks_{VERSION}_all.deb"


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    """Give the directory of a / that has the package's files."""
    root = tmp_path_factory.mktemp("inside")
    subprocess.run(["dpkg-deb", "-x", PACKAGE, root], check=True)
    return root


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

    assert done.stdout == f"{PACKAGE.name}: OK\n"


def test_all_that_make_install_installs_is_inside(inside, tmp_path):
    subprocess.run(["make", "-s", "-C", REPOSITORY, "install", f"DESTDIR={tmp_path}"], check=True, capture_output=True)
    installed = {file.name for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".pyc"}

    assert installed - {file.name.removesuffix(".gz") for file in inside.rglob("*")} == set()


def test_each_link_in_its_pages_leads_to_a_file_of_the_package(inside):
    pages = sorted(inside.glob("usr/share/doc/libvirt-hooks/**/*.md"))
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text())]

    assert len(pages) > 10
    assert [(page.name, link) for page, link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_nothing_is_inside_that_python_has_compiled_or_that_belongs_in_usr_local(inside):
    assert [path for path in inside.rglob("*") if path.name in {"__pycache__", "local"}] == []
    units = [file.read_text() for file in inside.rglob("*.service")]
    assert [unit for unit in units if "/usr/local" in unit] == []


def test_each_hook_is_run_as_its_first_line_says(inside):
    """The shell script in NAME.d names Python with the options that the hook itself names."""
    for hook in REPOSITORY.glob("hooks/*"):
        script = (inside / f"etc/libvirt/hooks/{hook.name}.d/50-libvirt-hooks").read_text()
        (python,) = re.findall(r'\| (.*) "\$code/', script)
        assert (inside / "usr/share/libvirt-hooks" / hook.name).read_text().startswith(f"#!{python}\n")
