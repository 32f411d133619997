#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Build the Ansible collection, with the files that its role installs inside: for make collection.

    ansible/build.py DIRECTORY

The same sources make the same bytes. `ansible-galaxy` is the one on PATH.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ANSIBLE = REPOSITORY / "ansible"
# directories of a checkout that the role installs files of
INSTALLED = ("completion", "hooks", "lib", "sbin", "man", "systemd")
PLAYBOOKS = ("site.yml", "report.yml", "templates")
CACHES = shutil.ignore_patterns("__pycache__")
CHECKOUT_ONLY = shutil.ignore_patterns("__pycache__", "build.py", "inventory.example", *PLAYBOOKS, "library")
# source: https://reproducible-builds.org/specs/source-date-epoch/
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def lay_out(tree: Path) -> None:
    """Given a directory that is not there yet, make it what is to be in the collection.

    A collection has its playbooks and its modules in places of their own.
    source: https://docs.ansible.com/ansible/latest/dev_guide/developing_collections_structure.html
    """
    role = Path("roles/libvirt_hooks")
    shutil.copytree(ANSIBLE, tree, ignore=CHECKOUT_ONLY)
    shutil.copytree(ANSIBLE / role / "library", tree / "plugins/modules", ignore=CHECKOUT_ONLY)
    (tree / "playbooks").mkdir()
    for name in PLAYBOOKS:
        copy = shutil.copytree if (ANSIBLE / name).is_dir() else shutil.copy
        copy(ANSIBLE / name, tree / "playbooks" / name)
    for name in INSTALLED:
        shutil.copytree(REPOSITORY / name, tree / role / "files" / name, ignore=CACHES)


def build(tree: Path, directory: Path) -> Path:
    """Given a collection's tree and a directory, have ansible-galaxy build it there; return the archive's path."""
    command = ["ansible-galaxy", "collection", "build", str(tree), "--output-path", str(directory)]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        raise SystemExit("ansible-galaxy is not there: install ansible-core") from None
    (archive,) = directory.glob("*.tar.gz")
    return archive


def write_reproducibly(archive: Path, target: Path) -> None:
    """Given the archive of ansible-galaxy, write the same with its files in order, at EPOCH."""
    with tarfile.open(archive) as old:
        content = {entry: file.read() if (file := old.extractfile(entry)) else b"" for entry in old}
    by_name = {entry.name: entry for entry in content}
    # FILES.json lists the files in the order in which the file system has them, and MANIFEST.json has its checksum.
    listed = json.loads(content[by_name["FILES.json"]])
    listed["files"].sort(key=lambda file: file["name"])
    content[by_name["FILES.json"]] = json.dumps(listed, indent=True).encode()
    manifest = json.loads(content[by_name["MANIFEST.json"]])
    checksum = hashlib.sha256(content[by_name["FILES.json"]]).hexdigest()
    manifest["file_manifest_file"]["chksum_sha256"] = checksum
    content[by_name["MANIFEST.json"]] = json.dumps(manifest, indent=True).encode()
    with gzip.GzipFile(target, "wb", mtime=EPOCH) as packed, tarfile.open(fileobj=packed, mode="w") as new:
        for _, entry in sorted(by_name.items()):
            entry.size, entry.mtime, entry.pax_headers = len(content[entry]), EPOCH, {}
            new.addfile(entry, io.BytesIO(content[entry]))


def main() -> None:
    """Build the collection in the directory that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} DIRECTORY")
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        lay_out(Path(temporary) / "tree")
        archive = build(Path(temporary) / "tree", Path(temporary))
        write_reproducibly(archive, target / archive.name)
        print(target / archive.name)


if __name__ == "__main__":
    main()
