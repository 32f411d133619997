# SPDX-License-Identifier: MIT
"""What tests ask of the kernel, and have it do, with iproute2: independent of the project's own code."""

import json
import subprocess
import time

ACCESS = ("PVID", "Egress Untagged")


def ip(*words):
    """Run `ip` with these words."""
    subprocess.run(["ip", *words], check=True, stdin=subprocess.DEVNULL)


def bridge(*words):
    """Run `bridge` with these words."""
    subprocess.run(["/usr/sbin/bridge", *words], check=True, stdin=subprocess.DEVNULL)


def vlans(port):
    """Given a port, return its VLANs as {vid: (flag, ...)}, e.g. {46: ("PVID", "Egress Untagged")}."""
    command = [
        "/usr/sbin/bridge",
        "-j",
        "-compressvlans",
        "vlan",
        "show",
        "dev",
        port,
    ]  # 4,094 lines one by one can be cut short
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {
        vid: tuple(vlan.get("flags", ()))
        for entry in json.loads(shown or "[]")
        if entry["ifname"] == port
        for vlan in entry["vlans"]
        for vid in range(vlan["vlan"], vlan.get("vlanEnd", vlan["vlan"]) + 1)
    }


def eventually(condition, within_seconds=40):  # three labs share two processors
    """Given a condition, wait until it is true; if it does not become so, fail with its last value."""
    deadline = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {within_seconds} s"
        time.sleep(0.1)
    return value


def always(condition, for_seconds):
    """Given a condition, watch it stay true for so long."""
    deadline = time.monotonic() + for_seconds
    while time.monotonic() < deadline:
        assert condition()
        time.sleep(0.2)  # each look is a process, and takes time from what it looks at
