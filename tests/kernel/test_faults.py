# SPDX-License-Identifier: MIT
"""What breaks while a tap is made right: it is right in the end, or refused; no other tap is touched meanwhile.

test_kill.py has the process killed, test_join.py and test_waiting.py have what fails for ever.
"""

import subprocess
import time
from pathlib import Path

import pytest
from captured import domain, networkport
from conftest import (
    MAC,
    REPOSITORY,
    TAP_MAC,
    TICKETS,
    UUID,
    Bridge,
    detached,
    hook,
    logged,
    port_created,
    refused,
    tickets,
)
from iproute import DEFAULT, LAB, SERVER, ZEROTIER, always, eventually, ip, vlans
from ready import Ready

LOOK = f"check ls -la {TICKETS} and df /run, and try again"

DOMAIN = domain([(MAC, UUID, "vnet0")])
UUID2, OTHER_TAP_MAC = UUID[:-1] + "2", "fe:54:00:00:00:99"
# which batches a detached process runs for a tap that has just come, and for one that was there before
RUNS = [(False, 1), (True, 1), (True, 2)]
NAMES = ["change", "live, read", "live, change"]
AT_EACH = pytest.mark.parametrize(("live", "call"), RUNS, ids=NAMES)
SAME_TAP = f"tuntap add vnet0 mode tap; ip link set vnet0 address {TAP_MAC} master br0 up"
OTHER_TAP = f"tuntap add vnet0 mode tap; ip link set vnet0 address {OTHER_TAP_MAC} master br0 up"


@pytest.fixture(scope="module")
def hooks():
    """Give the hooks, with a `bridge` that hangs killed after one second, not thirty, and live ports not watched."""
    ready = Ready(bridge__TIMEOUT_SECONDS=1, waiting__WATCH_SECONDS=0)
    yield ready
    ready.close()


@pytest.fixture
def ready(bridge, hooks):
    """Give them to one test; afterwards none of their processes is left."""
    yield hooks
    hooks.kill()


class BridgeThat:
    """A PATH with a `bridge` that counts its calls, and does something at some of them."""

    def __init__(self, directory):
        self.path = f"{directory}:/usr/sbin:/usr/bin:/bin"
        self.notes = directory / "notes"
        self._program = directory / "bridge"

    def does(self, shell, instead=False):
        """Given shell commands with the number of the call as $n, have them done after `real "$@"`, or instead."""
        self.notes.write_text("")
        first = "status=0" if instead else 'real "$@"; status=$?'
        self._program.write_text(
            '#!/bin/sh\ntyped=$*; case "$*" in *-batch*) typed=$(cat);; esac\n'
            """real() { printf '%s\\n' "$typed" | /usr/sbin/bridge "$@"; }\n"""
            f"""printf '%s;' "$typed" | tr '\\n' ';' >>{self.notes}; echo >>{self.notes}; n=$(wc -l <{self.notes})\n"""
            f"{first}\n{shell}\nexit $status\n"
        )
        self._program.chmod(0o755)
        return self.path

    def calls(self):
        """Return what it was called with."""
        return self.notes.read_text().splitlines()

    def changes(self):
        """Return those that change something."""
        return [words for words in self.calls() if " add " in words or " del " in words]


@pytest.fixture
def bridge_that(tmp_path):
    """Give a `bridge` of ours."""
    return BridgeThat(tmp_path)


def announced(bridge, ready, group="zerotier"):
    """Have port-created called and the tap made, and the detached process killed before it has typed anything."""
    assert ready.network("port-created", networkport(UUID, group)).returncode == 0
    ready.kill()
    bridge.add_tap()


def taken_back(ready):
    """Have libvirt take the port back; then nothing is left, and nothing was unexpected."""
    assert ready.network("port-deleted", networkport(UUID, "zerotier")).returncode == 0
    eventually(lambda: not ready.detached())
    assert tickets() == []
    assert [line for line in logged() if "internal error" in line] == []


# The tap and the bridge


