# SPDX-License-Identifier: MIT
"""Whether libvirt can call the hooks, and nobody but root can change them."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from ..hook import OFF

HOOKS = Path("/etc/libvirt/hooks")
PROC = Path("/proc")
DAEMONS = {"network": ("virtnetworkd", "libvirtd"), "qemu": ("virtqemud", "libvirtd")}  # which runs which hook


def problems() -> list[str]:
    """Return what keeps libvirt from calling the hooks, or lets others than root change them, a line each."""
    lines = ["the hooks are switched off: libvirt-vlan on switches them on again"] if os.path.exists(OFF) else []
    for hook, daemons in DAEMONS.items():
        files = _ours(hook)
        if not files:
            lines.append(f"{HOOKS / hook} is not there, or is another's: install the hooks with make install")
        for file in files:
            lines += _of_hook(file, [(name, start) for name in daemons for start in _started(name)])
    if (HOOKS / "lib").is_dir():
        lines += [line for file in sorted([HOOKS / "lib", *(HOOKS / "lib").rglob("*")]) for line in _of_owner(file)]
    return lines


def _of_hook(file: Path, daemons: list[tuple[str, float]]) -> list[str]:
    """Given a hook and the daemons that could call it, with when they started (s since 1970), return its problems."""
    lines = [line for path in (file.parent, file) for line in _of_owner(path)]
    if not os.access(file, os.X_OK):
        lines.append(f"{file} is not executable, so libvirt passes it over: chmod 755 {file}")
    # libvirt looks for hooks when it starts. source: libvirt, src/util/virhook.c, virHookInitialize()
    lines += [
        f"{file} was installed or changed after {name} started, which may not know it: systemctl restart {name}"
        for name, start in daemons
        if file.stat().st_ctime > start
    ]
    return lines


def _of_owner(file: Path) -> list[str]:
    """Given a file of the hooks, return a line if another than root could change it: it runs as root."""
    status = file.stat()
    if status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return []
    return [f"{file} runs as root, and others can change it: chown root:root {file} && chmod go-w {file}"]


def _ours(hook: str) -> list[Path]:
    """Given a hook's name, return our files that libvirt would call for it."""
    import_line = f"from libvirt_hooks.{hook} import main".encode()
    files = [HOOKS / hook, *sorted((HOOKS / f"{hook}.d").glob("*"))]
    return [file for file in files if file.is_file() and import_line in file.read_bytes()]


def _started(daemon: str) -> list[float]:
    """Given a daemon's name, return when root's processes of that name started, in seconds since 1970."""
    found = []
    for process in PROC.glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == daemon and process.stat().st_uid == 0:
                # source: proc(5): field 22, counted after the command's name, which can have anything in it
                ticks = int((process / "stat").read_text().rpartition(")")[2].split()[19])
                seconds_ago = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
                found.append(time.time() - seconds_ago)
        except (OSError, ValueError):  # it has ended
            continue
    return found
