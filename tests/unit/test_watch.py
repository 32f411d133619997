# SPDX-License-Identifier: MIT
"""watch's pure parts: lines of `bridge monitor` to interfaces, and when to say something and look again."""

import shutil
import subprocess
from pathlib import Path

import pytest

from libvirt_hooks.tool.bridge_monitor import interfaces
from libvirt_hooks.tool.patience import Memory, next_look, note_fault, note_repair, note_right

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = sorted((REPOSITORY / "systemd").iterdir())
EXPOSURE_MAX = 20  # tenths of a point: root, netlink and the host's network are most of it
UP = b"<BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 "


@pytest.mark.parametrize(
    ("lines", "names", "other"),
    [
        (b"3: vnet0: " + UP + b"master br0 state disabled priority 32 cost 100 \n", {3: "vnet0"}, ""),
        (b"Deleted 3: vnet0: " + UP + b"master br0 \n", {3: "vnet0"}, ""),  # it left, or was removed
        (b"6: a@b@c;$d: " + UP + b"\n", {6: "a@b@c;$d"}, ""),  # a veth, behind the last @ its other end
        (b"3: vnet0: " + UP + b"\n3: vnet0: " + UP + b"\n9: br0: " + UP + b"\n", {3: "vnet0", 9: "br0"}, ""),
        (b"netlink receive error No buffer space available (105)\n3: vnet0: " + UP + b"\n", {3: "vnet0"},
         "netlink receive error No buffer space available (105)"),  # events were lost
        (b"3: \xff: " + UP + b"\n", {3: "\ufffd"}, ""),  # a name is no text
        (b"\n", {}, ""),
        (b"", {}, ""),
    ],
)  # fmt: skip
def test_the_interfaces_in_the_monitors_lines(lines, names, other):
    assert interfaces(lines) == (names, other)


def test_a_fault_is_said_once_and_only_if_it_lasts():
    memory = Memory()
    assert (note_fault(memory, "gone", 100), next_look(memory, 100)) == (False, 102)
    assert note_fault(memory, "gone", 101) is False
    assert (note_fault(memory, "gone", 102), next_look(memory, 102)) == (True, 0)
    assert note_fault(memory, "gone", 200) is False
    assert note_fault(memory, "", 201) is False
    assert note_fault(memory, "gone", 202) is False  # it begins anew
    assert note_fault(memory, "", 203) is False
    assert (memory.fault, next_look(memory, 203)) == ("", 0)


def test_a_repair_that_fails_is_tried_again():
    memory = Memory()
    note_repair(memory, 100)
    note_fault(memory, "bridge: exit 2", 100)
    assert note_fault(memory, "bridge: exit 2", 102) is True
    assert next_look(memory, 102) == 103


def test_repairs_that_somebody_undoes_go_on_each_second_but_are_said_once_a_minute():
    memory, said, now = Memory(), {}, 100.0
    while now < 240:
        is_said, more = note_repair(memory, now)
        if is_said:
            said[now] = more.partition(":")[0]
        assert memory.paused_until == now + 1
        now = memory.paused_until

    times = ", 60 times within a minute"
    assert said == {100: "", 101: "", 102: ", 3 times within a minute", 162: times, 222: times}


def test_after_a_minute_of_peace_all_begins_anew():
    memory = Memory()
    for now in (100, 101, 102, 103):
        note_repair(memory, now)
    note_right(memory, 150)
    assert memory.repairs
    note_right(memory, 164)
    assert memory.repairs == []
    assert note_repair(memory, 165) == (True, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze on this machine")
def test_systemd_finds_nothing_wrong_with_the_unit(unit, tmp_path):
    copies = [tmp_path / other.name for other in UNITS]
    for other, copy in zip(UNITS, copies):
        # libvirt-vlan is not installed on this machine
        copy.write_text(other.read_text().replace("/usr/local/sbin/libvirt-vlan", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if unit.name == "libvirt-vlan-watch.service":
        offline = ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", tmp_path / unit.name]
        done = subprocess.run(offline, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
