# SPDX-License-Identifier: MIT
"""libvirt-vlan watch: what somebody does to a running VM's tap or its bridge is undone, and what is meant stays.

 guest0      guest7     guest8
   |           |          |
 vnet0       vnet7      vnet8
 a VM's     default     VID 46
zerotier      (1)      by hand
   +-----------+----------+
              br0
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from captured import networkport, state_files
from conftest import MAC, REPOSITORY, TAP_MAC, TICKETS, UUID, Bridge, logged
from frames import listening, send
from iproute import DEFAULT, LAB, ZEROTIER, always, eventually, ip, vlans, vlans_of
from iproute import bridge as bridge_command
from processes import command_lines
from ready import Ready

TOOL = REPOSITORY / "sbin/libvirt-vlan"
AS_THE_SERVICE = ["setpriv", "--bounding-set", "-all,+net_admin", "--no-new-privs"]  # there is no systemd in the lab
KILLS = int(os.environ.get("LAB_ROUNDS", "28"))  # Debian 13's lab has died of more ("Kernel mode fault")


def processes(*words):
    """Return the ids of the processes whose command line has these words."""
    return [process for process, typed in command_lines() if {word.encode() for word in words} <= set(typed)]


class Watch:
    """`libvirt-vlan watch`, with the rights that its service has."""

    def __init__(self, output, *options):
        self.output = output
        with open(output, "wb") as file:
            self.process = subprocess.Popen(
                [*AS_THE_SERVICE, TOOL, "watch", *options],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: processes("monitor", "link"))
        time.sleep(2)  # its second look, when it follows

    def lines(self):
        return self.output.read_text().splitlines()

    def has_said(self, words):
        return eventually(lambda: [line for line in self.lines() if words in line])

    def rests(self):
        """Wait until it has looked at what it has typed itself: each look is in the log."""
        before = -1
        while before != (before := len(logged())):
            time.sleep(2)

    def end(self):
        """End it as systemd does; return its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def ready():
    ready = Ready()
    yield ready
    ready.close()


@pytest.fixture
def nic(bridge, ready):
    """Give nic(number=0, group="zerotier"): a NIC of a running VM that the hooks have made right; its tap."""
    uuids = []

    def make(number=0, group="zerotier", tap=True, isolated=False, uplink=""):
        mac, uuid = f"{MAC[:-2]}{number + 1:02x}", f"{UUID[:-2]}{number + 1:02}"
        xml = networkport(uuid, group, mac=mac)
        xml = xml.replace("<portgroup name='lab'", f"<uplink dev='{uplink}'/><portgroup name='lab'") if uplink else xml
        xml = xml.replace("<plug ", "<port isolated='yes'/>\n    <plug ") if isolated else xml
        assert ready.network("port-created", xml).returncode == 0
        add = bridge.add_tap if tap else bridge.add_guest
        add(f"vnet{number}", mac.replace("52", "fe", 1))
        if isolated:  # libvirt does that
            bridge_command("link", "set", "dev", f"vnet{number}", "isolated", "on")
        uuids.append(uuid)
        state_files(uuids, {"web": [f"vnet{number}" for number in range(len(uuids))]})
        eventually(lambda: not ready.detached())
        return f"vnet{number}"

    yield make
    ready.kill()


@pytest.fixture
def watch(tmp_path):
    """Give watch(*options), which starts `libvirt-vlan watch`.

    Afterwards the fixture ends each watch. No watch may have printed a traceback, and no `bridge monitor` may be left.
    """
    started = []

    def start(*options):
        started.append(Watch(tmp_path / f"watch{len(started)}", *options))
        return started[-1]

    yield start
    for each in started:
        assert each.process.poll() is not None or each.end() == 0
        assert "Traceback" not in each.output.read_text()
    eventually(lambda: not processes("monitor", "link"))


@contextlib.contextmanager
def sending(guest):
    """Have a guest send all the time."""
    over = threading.Event()

    def go_on():
        while not over.wait(0.005):
            with contextlib.suppress(OSError):
                send(guest)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def right(tap, wanted, within_seconds=20):
    eventually(lambda: vlans(tap) == wanted, within_seconds)


