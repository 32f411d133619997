# SPDX-License-Identifier: MIT
"""A running VM that goes from one host to the other: right before it runs on there, and nothing of it stays behind."""

import re

from conftest import MAC, ZEROTIER, domain, on, tap, vlans, write
from iproute import eventually

TO_BETA = "virsh -q migrate --live web qemu+ssh://beta/system tcp://192.0.2.12"
SEEN = "/run/seen"
# libvirt runs it after ours, before there is a QEMU.
WITNESS = f"""#!/bin/sh
[ "$2" = start ] || exit 0
(ps -e -o comm; bridge vlan show) >{SEEN}.$1
"""


def left_behind(host):
    """Return the VM's ports, tickets and the hooks' processes on a host."""
    ports = "ls /sys/class/net/br0/brif | grep vnet"
    tickets = "ls /run/libvirt-hooks | grep :"
    return on(host, f"{ports}; {tickets}; pgrep -f '^/usr/bin/python3 -I /etc/libvirt/hooks/' || true").split()


def test_a_vm_that_migrates_is_in_its_vlan_before_it_runs_on_and_leaves_nothing(installed):
    write("beta", "/etc/libvirt/hooks/qemu.d/99-witness", WITNESS, "755")
    on("alpha", "virsh -q destroy early 2>/dev/null || true")
    on("alpha", "virsh -q create /dev/stdin", domain("web", MAC, "zerotier"))
    assert on("alpha", "virsh -q domstate web") == "running"
    before = on("alpha", "virsh -q domuuid web")

    on("alpha", TO_BETA)

    assert on("beta", "virsh -q domuuid web") == before
    assert on("beta", "virsh -q domstate web") == "running"
    port = tap("beta", "web")
    assert vlans("beta", port) == ZEROTIER
    assert on("beta", f"cat /sys/class/net/{port}/address") == "fe" + MAC[2:]
    seen = on("beta", f"cat {SEEN}.web")
    assert "qemu-system-arm" not in seen
    assert re.search(rf"^{port} +46 PVID Egress Untagged$", seen, re.MULTILINE)
    assert on("alpha", "virsh -q list --name") == ""
    eventually(lambda: not left_behind("alpha"))
    on("beta", "virsh -q destroy web && rm -r /etc/libvirt/hooks/qemu.d")
    eventually(lambda: not left_behind("beta"))