@AT_EACH
def test_the_tap_vanishes(bridge, ready, bridge_that, live, call):
    announced(bridge, ready)
    process = ready.follow(TAP_MAC, live, bridge_that.does(f"[ $n != {call} ] || ip link del vnet0"))
    eventually(lambda: not Path("/sys/class/net/vnet0").exists())

    always(lambda: process in ready.detached(), for_seconds=1)  # the tap may come back
    taken_back(ready)


@AT_EACH
def test_the_tap_comes_back_with_another_index(bridge, ready, bridge_that, live, call):
    announced(bridge, ready)
    index = Path("/sys/class/net/vnet0/ifindex")
    before = index.read_text()
    ready.follow(TAP_MAC, live, bridge_that.does(f"[ $n != {call} ] || {{ ip link del vnet0; ip {SAME_TAP}; }}"))
    eventually(lambda: not ready.detached())

    assert index.read_text() != before
    assert vlans("vnet0") == ZEROTIER
    assert ready.qemu("web", DOMAIN, bridge_that.does("exit 1", instead=True)).returncode == 0
    assert bridge_that.calls() == []  # this index is noted as right


@AT_EACH
def test_the_taps_name_comes_back_as_another_vms(bridge, ready, bridge_that, live, call):
    announced(bridge, ready)
    comes = f"ip link del vnet0; ip {OTHER_TAP}; touch {bridge_that.notes}.done"
    ready.follow(TAP_MAC, live, bridge_that.does(f"[ $n != {call} ] || {{ {comes}; }}"))
    eventually(Path(f"{bridge_that.notes}.done").exists)
    assert Path("/sys/class/net/vnet0/address").read_text().strip() == OTHER_TAP_MAC

    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=1)
    bridge.add_tap("vnet1")
    eventually(lambda: vlans("vnet1") == ZEROTIER)
    assert vlans("vnet0") == DEFAULT


def test_the_tap_is_off_the_bridge_while_its_vlans_are_read(bridge, ready, bridge_that):
    """Then it has none, to which only its own would be added; but it comes back with the default one."""
    announced(bridge, ready)
    off, on = (f"[ $n != 1 ] || ip link set vnet0 {where}" for where in ("nomaster", "master br0"))
    ready.follow(TAP_MAC, True, bridge_that.does(f'{off}; real "$@"; status=$?; {on}', instead=True))
    eventually(lambda: not ready.detached())

    assert vlans("vnet0") == ZEROTIER
    typed = ["link show dev vnet0", "vlan del dev vnet0 vid 1 master", "vlan add dev vnet0 vid 46 pvid untagged master"]
    assert bridge_that.changes() == [f"{';'.join([*typed, 'vlan show dev vnet0'])};"]


@AT_EACH
def test_the_bridge_is_deleted_and_made_again(bridge, ready, bridge_that, live, call):
    announced(bridge, ready)
    anew = "ip link del br0; ip link add br0 type bridge vlan_filtering 1; ip link set vnet0 master br0"
    ready.follow(TAP_MAC, live, bridge_that.does(f"[ $n != {call} ] || {{ {anew}; }}"))
    eventually(lambda: not ready.detached())

    assert len(bridge_that.calls()) > call
    assert vlans("vnet0") == ZEROTIER


def test_the_bridge_is_gone_for_a_while(bridge, ready):
    announced(bridge, ready)
    ip("link", "del", "br0")
    process = ready.follow(TAP_MAC)
    always(lambda: process in ready.detached(), for_seconds=2)
    Bridge()
    ip("link", "set", "vnet0", "master", "br0")

    eventually(lambda: vlans("vnet0") == ZEROTIER)


# The command


@AT_EACH
def test_bridge_fails_once_or_twice(bridge, ready, bridge_that, live, call):
    announced(bridge, ready)
    times = 1 + call % 2
    fails = f'[ $n -lt {call} ] || [ $n -ge {call + times} ] || {{ echo "Cannot: $n" >&2; exit 255; }}'
    ready.follow(TAP_MAC, live, bridge_that.does(f'{fails}; real "$@"; status=$?', instead=True))
    eventually(lambda: not ready.detached())

    assert vlans("vnet0") == ZEROTIER
    said = [line.partition("Cannot: ")[2].partition(":")[0] for line in logged() if line.startswith("trying again: ")]
    assert said == [f"{n}" for n in range(call, call + times)]