def test_what_somebody_does_to_vlans_is_undone_while_the_guest_sends(bridge, nic, watch):
    tap, trunk = nic(tap=False), nic(1, "lab")
    bridge.add_guest("vnet7", "fe:54:00:00:07:07")
    bridge.add_guest("vnet8", "fe:54:00:00:08:08")
    bridge_command("vlan", "del", "dev", "vnet8", "vid", "1")
    bridge_command("vlan", "add", "dev", "vnet8", "vid", "46", "pvid", "untagged")
    running = watch()
    assert running.lines() == []
    with sending("guest0"):
        for changes in (
            [("del", "46")],
            [("add", "7")],
            [("add", "1", "pvid", "untagged")],
            [("add", "46")],  # no PVID, not untagged any more
        ):
            for command, vid, *flags in changes:
                bridge_command("vlan", command, "dev", tap, "vid", vid, *flags)
            right(tap, ZEROTIER)
        with listening("guest7", "guest8") as who:
            assert who() == {"guest8"}
    bridge_command("vlan", "del", "dev", trunk, "vid", "20-35")
    right(trunk, LAB)
    reasons = [line for line in running.lines() if " instead of " in line]
    assert reasons[0] == f"web {MAC} vnet0 zerotier: has none instead of 46 pvid untagged on br0"
    assert running.lines()[:2] == [reasons[0], "bridge vlan add dev vnet0 vid 46 pvid untagged master"]
    assert f"web {MAC} vnet0 zerotier: + bridge vlan add dev vnet0 vid 46 pvid untagged master" in logged()
    assert reasons[0] in logged()


def test_an_uplink_that_a_network_names_gets_its_vlans_back(bridge, nic, watch):
    ip("link", "add", "trunk0", "up", "master", bridge.name, "type", "dummy")
    nic(uplink="trunk0")
    assert vlans("trunk0") == {**DEFAULT, 46: ()}
    running = watch()

    bridge_command("vlan", "del", "dev", "trunk0", "vid", "46")

    right("trunk0", {**DEFAULT, 46: ()})
    assert running.lines() == [
        f"web {MAC} vnet0 zerotier: uplink trunk0 lacks VLAN 46",
        "bridge vlan add dev trunk0 vid 46 master",
    ]
    ip("link", "set", "trunk0", "nomaster")
    ip("link", "set", "trunk0", "master", bridge.name)
    right("trunk0", {**DEFAULT, 46: ()})


def test_a_bridge_made_anew_gets_its_taps_back_and_no_frame_gets_astray(bridge, nic, watch):
    taps = [nic(tap=False), nic(1, "lab"), nic(2)]
    running = watch()
    bridge.add_guest("vnet7", "fe:54:00:00:07:07")
    with sending("guest0"), listening("guest7") as who:
        ip("link", "del", "br0")
        anew = Bridge()
        ip("link", "set", "vnet7", "master", "br0")
        for tap, wanted in zip(taps, (ZEROTIER, LAB, ZEROTIER)):
            right(tap, wanted)
        eventually(lambda: all(int(Path(f"/sys/class/net/{tap}/flags").read_text(), 16) & 1 for tap in taps))
        assert who() == set()
    link = "ip link set dev vnet0"
    typed = [line for line in running.lines() if "vnet0" in line]
    assert typed == [
        f"web {MAC} vnet0 zerotier: is not on br0, which was deleted and created again",
        f"{link} down",
        f"{link} master br0",
        "bridge vlan del dev vnet0 vid 1 master",
        "bridge vlan add dev vnet0 vid 46 pvid untagged master",
        f"{link} up",
    ]
    assert anew.name == "br0"


def is_up(tap):
    return bool(int(Path(f"/sys/class/net/{tap}/flags").read_text(), 16) & 1)


def is_isolated(tap):
    shown = subprocess.check_output(["/usr/sbin/bridge", "-j", "-d", "link", "show", "dev", tap])
    return json.loads(shown)[0]["isolated"]


