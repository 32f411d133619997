# SPDX-License-Identifier: MIT
"""Which of the host's network services owns an interface.

When that service reloads, the service undoes the changes to the interface that somebody has typed by hand.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .. import sysfs

NETWORKD = Path("/run/systemd/netif/links")  # source: systemd, src/network/networkd-link.c, link_save()
INTERFACES = Path("/etc/network/interfaces")  # source: interfaces(5)
NETWORK_MANAGER = Path("/run/NetworkManager")
TIMEOUT_SECONDS = 10


def lasting(interface: str) -> str:
    """Given an interface, return where to write a change so that it lasts, as half a sentence, "" if nobody knows."""
    file = _networkd_file(interface)
    if file:
        return f"systemd-networkd undoes that when it reloads: write it into {file}, too"
    connection = _connection(interface)
    if connection:
        return f"NetworkManager undoes that when it activates {connection}: nmcli con edit {connection} makes it last"
    file = _interfaces_file(interface)
    return f"that lasts until {interface} is set up again: write it into {file}, too" if file else ""


def _networkd_file(interface: str) -> str:
    try:
        text = (NETWORKD / str(sysfs.ifindex(interface))).read_text()
    except OSError:
        return ""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return found.get("NETWORK_FILE", "") if found.get("ADMIN_STATE") in ("configuring", "configured") else ""


def _connection(interface: str) -> str:
    """Given an interface, return the name of its connection, "" if NetworkManager does not manage the interface."""
    if not NETWORK_MANAGER.is_dir():
        return ""
    question = ["nmcli", "-g", "GENERAL.CONNECTION", "device", "show", interface]
    try:
        done = subprocess.run(question, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)  # noqa: S603 # fixed words, then the name of an interface
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _interfaces_file(interface: str) -> str:
    stanza = re.compile(rf"(?m)^\s*iface\s+{re.escape(interface)}(\s|$)")
    for file in (INTERFACES, *sorted(INTERFACES.with_name("interfaces.d").glob("*"))):
        try:
            if stanza.search(file.read_text(errors="replace")):
                return str(file)
        except OSError:
            continue
    return ""
