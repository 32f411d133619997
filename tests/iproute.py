# SPDX-License-Identifier: MIT
"""What tests ask of the kernel, and have it do, with iproute2: independent of the project's own code."""

import json
import socket
import subprocess
import time

ACCESS = ("PVID", "Egress Untagged")
# the bridge's default VLANs, those of the portgroups that the tests' networks have, and of a trunk of every VID
DEFAULT, SERVER, ZEROTIER = {1: ACCESS}, {3: ACCESS}, {46: ACCESS}
LAB = {10: ACCESS, 20: (), **dict.fromkeys(range(30, 41), ())}
EVERY = {1: ACCESS, **dict.fromkeys(range(2, 4095), ())}
# A name without its directory is tried in each of PATH, and in the lab each try costs as much as a small program.
IP, BRIDGE = "/usr/sbin/ip", "/usr/sbin/bridge"


def ip(*words):
    """Run `ip` with these words."""
    subprocess.run([IP, *words], check=True, stdin=subprocess.DEVNULL)


def ip_batch(*commands):
    """Run one `ip`, which does these commands in turn."""
    subprocess.run([IP, "-batch", "-"], input="\n".join(commands), text=True, check=True)


def bridge(*words):
    """Run `bridge` with these words."""
    subprocess.run([BRIDGE, *words], check=True, stdin=subprocess.DEVNULL)


def wipe(port):
    """Put a port from VLAN 46 into the default one, as an operator should not."""
    bridge("vlan", "del", "dev", port, "vid", "46")
    bridge("vlan", "add", "dev", port, "vid", "1", "pvid", "untagged")


def vlans(port):
    """Given a port, return its VLANs as {vid: (flag, ...)}, e.g. {46: ("PVID", "Egress Untagged")}."""
    return _vlans("dev", port).get(port, {})


def vlans_of(ports):
    """Given ports, return the VLANs of each, read at once."""
    shown = _vlans()
    for port in ports:
        socket.if_nametoindex(port)  # raises OSError if there is no such interface: that is not a port without VLANs
    return [shown.get(port, {}) for port in ports]


def _vlans(*words):
    # 4,094 lines one by one can be cut short
    command = [BRIDGE, "-j", "-compressvlans", "vlan", "show", *words]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {
        entry["ifname"]: {
            vid: tuple(vlan.get("flags", ()))
            for vlan in entry["vlans"]
            for vid in range(vlan["vlan"], vlan.get("vlanEnd", vlan["vlan"]) + 1)
        }
        for entry in json.loads(shown or "[]")
    }


def eventually(condition, within_seconds=40):  # four labs share two processors
    """Given a condition, wait until it is true; if it does not become so, fail with its last value."""
    deadline = time.monotonic() + within_seconds
    while True:
        looked = time.monotonic()
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"still {value!r} after {within_seconds} s"
        took = time.monotonic() - looked
        time.sleep(min(max(0.1, 4 * took), 1))  # what is looked at needs the processor, too


def always(condition, for_seconds):
    """Given a condition, watch it stay true for so long."""
    deadline = time.monotonic() + for_seconds
    while time.monotonic() < deadline:
        looked = time.monotonic()
        assert condition()
        took = time.monotonic() - looked
        time.sleep(max(0.2, 4 * took))  # each look is a process, and takes time from what it looks at


def add_uplink(name, bridge_name=""):
    """Given a name, and a bridge or "" for none, add an interface that leads off this host, as a physical one does."""
    ip("link", "add", name, "type", "vxlan", "id", "1", "dstport", "4789", "dev", "lo")
    ip("link", "set", name, *(["master", bridge_name] if bridge_name else []), "up")