@pytest.mark.parametrize("call", range(1, 3), ids=["read", "change"])
def test_bridge_fails_twice_while_libvirt_waits(bridge, ready, bridge_that, call):
    announced(bridge, ready, "lab")
    fails = f'[ $n -lt {call} ] || [ $n -ge {call + 2} ] || {{ echo "Cannot: $n" >&2; exit 255; }}'
    done = ready.qemu("web", DOMAIN, bridge_that.does(f'{fails}; real "$@"; status=$?', instead=True))

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", LAB)


@AT_EACH
def test_bridge_hangs_once(bridge, ready, bridge_that, live, call):
    announced(bridge, ready)
    hangs = f'[ $n != {call} ] || exec sleep 1000; real "$@"; status=$?'
    ready.follow(TAP_MAC, live, bridge_that.does(hangs, instead=True))
    eventually(lambda: not ready.detached())

    assert vlans("vnet0") == ZEROTIER
    said = [line for line in logged() if line.startswith("trying again: ")]
    assert [line.endswith(": killed after 1 s: check dmesg, and try again") for line in said] == [True]
    assert subprocess.run(["pgrep", "-x", "sleep"], check=False).returncode == 1


def test_bridge_always_hangs_while_libvirt_waits(bridge, ready, bridge_that):
    announced(bridge, ready)
    began = time.monotonic()
    hangs = 'case "$typed" in *" add "*) exec sleep 1000;; esac; real "$@"; status=$?'
    done = ready.qemu("web", DOMAIN, bridge_that.does(hangs, instead=True))

    assert refused(done) == (
        f"VM web: NIC {MAC}, tap vnet0: bridge -j link show dev vnet0 and those after it: "
        "killed after 1 s: check dmesg, and try again"
    )
    assert time.monotonic() - began < 20
    assert vlans("vnet0") == DEFAULT
    assert subprocess.run(["pgrep", "-x", "sleep"], check=False).returncode == 1


