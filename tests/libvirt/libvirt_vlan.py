# SPDX-License-Identifier: MIT
"""libvirt-vlan as an operator runs it, and a network with each kind of portgroup for it to look at."""

import json
import os
import subprocess
from pathlib import Path

from conftest import BRIDGE, REPOSITORY, undefine_network, virsh
from jsonschema import validate

TOOL = "/usr/local/sbin/libvirt-vlan"
SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan.schema.json").read_text())
NETWORK_HOOK, QEMU_HOOK = Path("/etc/libvirt/hooks/network"), Path("/etc/libvirt/hooks/qemu")
NETWORK = f"""<network><name>{BRIDGE}</name><metadata>
<h:portgroups xmlns:h='urn:libvirt-hooks:portgroups:1'><portgroup name='lab'><vlan>
  <tag id='10' nativeMode='untagged'/><tag id='20'/><tag id='30-40'/></vlan></portgroup></h:portgroups></metadata>
<forward mode='bridge'/><bridge name='{BRIDGE}'/>
<portgroup name='server-3'/><portgroup name='zerotier-46'/><portgroup name='slow'/></network>"""
GROUPS = ("server", "zerotier", "lab", "all", None)
MACS = {group: f"52:54:00:00:00:{number:02x}" for number, group in enumerate(GROUPS, start=1)}


def tool(*words, env=None):
    """Run the tool with these words; return its exit status, and the lines of its stdout and stderr."""
    done = subprocess.run(
        [TOOL, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def notes_aside(lines):
    return [line for line in lines if not line.startswith("note: ")]


def define_network(xml=NETWORK):
    undefine_network()
    virsh("net-define", "/dev/stdin", stdin=xml)
    virsh("net-start", BRIDGE)


def verdicts():
    status, out, err = tool("show", "--json")
    shown = json.loads("\n".join(out))
    validate(shown, SCHEMA)
    assert (status, err) == (0, [])
    return {nic["portgroup"]: nic["verdict"] for nic in shown["nics"]}


def check():
    status, out, err = tool("check")
    assert (status, err) == (1 if notes_aside(out) else 0, [])
    return notes_aside(out)