def test_taps_that_are_taken_off_their_bridge_come_back_whole(bridge, nic, watch):
    """A reload by ifupdown2 or NetworkManager does that to all taps. libvirt has set `isolated` on these two."""
    taps = [nic(number, tap=False, isolated=True) for number in range(2)]
    bridge.add_guest("vnet7", "fe:54:00:00:07:07")
    running = watch()
    with sending("guest0"), listening("guest1") as neighbour, listening("guest7") as who:
        for tap in taps:
            ip("link", "set", tap, "nomaster")
        for tap in taps:
            right(tap, ZEROTIER)
            eventually(lambda tap=tap: is_up(tap) and is_isolated(tap))
        time.sleep(1)
        assert (neighbour(), who()) == (set(), set())
    link = "ip link set dev vnet0"
    assert [line for line in running.lines() if "vnet0" in line] == [
        f"web {MAC} vnet0 zerotier: is not on br0: it was taken off",
        f"{link} down",
        f"{link} master br0",
        "bridge vlan del dev vnet0 vid 1 master",
        "bridge vlan add dev vnet0 vid 46 pvid untagged master",
        "bridge link set dev vnet0 isolated on",
        f"{link} up",
    ]


def test_a_tap_that_libvirt_itself_takes_off_for_a_moment_is_left_to_libvirt(bridge, nic, watch):
    """libvirt 9 takes a tap off the bridge and puts it back within a second of a live change."""
    tap = nic()
    running = watch()
    ip("link", "set", tap, "nomaster")
    always(lambda: not Path(f"/sys/class/net/{tap}/master").exists(), 1)
    ip("link", "set", tap, "master", "br0")
    right(tap, ZEROTIER)

    assert not any("was taken off" in line for line in running.lines())
    assert not any("down" in line for line in running.lines())


