# SPDX-License-Identifier: MIT
"""The processes there are, read from /proc: in the lab, `pgrep` takes fifty times as long."""

import os


def command_lines():
    """Return (process id, [word, ...]) of each process that has a command line: the kernel's have none."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb", buffering=0) as file:
                    words = file.read().split(b"\0")
            except OSError:  # it has just ended
                continue
            if words != [b""]:
                found.append((int(name), words))
    return found
