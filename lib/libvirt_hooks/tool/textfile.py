# SPDX-License-Identifier: MIT
"""A file that others read at any time: it is there whole, or as it was."""

from __future__ import annotations

import os
import tempfile

MODE = 0o644  # node_exporter is not root


def write_whole(path: str, text: str) -> None:
    """Write this text to this path, in one step. Raises OSError if that fails.

    The directory can be another user's: a new file with a random name, never one that is there, becomes the file.
    """
    directory, name = os.path.split(os.path.abspath(path))
    descriptor, new = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), MODE)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
