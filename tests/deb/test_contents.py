# SPDX-License-Identifier: MIT
"""What is in the Debian package, and in the RPM where make rpm has built one: the same files, in each one's places."""

import gzip
import os
import re
import subprocess
from pathlib import Path

import pytest

from libvirt_hooks import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
DEB = Path(os.environ["LAB_DEB"]) / f"libvirt-hooks_{VERSION}_all.deb"
RPM = Path(os.environ["LAB_RPM"]) / f"libvirt-hooks-{VERSION}-1.noarch.rpm" if "LAB_RPM" in os.environ else None
PACKAGES = [package for package in (DEB, RPM) if package]
LICENCE = "usr/share/licenses/libvirt-hooks/LICENSE"
# places in the Debian package, and in the RPM
PLACES = {
    "lib/systemd": "usr/lib/systemd",
    "usr/share/zsh/vendor-completions": "usr/share/zsh/site-functions",
    "usr/share/doc/libvirt-hooks/copyright": LICENCE,
}
OF_DEBIAN = {"usr/share/doc/libvirt-hooks/changelog.gz", "usr/share/python3/runtime.d/libvirt-hooks.rtupdate"}
OF_FEDORA = {"usr/lib/systemd/system-preset/85-libvirt-hooks.preset"}


def unpack(package, root):
    """Unpack a package's files into a directory that stands for /."""
    if package.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
        return
    archive = subprocess.run(["rpm2archive", "-"], stdin=package.open("rb"), check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-xz", "-C", root], input=archive, check=True)


@pytest.fixture(scope="module", params=PACKAGES, ids=lambda package: package.suffix[1:])
def inside(request, tmp_path_factory):
    """Give the directory of a / that has the package's files."""
    root = tmp_path_factory.mktemp("inside")
    unpack(request.param, root)
    return root


def place(root, file):
    """Given a file of one of the packages, unpacked to this directory, return its place in the RPM."""
    path = str(file.relative_to(root))
    for debian, fedora in PLACES.items():
        if path.startswith(debian):
            return fedora + path[len(debian) :]
    return path


def contents(root):
    """Return by place in the RPM what is in each file below this directory, and its mode; of a link, where it leads."""
    found = {}
    for file in root.rglob("*"):
        if file.is_symlink():
            found[place(root, file)] = place(root, file.resolve()), "link"
        elif file.is_file():
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            found[place(root, file)] = data, f"{file.stat().st_mode:o}"
    return found


@pytest.mark.skipif(not RPM, reason="tox -e rpm builds both packages")
def test_the_files_of_both_are_the_same_but_for_their_places(tmp_path):
    for package in (DEB, RPM):
        (tmp_path / package.suffix).mkdir()
        unpack(package, tmp_path / package.suffix)
    debian, fedora = contents(tmp_path / ".deb"), contents(tmp_path / ".rpm")

    assert debian.keys() ^ fedora.keys() == OF_DEBIAN | OF_FEDORA
    differ = [file for file in debian.keys() & fedora.keys() if debian[file] != fedora[file]]
    assert differ == [LICENCE]  # Debian has a form of its own for it
    assert fedora[LICENCE][0] == (REPOSITORY / "LICENSE").read_bytes()


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
