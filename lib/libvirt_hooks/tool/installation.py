# SPDX-License-Identifier: MIT
"""Whether libvirt can call the hooks, and nobody but root can change them."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import time
from pathlib import Path

from .. import OFF, VERSION, tickets
from .model import Finding
from .virsh import has_lxc_driver

HOOKS = Path("/etc/libvirt/hooks")
PACKAGE = Path("/usr/share/libvirt-hooks")  # where the packages have the hooks and their lib
OF_DPKG = Path("/var/lib/dpkg/info/libvirt-hooks.list")  # is there if the package is Debian's; otherwise it is the RPM
TOOL = Path(__file__).resolve().parent  # says how this tool was installed; in a one-file build it is no directory
PROC = Path("/proc")
PACKAGED = "50-libvirt-hooks"  # the package's file in NAME.d
# what dpkg and rpm call other versions of that file; those do nothing
OTHER_VERSIONS = (".dpkg-", ".rpmnew", ".rpmorig", ".rpmsave", ";")
# which daemon runs which hook
DAEMONS = {
    "network": ("virtnetworkd", "libvirtd"),
    "qemu": ("virtqemud", "libvirtd"),
    "lxc": ("virtlxcd", "libvirtd"),
}
FIREWALLS = ("iptables", "ip6tables")  # of bridge-nf-call-NAME. source: Linux, Documentation/networking/bridge.rst
SYSTEMD, WATCH = Path("/run/systemd/system"), "libvirt-vlan-watch"  # the directory is there where systemd runs


def problems() -> list[Finding]:
    """Return what keeps libvirt from calling the hooks, or lets others than root change them."""
    found = []
    if os.path.exists(OFF):
        on = "libvirt-vlan on"
        found.append(Finding("switched-off", "the hooks are switched off", on, f"{on} switches them on again"))
    for hook, daemons in DAEMONS.items():
        files = _ours(hook)
        if not files and (hook != "lxc" or has_lxc_driver()):
            found.append(_missing(hook))
        if len(files) > 1:
            found.append(_twice(files))
        for file in files:
            found += _of_hook(file, [(name, start) for name in daemons for start in _started(name)])
    for directory in (HOOKS / "lib", PACKAGE):
        if directory.is_dir():
            for file in sorted([directory, *directory.rglob("*")]):
                found += _of_owner(file)
    return [*found, *_watch_problems()]


def notes() -> list[Finding]:
    """Return what is possibly intentional: that nobody repairs VLANs, and that a firewall sees VMs' frames."""
    found = []
    if not watch_runs() and not _watch_problems():
        command = f"systemctl enable --now {WATCH}" if SYSTEMD.is_dir() else "libvirt-vlan watch"
        sentence = "libvirt-vlan watch does not run, so what others do to a running VM's tap stays"
        found.append(Finding("watch-not-enabled", sentence, command))
    calling = [name for name in FIREWALLS if _is_on(PROC / "sys/net/bridge" / f"bridge-nf-call-{name}")]
    dropping = [name for name in calling if _drops(name)]
    if dropping:
        command = "; ".join(f"sysctl net.bridge.bridge-nf-call-{name}=0" for name in dropping)
        sentence = (
            f"{' and '.join(dropping)} drops what it does not know, and sees frames between VMs, too (docker switches "
            "that on): VMs in one VLAN may not reach each other"
        )
        found.append(Finding("firewall-sees-frames", sentence, command, f"{command} stops that until the next boot"))
    return found


def _watch_problems() -> list[Finding]:
    if SYSTEMD.is_dir() and _systemctl("is-enabled", WATCH) and not _systemctl("is-active", WATCH):
        return [Finding("watch-not-running", f"{WATCH} is enabled but not running", f"systemctl start {WATCH}")]
    return []


def _is_on(file: Path) -> bool:
    try:
        return file.read_text().strip() == "1"
    except OSError:  # the module br_netfilter is not loaded
        return False


def _drops(program: str) -> bool:
    """Given iptables, ip6tables or arptables, return whether it drops what no rule of its chain FORWARD takes."""
    try:
        done = subprocess.run([program, "-S", "FORWARD"], capture_output=True, text=True, check=False, timeout=10)  # noqa: S603 # one of FIREWALLS
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "-P FORWARD DROP" in done.stdout.splitlines()


