# SPDX-License-Identifier: MIT
"""A thousand VMs with four NICs each: what `check` does with what virsh and bridge have said. Natively."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libvirt_hooks.elements import parse
from libvirt_hooks.hookdata import parse_domain, port_of
from libvirt_hooks.tool.findings import notes, problems
from libvirt_hooks.tool.model import BridgeState, NicState
from libvirt_hooks.tool.monitoring import Look, to_json, to_prometheus
from libvirt_hooks.vlans import access

VMS, NICS = 1000, 4
SECONDS, MEBIBYTES = 1.0, 100
XML = (Path(__file__).resolve().parents[1] / "data/qemu-started.xml").read_text()
NIC = XML[XML.index("<interface ") : XML.index("</interface>") + len("</interface>")]


def documents():
    """Return the XML of the VMs, made of what libvirt says of one."""
    before, after = XML[: XML.index("<interface ")], XML[XML.rindex("</interface>") + len("</interface>") :]
    uuid, mac = XML.partition("<uuid>")[2][:36], NIC.partition("<mac address='")[2][:17]
    found = []
    for number in range(VMS):
        address = f"{mac[:9]}{number >> 8:02x}:{number & 255:02x}"
        nics = "".join(NIC.replace(mac, f"{address}:{nic:02x}") for nic in range(NICS))
        found.append((before.replace(uuid, f"{uuid[:-4]}{number:04x}") + nics + after).encode())
    return found


def found_in(xmls):
    """Given the XML of VMs, every third of whose NICs is wrong, return what `check --json` prints, and the findings."""
    nics = []
    for xml in xmls:
        domain = parse_domain(xml)
        for nic in domain.nics:
            current = access(46 if len(nics) % 3 else 1)
            nics.append(NicState(port_of(domain, nic), "lan", nic.tap, access(46), current, "", False, False, None))
    bridges = [BridgeState("br0", "", 1, {"eth0": access(46)})]
    found = [*problems(nics, bridges), *notes(nics, bridges)]
    return to_json(found), nics, found


def measured():
    """Return the processor's seconds for all of it, and for reading the XML alone, and the most MiB at any time."""
    xmls = documents()
    seconds = []
    for work in (found_in, lambda some: [parse(xml, "it") is None for xml in some]):
        begin = time.process_time()
        work(xmls)
        seconds.append(time.process_time() - begin)
    status = Path("/proc/self/status").read_text()
    return *seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024


def test_a_thousand_vms_have_four_thousand_nics():
    shown, nics, found = found_in(documents())

    wrong = len(range(0, VMS * NICS, 3))
    assert len(json.loads(shown)["problems"]) == wrong
    metrics = to_prometheus(Look(nics, found, {}, False, False, 0.0))
    assert f'{{bridge="br0",verdict="right"}} {VMS * NICS - wrong}\n' in metrics


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/status")
def test_a_thousand_vms_take_a_second_and_little_memory():
    """On a slow or busy machine it takes longer, and so does reading the XML, which is most of it."""
    runs = [subprocess.check_output([sys.executable, __file__], text=True).split() for _ in range(5)]
    seconds, reading, mebibytes = (min(map(float, values)) for values in zip(*runs))

    assert seconds <= max(SECONDS, 2 * reading)
    assert mebibytes <= MEBIBYTES


if __name__ == "__main__":
    print(*measured())
