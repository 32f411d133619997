# SPDX-License-Identifier: MIT
"""Releases whose modules say which release they are of: with these, a test of an upgrade sees what a hook has loaded.

tests/releases.py DIRECTORY    builds the RPMs of the two releases after this one there
"""

import shutil
import subprocess
import sys
from pathlib import Path

from libvirt_hooks import VERSION

LATER = (f"{VERSION}.1", f"{VERSION}.2")
REPOSITORY = Path(__file__).resolve().parents[1]
# A hook that finds this file removes the file first. Then the hook takes eight seconds to load its modules.
LOADING = Path("/run/loading")
MIXTURES = Path("/run/mixtures")  # a hook that has loaded modules of two releases says so there
# Every process of a hook ends with os._exit(): there it looks at what it has imported.
WATCH = f"""
import os, sys, time
if os.path.exists("{LOADING}"):
    os.unlink("{LOADING}")
    time.sleep(8)
def _watch(status, end=os._exit):
    found = {{sys.modules[name].RELEASE for name in list(sys.modules) if name.partition(".")[0] == "libvirt_hooks"}}
    if len(found) != 1:
        with open("{MIXTURES}", "a") as file:
            file.write(f"{{found}}\\n")
    end(status)
os._exit = _watch
"""


def mark(package, version):
    """Given the directory of libvirt_hooks, have all its modules say that they are of this version."""
    for module in package.rglob("*.py"):
        module.write_text(f"{module.read_text()}\nRELEASE = {version!r}\n")
    init = package / "__init__.py"
    init.write_text(f"{init.read_text()}\nVERSION = RELEASE\n{WATCH}")


def copy(target):
    """Return a copy of all that make rpm needs, without the modes and the dates of this checkout."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "dist", "tests")
    return Path(shutil.copytree(REPOSITORY, target, ignore=ignored, copy_function=shutil.copyfile))


def make_rpm(source, target, *words):
    """Given a source, an empty directory and words for make, run make rpm, and return the path of the package.

    The package is then the only one in the directory.
    """
    command = ["make", "-s", "-C", source, "rpm", f"DIST={target}", *words]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    (package,) = target.glob("*.rpm")
    return package


def rpm_of(version, directory):
    """Given a version and a directory, build the RPM of that version in the directory, and return the RPM's path.

    The RPM's shell hooks differ from this checkout's by one more line.
    """
    source = copy(directory / "source")
    mark(source / "lib/libvirt_hooks", version)
    for name, old, new in [
        ("rpm/libvirt-hooks.spec", f"Version:        {VERSION}\n", f"Version:        {version}\n"),
        ("debian/hook", "hook=@HOOK@\n", f"hook=@HOOK@\n# {version}\n"),
    ]:
        text = (source / name).read_text()
        if old not in text:
            sys.exit(f"{name} does not have the line {old}")
        (source / name).write_text(text.replace(old, new))
    return make_rpm(source, directory)


if __name__ == "__main__":
    for version in LATER:
        directory = Path(sys.argv[1]) / version
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        rpm_of(version, directory)