GARBAGE = {
    "letters": "echo garbage",
    "bytes": r"printf '\377\376\200\n'",
    "half of it": '/usr/sbin/bridge "$@" | head -c 30',
    "an object": "echo '{}'",
    "another list": """echo '[1, [], {"vlans": 1}]'""",
    "no number": """echo '[{"ifname": "vnet0", "vlans": [{"vlan": "x"}]}]'""",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_bridge_answers_garbage(bridge, ready, bridge_that, what):
    announced(bridge, ready)
    once = f'[ $n != 1 ] || {{ {GARBAGE[what]}; exit 0; }}; real "$@"; status=$?'
    ready.follow(TAP_MAC, True, bridge_that.does(once, instead=True))
    eventually(lambda: not ready.detached())
    assert vlans("vnet0") == ZEROTIER
    assert len([line for line in logged() if line.startswith("trying again: ")]) == 1

    bridge.remove_tap()
    bridge.add_tap()
    always_garbage = f'case "$*" in -j*) {GARBAGE[what]}; exit 0;; esac; real "$@"; status=$?'
    line = refused(ready.qemu("web", DOMAIN, bridge_that.does(always_garbage, instead=True)))
    assert line.startswith(f"VM web: NIC {MAC}, tap vnet0: bridge -j ")
    assert bridge_that.changes() == []
    assert vlans("vnet0") == DEFAULT


# /run


@pytest.fixture
def run(bridge):
    """Give the directory of the tickets, on a file system of its own, which can be filled or made read-only."""

    class Run:
        def fill(self):
            with open(TICKETS / "big", "wb", buffering=0) as file:
                try:
                    while file.write(b"0" * 4096):
                        pass
                except OSError:
                    pass

        def mount(self, option):
            subprocess.run(["mount", "-o", f"remount,{option}", TICKETS], check=True)

    TICKETS.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", TICKETS], check=True)
    yield Run()
    subprocess.run(["umount", "-l", TICKETS], check=True)


@pytest.mark.parametrize(("how", "why"), [("full", "No space left on device"), ("ro", "Read-only file system")])
def test_no_ticket_can_be_written(bridge, ready, run, how, why):
    if how == "full":
        run.fill()
    else:
        run.mount("ro")
    line = refused(ready.network("port-created", networkport(UUID, "zerotier")))

    what = f"cannot write {TICKETS}/{TAP_MAC}.{UUID}" if how == "full" else f"cannot lock {TICKETS}/lock"
    assert line == f"VM web, NIC {MAC}: {what}: {why}: {LOOK}"
    assert (tickets(), ready.detached()) == ([], [])
    assert ready.network("port-created", networkport(UUID, "")).returncode == 0


def test_a_full_run_stops_nothing_that_has_a_ticket(bridge, ready, run):
    """The lock is an empty file, and what cannot be noted is looked at again."""
    announced(bridge, ready)
    run.fill()
    ready.follow(TAP_MAC)
    eventually(lambda: vlans("vnet0") == ZEROTIER and not ready.detached())
    bridge.remove_tap()
    bridge.add_tap()

    assert ready.qemu("web", DOMAIN).returncode == 0
    assert vlans("vnet0") == ZEROTIER


def test_a_read_only_run_stops_the_start(bridge, ready, run):
    announced(bridge, ready)
    run.mount("ro")
    why = f"cannot lock {TICKETS}/lock: Read-only file system: {LOOK}"
    assert refused(ready.qemu("web", DOMAIN)) == f"VM web: NIC {MAC}, tap vnet0: {why}"
    assert vlans("vnet0") == DEFAULT
    run.mount("rw")

    assert ready.qemu("web", DOMAIN).returncode == 0
    assert vlans("vnet0") == ZEROTIER


# Tickets


@pytest.mark.parametrize("spoiled", [lambda text: b"", lambda text: text[:-20]], ids=["empty", "cut short"])
def test_a_damaged_ticket_is_passed_over_and_mended_by_a_restart_of_libvirtd(bridge, ready, granted, spoiled):
    announced(bridge, ready)
    granted(UUID)
    (name,) = tickets()
    (TICKETS / name).write_bytes(spoiled((TICKETS / name).read_bytes()))
    ready.follow(TAP_MAC)
    eventually(lambda: not ready.detached())
    assert vlans("vnet0") == DEFAULT
    assert logged()[-1].startswith(f"ignored: the ticket {TICKETS}/{name} is damaged (")

    assert ready.network("port-created", networkport(UUID, "zerotier")).returncode == 0
    eventually(lambda: vlans("vnet0") == ZEROTIER)


def test_a_note_cut_short_stops_no_start(bridge, ready):
    """The last thing that is written to a ticket, when /run becomes full, is that the port has been seen right."""
    for torn in ("right vnet0 ", "right vnet0right vnet0 7\n"):
        announced(bridge, ready)
        (name,) = tickets()
        with open(TICKETS / name, "a", encoding="utf-8") as file:
            file.write(torn)
        done = ready.qemu("web", DOMAIN)

        assert (torn, done.returncode, done.stderr) == (torn, 0, "")
        assert vlans("vnet0") == ZEROTIER
        bridge.remove_tap()


def test_another_nics_ticket_changes_nothing(bridge, ready):
    announced(bridge, ready)
    other = networkport(UUID2, "server", vm="db", vm_uuid=UUID2, mac="52:54:00:00:00:99")
    assert ready.network("port-created", other).returncode == 0
    ready.kill()
    (TICKETS / f"{OTHER_TAP_MAC}.{UUID2}").rename(TICKETS / f"{TAP_MAC}.{UUID}")
    assert refused(ready.qemu("web", DOMAIN)).startswith(f"VM web: NIC {MAC}, tap vnet0: ")

    ready.follow(TAP_MAC)  # it waits for the other NIC's tap
    always(lambda: vlans("vnet0") == DEFAULT, for_seconds=3)
    assert [line for line in logged() if " + " in line] == []


# Processes, descriptors, the clock


@pytest.fixture
def few(tmp_path):
    """Give a control group whose processes can be limited in number, with the hooks called in it."""

    class Few:
        directory = Path("/sys/fs/cgroup/few")

        def __init__(self):
            self.directory.mkdir()

        def executable(self, name):
            program = tmp_path / name
            program.write_text(
                f'#!/bin/sh\necho $$ >{self.directory}/cgroup.procs\nexec {REPOSITORY}/hooks/{name} "$@"\n'
            )
            program.chmod(0o755)
            return program

        def limit(self, number):
            (self.directory / "pids.max").write_text(f"{number}")

        def number(self):
            return int((self.directory / "pids.current").read_text())

    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+pids")
    few = Few()
    yield few
    eventually(lambda: few.number() == 0)
    few.directory.rmdir()


def test_no_process_can_be_started_while_libvirt_waits(bridge, few):
    few.limit(1)
    done = hook("port-created", port_created(), executable=few.executable("network"))

    line = refused(done)
    why = "cannot start a process: Resource temporarily unavailable"
    assert line == f"VM web, NIC {MAC}: {why}: check the host's processes and free memory, and try again"
    assert (detached(), tickets()) == ([], [])
    assert hook("port-created", port_created("no-portgroup"), executable=few.executable("network")).returncode == 0


@pytest.mark.parametrize("more", range(2))
def test_no_process_can_be_started_for_a_while(bridge, few, more):
    """A command takes a process, and a thread for its timeout."""
    hook("port-created", port_created(), executable=few.executable("network"))
    eventually(lambda: few.number() == 1)
    few.limit(1 + more)
    bridge.add_tap()
    eventually(lambda: any("cannot be run: " in line for line in logged()))
    assert detached()
    few.limit("max")

    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())