def _missing(hook: str) -> Finding:
    """Given a hook that is not there for libvirt, return that finding, and what installs the hook as this tool was."""
    file, command = HOOKS / hook, "make install"
    advice = f"install the hooks with {command}, or with the Ansible role"
    if not TOOL.is_dir():  # this is a one-file build
        command = f"install -m 755 dist/{hook} {HOOKS}/"
        advice = f"make dist builds it: {command}"
    elif PACKAGE in TOOL.parents:
        file = HOOKS / f"{hook}.d" / PACKAGED
        # without these options, dpkg takes it for the operator's wish that a file in /etc is gone, and rpm does nothing
        command = f"rpm -U --replacepkgs libvirt-hooks-{VERSION}-1.noarch.rpm"
        if OF_DPKG.exists():
            command = f"dpkg -i --force-confmiss libvirt-hooks_{VERSION}_all.deb"
        advice = f"install the package again: {command}"
    return Finding("hook-missing", f"{file} does not exist, or belongs to another tool", command, advice)


def _twice(files: list[Path]) -> Finding:
    """Given our files that libvirt would call for one hook, more than one, return that finding."""
    first, *others = files
    if first.name != PACKAGED and others[-1].name == PACKAGED:
        used = f"{first} is used instead of {others[-1]}, so an upgrade of the package libvirt-hooks changes nothing"
        uninstall = "make uninstall"
        remove = f"{'apt purge' if OF_DPKG.exists() else 'dnf remove'} libvirt-hooks"
        keep = f"remove one of the two with {uninstall} or with {remove}"
        return Finding("installed-twice", used, uninstall, keep)
    both = f"{' and '.join(map(str, files))} are the same hook, and libvirt runs each of them"
    return Finding("installed-twice", both, shlex.join(["rm", *map(str, others)]))


def _systemctl(question: str, unit: str) -> bool:
    """Given is-enabled or is-active and a unit, return whether systemctl says so."""
    try:
        done = subprocess.run(["systemctl", "-q", question, unit], stderr=subprocess.DEVNULL, check=False, timeout=10)  # noqa: S603, S607 # fixed words
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def installed() -> dict[str, bool]:
    """Return for each hook that this libvirt calls whether libvirt can find ours."""
    return {hook: bool(_ours(hook)) for hook in DAEMONS if hook != "lxc" or has_lxc_driver()}


def watch_runs() -> bool:
    """Return whether libvirt-vlan watch runs: it has a lock on the directory of the tickets. Source: proc(5), locks."""
    try:
        directory, locks = os.stat(tickets.DIRECTORY), (PROC / "locks").read_text()
    except OSError:
        return False
    device = directory.st_dev
    place = f"{os.major(device):02x}:{os.minor(device):02x}:{directory.st_ino}"
    return any(" FLOCK " in line and " -> " not in line and f" {place} " in line for line in locks.splitlines())


def _of_hook(file: Path, daemons: list[tuple[str, float]]) -> list[Finding]:
    """Given a hook and the daemons that could call it, with when they started (s since 1970), return its problems."""
    found = [finding for path in (file.parent, file) for finding in _of_owner(path)]
    if not os.access(file, os.X_OK):
        ignored = f"{file} is not executable, so libvirt ignores it"
        found.append(Finding("hook-not-executable", ignored, f"chmod 755 {shlex.quote(str(file))}"))
    # libvirt looks for hooks when it starts. source: libvirt, src/util/virhook.c, virHookInitialize()
    found += [
        Finding(
            "hook-newer-than-daemon",
            f"{file} was installed or changed after {name} started, so {name} may not have noticed it",
            f"systemctl restart {name}",
        )
        for name, start in daemons
        if file.stat().st_ctime > start
    ]
    return found


def _of_owner(file: Path) -> list[Finding]:
    """Given a file of the hooks, return a finding if another than root could change it: it runs as root."""
    status = file.stat()
    if status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return []
    name = shlex.quote(str(file))
    open_to_others = f"{file} runs as root, and others can change it"
    return [Finding("writable-by-others", open_to_others, f"chown root:root {name} && chmod go-w {name}")]


def _ours(hook: str) -> list[Path]:
    """Given a hook's name, return our files that libvirt would call for it."""
    marks = (f"from libvirt_hooks.{hook} import main".encode(), bytes(PACKAGE))
    files = [HOOKS / hook, *sorted((HOOKS / f"{hook}.d").glob("*"))]
    files = [file for file in files if file.is_file() and not any(mark in file.name for mark in OTHER_VERSIONS)]
    return [file for file in files if any(mark in file.read_bytes() for mark in marks)]


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