def test_a_bridge_that_does_not_filter_is_said_once_until_it_does(bridge, nic, watch):
    tap = nic()
    running = watch()
    ip("link", "del", "br0")
    running.has_said("there is no bridge br0")
    ip("link", "add", "br0", "type", "bridge")
    running.has_said("bridge br0 does not filter VLANs")
    always(lambda: not Path(f"/sys/class/net/{tap}/master").exists(), 1)
    ip("link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
    right(tap, ZEROTIER)
    running.rests()
    ip("link", "set", "br0", "type", "bridge", "vlan_filtering", "0")
    bridge_command("vlan", "add", "dev", tap, "vid", "7")
    eventually(lambda: len([line for line in running.lines() if "does not filter" in line]) == 2)
    assert 7 in vlans(tap)
    ip("link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
    right(tap, ZEROTIER)
    assert len([line for line in running.lines() if "bridge br0" in line]) == 3


def test_what_is_not_its_own_is_left_alone(bridge, nic, ready, watch):
    """No portgroup, an announced port, a tap on another bridge, an earlier tap's ticket, and all while switched off."""
    tap, plain, off_bridge, earlier = nic(), nic(1, ""), nic(2), nic(3)
    running = watch()
    bridge_command("vlan", "add", "dev", plain, "vid", "7")
    ip("link", "add", "br9", "type", "bridge")
    ip("link", "set", off_bridge, "master", "br9")
    ip("link", "del", earlier)
    bridge.add_tap("other", f"fe{MAC[2:-2]}04")
    announced = f"{UUID[:-2]}99"
    assert ready.network("port-created", networkport(announced, "server")).returncode == 0
    bridge_command("vlan", "add", "dev", tap, "vid", "7")
    right(tap, ZEROTIER)
    assert ready.network("port-deleted", networkport(announced, "server")).returncode == 0
    running.has_said(f"{off_bridge} is on br9 instead of br0: to put it back, ip link set dev {off_bridge} nomaster")
    ready.kill()  # a hook's process that has begun a look ends it
    running.rests()
    Path("/run/libvirt-hooks.off").touch()
    try:
        bridge_command("vlan", "add", "dev", tap, "vid", "7")
        running.has_said("the hooks are switched off: nothing is repaired until libvirt-vlan on")
        always(lambda: 7 in vlans(tap), 1)
    finally:
        Path("/run/libvirt-hooks.off").unlink()
    bridge_command("vlan", "add", "dev", tap, "vid", "8")
    right(tap, ZEROTIER)
    assert (vlans(plain), vlans("other")) == ({**DEFAULT, 7: ()}, DEFAULT)
    assert Path(f"/sys/class/net/{off_bridge}/master").resolve().name == "br9"
    running.rests()
    for file in TICKETS.glob("f?:*"):
        file.unlink()
    bridge_command("vlan", "add", "dev", tap, "vid", "9")
    always(lambda: 9 in vlans(tap), 1)
    typed = [line for line in running.lines() if line.startswith(("ip ", "bridge "))]
    assert not any(f"dev {name} " in line for line in typed for name in (plain, "other", off_bridge))


def test_who_insists_is_undone_each_second_and_said_once_a_minute(nic, watch):
    tap = nic()
    running = watch()
    over, wiped = threading.Event(), []

    def insist():
        while not over.wait(0.1):
            if vlans(tap) == ZEROTIER:
                bridge_command("vlan", "del", "dev", tap, "vid", "46")
                wiped.append(time.monotonic())

    thread = threading.Thread(target=insist)
    thread.start()
    try:
        (line,) = running.has_said("3 times within a minute")
        assert line == (
            f"web {MAC} {tap} zerotier: has none instead of 46 pvid untagged on br0, 3 times within a minute: find out "
            "what else sets its VLANs; watch goes on, and says so once a minute"
        )
        eventually(lambda: running.lines()[-1].startswith("bridge vlan add"))
        lines = len(running.lines())
        eventually(lambda: len(wiped) >= 8)
    finally:
        over.set()
        thread.join()
    right(tap, ZEROTIER)
    between = [later - earlier for earlier, later in zip(wiped, wiped[1:])]
    assert min(between[1:]) > 0.9  # nothing is held up before the first repair
    assert len(running.lines()) == lines


def test_a_default_vlan_that_is_set_to_0_and_back_leaves_no_guest_in_vlan_1(bridge, nic, watch):
    """The kernel then gives it to each bridge port. NetworkManager does that, and whoever undoes the strict setting."""
    tap = nic(tap=False)
    bridge.add_guest("vnet7", "fe:54:00:00:07:07")
    watch()
    with sending("guest0"), listening("guest7") as who:
        for vid in ("0", "1"):
            ip("link", "set", "br0", "type", "bridge", "vlan_default_pvid", vid)
        right(tap, ZEROTIER)
        who()
        assert who() == set()
    assert vlans("vnet7") == DEFAULT


def test_a_bridge_port_that_loses_what_libvirt_has_set_gets_it_back(bridge, nic, watch):
    tap = nic(isolated=True)
    running = watch()
    bridge_command("link", "set", "dev", tap, "isolated", "off")
    eventually(lambda: is_isolated(tap))
    assert running.lines() == [
        f"web {MAC} {tap} zerotier: its bridge port has isolated off instead of on",
        f"bridge link set dev {tap} isolated on",
    ]


def test_a_ticket_of_an_earlier_release_does_not_say_what_libvirt_has_set_so_its_record_does(bridge, nic, watch):
    tap = nic(isolated=True)
    (ticket,) = TICKETS.glob("f?:*")
    ticket.write_text(re.sub("(?m)^(isolated|macTableManager) .*\n", "", ticket.read_text()))
    (record,) = Path("/run/libvirt/network/br0/ports").iterdir()
    record.write_text(
        f"<networkport><uuid>{record.stem}</uuid><mac address='{MAC}'/><port isolated='yes'/>"
        "<plug type='bridge' bridge='br0'/></networkport>"
    )
    watch()
    ip("link", "set", tap, "nomaster")
    right(tap, ZEROTIER)
    eventually(lambda: is_up(tap) and is_isolated(tap))


def test_a_damaged_record_of_libvirts_ends_no_watch(bridge, nic, watch):
    """What libvirt has set at the bridge port is unknown then, also when watch looks at all taps."""
    tap, other = nic(), nic(1)
    for ticket in TICKETS.glob("f?:*"):  # as of an earlier release: the record says what libvirt has set
        ticket.write_text(re.sub("(?m)^(isolated|macTableManager) .*\n", "", ticket.read_text()))
    (Path("/run/libvirt/network/br0/ports") / f"{UUID[:-2]}01.xml").write_text("<networkport>")
    running = watch()
    running.has_said("cannot be read")
    bridge_command("vlan", "add", "dev", other, "vid", "7")
    right(other, ZEROTIER)
    assert running.process.poll() is None
    assert vlans(tap) == ZEROTIER


def test_what_it_would_type_in_a_dry_run(bridge, nic, watch):
    tap = nic()
    bridge_command("vlan", "add", "dev", tap, "vid", "7")
    running = watch("--dry-run")
    eventually(lambda: len(running.lines()) == 2)
    assert running.lines() == [
        f"web {MAC} {tap} zerotier: has 7, 46 pvid untagged instead of 46 pvid untagged on br0",
        f"bridge vlan del dev {tap} vid 7 master",
    ]
    assert vlans(tap) == {**ZEROTIER, 7: ()}


def test_it_runs_once_and_ends_at_once_and_so_does_its_monitor(nic, watch, tmp_path):
    tap = nic()
    running = watch()
    second = subprocess.run([TOOL, "watch"], capture_output=True, text=True, check=False, timeout=60)
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.startswith("libvirt-vlan: another libvirt-vlan watch runs on this host: ")
    for process in processes("monitor", "link"):
        os.kill(process, signal.SIGKILL)
    running.has_said("has ended (killed) and is started again")
    eventually(lambda: processes("monitor", "link"))
    time.sleep(2)
    bridge_command("vlan", "add", "dev", tap, "vid", "7")
    right(tap, ZEROTIER)
    running.process.kill()
    running.process.wait()
    eventually(lambda: not processes("monitor", "link"), 5)
    again = watch()
    began = time.monotonic()
    assert again.end() == 0
    assert time.monotonic() - began < 5
    eventually(lambda: not processes("monitor", "link"), 5)


def test_the_hooks_process_and_the_watch_type_each_command_once(bridge, nic, ready, watch):
    """As in a hot plug, in which both see the tap come."""
    watch()
    for number in range(5):
        nic(number)
    for number in range(5):
        assert vlans(f"vnet{number}") == ZEROTIER
        typed = [line for line in logged() if f"+ bridge vlan add dev vnet{number} " in line]
        assert len(typed) == 1


def test_killed_at_any_moment_the_next_one_makes_all_right(bridge, nic, ready):
    seed = int(os.environ.get("LAB_SEED", time.time_ns() % 1_000_000))
    print(f"LAB_SEED={seed}")
    chance = random.Random(seed)
    taps = [nic(), nic(1), nic(2)]
    for number in range(KILLS):
        if number % 4 == 0:
            ip("link", "del", "br0")
            Bridge()
        elif number % 4 == 1:
            ip("link", "set", taps[1], "nomaster")
        elif Path(f"/sys/class/net/{taps[0]}/master").exists():
            bridge_command("vlan", "add", "dev", taps[0], "vid", "1", "pvid", "untagged")
        process = ready.watch()
        time.sleep(chance.uniform(0, 0.5))
        os.kill(process, signal.SIGKILL)
        eventually(lambda process=process: not Path(f"/proc/{process}").exists())
        assert all(have.keys() <= {1, 46} for have in vlans_of(taps))
    eventually(lambda: not processes("monitor", "link"), 5)
    ready.watch()
    for tap in taps:
        right(tap, ZEROTIER)
        eventually(lambda tap=tap: is_up(tap))
    ready.kill()
    assert not [line for line in logged() if re.search("unexpected|Traceback", line)]
    assert TAP_MAC in "".join(file.name for file in TICKETS.iterdir())