@pytest.mark.parametrize("number", range(1, 3))
def test_the_join_can_start_no_process(bridge, ready, few, number):
    announced(bridge, ready)
    few.limit(number)
    done = hook("start", DOMAIN, executable=few.executable("qemu"), name="web")

    assert "cannot be run: " in refused(done)
    assert vlans("vnet0") == DEFAULT


def may_open(number, *processes):
    """Given how many files these processes may have open at once, let that be so."""
    for process in processes:
        subprocess.run(["prlimit", "--pid", f"{process}", f"--nofile={number}:100"], check=True)


def test_no_file_can_be_opened_for_a_while(bridge):
    hook("port-created", port_created())
    (process,) = eventually(detached)
    time.sleep(3)  # until it has imported what it needs
    may_open(5, process)
    bridge.add_tap()
    eventually(lambda: any("Too many open files" in line for line in logged()))
    assert vlans("vnet0") == DEFAULT
    assert process in detached()
    may_open(100, process)

    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())


def test_few_files_can_be_opened_while_libvirt_waits(bridge, tmp_path):
    """Too few for the hook: it is refused and leaves nothing. Too few for the detached process: it waits for more."""
    program = tmp_path / "network"
    outcomes = []
    for number in (4, 6, 20):
        program.write_text(f'#!/bin/sh\nexec prlimit --nofile={number}:100 {REPOSITORY}/hooks/network "$@"\n')
        program.chmod(0o755)
        done = hook("port-created", port_created(), executable=program)
        outcomes.append(done.returncode)
        if done.returncode:
            assert (tickets(), detached()) == ([], [])
        else:
            bridge.add_tap()
            if number == 6:  # with more, the process may have ended already
                may_open(100, *detached())
            eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
            bridge.remove_tap()
            hook("port-deleted", port_created())

    assert outcomes == [1, 0, 0]


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clock_jumps_by_an_hour(bridge, granted, hours):
    """While the port is waited for, and while libvirt decides on a live change of it."""

    def jump(by):
        time.clock_settime(time.CLOCK_REALTIME, time.time() + by * 3600)

    try:
        hook("port-created", port_created())
        jump(hours)
        bridge.add_tap()
        eventually(lambda: vlans("vnet0") == ZEROTIER and not detached(), within_seconds=10)
        granted(UUID)
        changed = port_created(uuid=UUID2, group=("<group>zerotier</group>", "<group>server</group>"))
        hook("port-created", changed)
        jump(hours)
        granted(UUID, UUID2)
        always(lambda: vlans("vnet0") == ZEROTIER, for_seconds=3)
        hook("port-deleted", port_created())
        granted(UUID2)
        eventually(lambda: vlans("vnet0") == SERVER, within_seconds=10)
        jump(-hours)
        eventually(lambda: not detached())
        assert len(tickets()) == 1
    finally:
        jump(-hours)
