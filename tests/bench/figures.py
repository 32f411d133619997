# SPDX-License-Identifier: MIT
"""Measure how long libvirtd waits for the hooks and taps wait for their VLANs, and print it as docs/benchmarks.md.

    sh tests/check -e bench [-- PART...]

Everything is measured in one run, on the lab's one processor, and compared with something measured beside it: the lab's
milliseconds are not a hypervisor's, their ratios nearly are.
"""

import contextlib
import ctypes
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "tests/data"
HOOKS = Path("/etc/libvirt/hooks")
NETWORK, QEMU = [HOOKS / "network", "br0"], [HOOKS / "qemu", "web"]
BASH = [REPOSITORY / "tests/bench/hook.bash", "br0"]
# the least that a hook can do that reads XML safely and goes on after it has returned
FLOOR = [
    *("/usr/bin/python3", "-IS", "-c"),
    "import os, site, sys; sys.path += site.getsitepackages(); import defusedxml.expatbuilder\n"
    "if os.fork() == 0: [os.close(descriptor) for descriptor in (0, 1, 2)]\n"
    "os._exit(0)",
]
VM_UUID = "14c6f67e-7f4a-4044-b0ed-336b9ee62273"  # of the captured port
BARE = ["/usr/bin/python3", "-I", "-c", "pass"]
IMPORTS = ["/usr/bin/python3", "-I", "-c"]
TICKETS, LOG = Path("/run/libvirt-hooks"), Path("/var/log/libvirt/hooks.log")
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
RTMGRP_LINK, AF_BRIDGE = 1, 7  # source: linux/rtnetlink.h, linux/socket.h
SO_RCVBUFFORCE = 33  # source: asm-generic/socket.h
FAMILY = 16  # of a message about a link, struct ifinfomsg behind struct nlmsghdr: the offset in octets
PR_SET_CHILD_SUBREAPER = 36  # source: linux/prctl.h
SAMPLES = 9
TENACITY = "the tap comes while tenacity is still imported"  # why a figure misses its limit
Row = tuple[str, ...]
Figures = tuple[list[Row], list[str]]  # rows of the table, and lines below it
TYPED = (
    "bridge vlan show dev {port} >/dev/null; bridge vlan del dev {port} vid 1 master; "
    "bridge vlan add dev {port} vid 46 pvid untagged master"
)


def main() -> None:
    """Measure all, or the parts that are named, and print the page."""
    import scale  # which need what is below
    import start

    parts = {
        "blocked": blocked,
        "start": start.starting,
        "thirty": start.thirty,
        "joining": joining,
        "crowds": crowds,
        "trunk": trunk,
        "among": scale.among,
        "check": scale.checking,
        "waiting": waiting,
        "watch": watched,
    }
    chosen = sys.argv[1:] or list(parts)
    subprocess.run(["make", "-s", "-C", REPOSITORY, "install"], check=True, stdout=subprocess.DEVNULL)
    ip("link", "add", "br0", "type", "bridge", "vlan_filtering", "1", "mcast_snooping", "0")
    ip("link", "set", "br0", "up")
    rows, lines = [], []
    for part in chosen:
        more_rows, more_lines = parts[part]()
        rows += more_rows
        lines += more_lines
    print(page(rows, lines))


# How long libvirtd is blocked


def blocked() -> Figures:
    """Return the rows about what libvirtd waits for."""
    created, other, done = [], [], []
    against_bare, against_bash, floors = [], [], []
    for _ in range(SAMPLES):  # in turn, so that whatever slows the machine down slows all of them
        against_bare.append(seconds(BARE))
        floors.append(seconds(FLOOR))
        other.append(seconds([*NETWORK, "plugged", "begin", "-"]))
        created.append(seconds([*NETWORK, "port-created", "begin", "-"], port_created(1)))
        tap(1)
        until_nothing_runs()
        done.append(seconds([*QEMU, "start", "begin", "-"], started(1)))
        remove(1)
        against_bash.append(seconds([*BASH, "port-created", "begin", "-"], port_created(1)))
        tap(1)
        until_nothing_runs()
        remove(1)
    bare, bash = statistics.median(against_bare), statistics.median(against_bash)
    ours = statistics.median(created)
    rows = [
        row("libvirtd blocked by port-created", ours, "bare Python", bare, "≤ 1.5"),
        row("", ours, "the least possible", statistics.median(floors), ""),
        row("", ours, "bash hook", bash, "< 1"),
        row(
            "libvirtd blocked by an operation that is not ours", statistics.median(other), "bare Python", bare, "≤ 1.15"
        ),
        row("libvirtd blocked by `start begin`, work done", statistics.median(done), "bare Python", bare, "≤ 1.6"),
    ]
    return rows, []


def seconds(command: list, stdin: str = "") -> float:
    """Given a command and its stdin, return how long libvirtd would wait for it: until nobody holds its pipes."""
    begin = time.monotonic()
    subprocess.run(command, input=stdin.encode(), capture_output=True, check=True, env=ENVIRONMENT)
    return time.monotonic() - begin


# How long a tap waits


def joining() -> Figures:
    """Return the rows about the time from a tap's joining the bridge to the last change of its VLANs."""
    typed = statistics.median(type_by_hand() for _ in range(SAMPLES))
    rows = []
    for later, limit in ((0, "≤ 3.1"), (0.3, "≤ 4"), (3, "≤ 4"), (30, "≤ 10")):
        what = f"tap joins {later} s after the hook → last VLAN change"
        ours = statistics.median(join(NETWORK, later) for _ in range(SAMPLES))
        rows.append(explained(row(what, ours, "typed", typed, limit), TENACITY))
        if later == 0.3:
            bash = statistics.median(join(BASH, later) for _ in range(SAMPLES))
            rows.append(explained(row("", ours, "bash hook", bash, "< 1"), TENACITY))
    with_sh, with_both = [], []
    for _ in range(SAMPLES):
        with_sh.append(seconds([*IMPORTS, "import sh"]))
        with_both.append(seconds([*IMPORTS, "import sh, tenacity"]))
    tenacity = statistics.median(with_both) - statistics.median(with_sh)
    return [*rows, row("importing tenacity, which each of these includes", tenacity, "typed", typed, "")], []


def join(hook: list, later: float, number: int = 1) -> float:
    """Given a hook, after how many seconds the tap joins, and its number, return how long the tap then waits."""
    subprocess.run(
        [*hook, "port-created", "begin", "-"], input=port_created(number).encode(), check=True, env=ENVIRONMENT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(later)
    with vlan_changes() as times:
        tap(number)
        until_nothing_runs()
    assert vlans(f"vnet{number}") == [46], vlans(f"vnet{number}")
    remove(number)
    return times[-1] - times[0]  # the first is the default VLAN, which the kernel gives at the joining


def type_by_hand() -> float:
    """Return how long three commands take, from the first one's start to the last change."""
    tap(1)
    with vlan_changes() as times:
        begin = time.monotonic()
        subprocess.run(["sh", "-c", TYPED.format(port="vnet1")], check=True, env=ENVIRONMENT)
    remove(1)
    return times[-1] - begin


# Many of them


def crowds() -> Figures:
    """Return the rows about many ports at once, and about one port among many."""
    alone = [join(NETWORK, 3) for _ in range(SAMPLES)]
    one = statistics.median(alone)
    hundred = range(1, 101)
    for number in hundred:
        xml = port_created(number, own_vm=True)
        subprocess.run([*NETWORK, "port-created", "begin", "-"], input=xml.encode(), check=True)
    time.sleep(30)  # until all have imported what they need
    with vlan_changes() as times:
        taps(hundred)
        until_nothing_runs()
    assert all(vlans(f"vnet{number}") == [46] for number in hundred)
    for number in hundred:
        remove(number)
    what, all_of_them = "100 taps of 100 VMs at once → last VLAN change", times[-1] - times[0]
    against_one = row(what, all_of_them, "100 times one", 100 * one, "≤ 1.2")
    rows = [explained(against_one, "explained below in part")]

    with open("/run/batch", "w", encoding="ascii") as batch:
        for number in range(1000, 2000):
            batch.write(f"link add other{number} type dummy\nlink set other{number} master br0 up\n")
    ip("-batch", "/run/batch")
    with open("/run/batch", "w", encoding="ascii") as batch:
        for vid in (1, 46, 3):
            batch.write(f"vlan add dev other1000 vid {vid} master\n" if vid > 1 else "")
            for entry in range(4000):
                address = f"02:00:00:{vid:02x}:{entry >> 8:02x}:{entry & 255:02x}"
                batch.write(f"fdb add {address} dev other1000 master static vlan {vid}\n")
    subprocess.run(["/usr/sbin/bridge", "-batch", "/run/batch"], check=True)
    among = [join(NETWORK, 3) for _ in range(SAMPLES)]
    with open("/run/batch", "w", encoding="ascii") as batch:
        batch.writelines(f"link del other{number}\n" for number in range(1000, 2000))
    ip("-batch", "/run/batch")
    what = "a tap among 1,000 with 4,000 FDB entries per VLAN → last VLAN change"
    among_them = row(what, statistics.median(among), "alone", one, "≤ 1.2")
    return [
        *rows,
        explained(among_them, "each look for a tap reads the forwarding database, which has 14,000 entries then"),
    ], []


def trunk() -> Figures:
    """Return the row about a trunk of 200 scattered VIDs."""
    vids = range(10, 410, 2)
    tags = "".join(f'<tag id="{vid}"/>' for vid in vids)
    portgroup = f'<portgroup name="zerotier"><vlan trunk="yes">{tags}</vlan></portgroup>'
    block = f'<hooks:portgroups xmlns:hooks="urn:libvirt-hooks:portgroups:1">{portgroup}</hooks:portgroups>'
    xml = port_created(1).replace(
        "<portgroup name='zerotier-46'", f"<metadata>{block}</metadata><portgroup name='x-46'"
    )
    ours, by_batch = [], []
    for _ in range(SAMPLES):
        subprocess.run([*NETWORK, "port-created", "begin", "-"], input=xml.encode(), check=True)
        time.sleep(3)
        with vlan_changes() as times:
            tap(1)
            until_nothing_runs()
            assert vlans("vnet1") == list(vids), vlans("vnet1")
        ours.append(times[-1] - times[0])
        remove(1)
        tap(1)
        lines = "vlan del dev vnet1 vid 1 master\n" + "".join(f"vlan add dev vnet1 vid {vid} master\n" for vid in vids)
        with vlan_changes() as times:
            begin = time.monotonic()
            subprocess.run(["/usr/sbin/bridge", "-batch", "-"], input=lines.encode(), check=True)
        by_batch.append(times[-1] - begin)
        remove(1)
    batch = statistics.median(by_batch)
    against_batch = row("trunk of 200 scattered VIDs", statistics.median(ours), "one `bridge -batch`", batch, "≤ 3")
    return [explained(against_batch, "after 3 s a look for the tap comes each 50 ms, and 200 commands are logged")], []


# What waiting costs


def waiting() -> Figures:
    """Return lines about the memory and the processor time of a process that waits."""
    for number in range(1, 4):
        xml = port_created(number, own_vm=True)
        subprocess.run([*NETWORK, "port-created", "begin", "-"], input=xml.encode(), check=True)
        time.sleep(2)
    processes = running()
    pss = max(int(line.split()[1]) for process in processes for line in smaps(process) if line.startswith("Pss:"))
    shares, last = [], 0.0
    for until in (10, 30, 60):
        before = sum(map(processor_seconds, processes))
        time.sleep(until - last)
        used = sum(map(processor_seconds, processes)) - before
        shares.append(f"{100 * used / len(processes) / (until - last):.1f} % from second {last:.0f} to {until}")
        last = until
    for number in range(1, 4):
        remove(number)
    for process in processes:
        os.kill(process, 9)
    return [], [
        f"A process that waits has {pss / 1024:.1f} MiB of memory (PSS, the largest of {len(processes)}).",
        f"It takes {', '.join(shares)} of the lab's processor.",
    ]


def smaps(process: int) -> list[str]:
    """Given a process, return the sums of its memory. Source: proc(5), smaps_rollup."""
    return Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()


def processor_seconds(process: int) -> float:
    """Given a process, return its processor time, user and system. Source: proc(5), stat, fields 14 and 15."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


# What watch costs


def watched() -> Figures:
    """Return the rows and lines about `libvirt-vlan watch`."""
    tool, output = "/usr/local/sbin/libvirt-vlan", Path("/run/watched")
    numbers = range(2, 32)
    for number in numbers:
        right_tap(number)
    with open(output, "wb") as file:
        watch = subprocess.Popen([tool, "watch"], stdout=file)
    time.sleep(10)
    processes = [watch.pid, *map(int, Path(f"/proc/{watch.pid}/task/{watch.pid}/children").read_text().split())]
    for thread in Path(f"/proc/{watch.pid}/task").iterdir():
        processes += map(int, (thread / "children").read_text().split())
    processes = sorted(set(processes))
    typed, mended = [], []
    for number in numbers[:SAMPLES]:  # in turn, so that whatever slows the machine down slows both
        mended.append(mend(number))
        with stopped(processes):
            typed.append(type_by_hand())
        time.sleep(1)
    all_of_them = made_anew(numbers)
    pss = sum(int(line.split()[1]) for process in processes for line in smaps(process) if line.startswith("Pss:"))
    time.sleep(30)  # it looks once more at what it has repaired
    idle = [1000 * spent(processes, lambda: time.sleep(1)) for _ in range(60)]
    before = len(output.read_text().splitlines())
    shares: list[float] = []
    insisting = spent(processes, lambda: shares.append(insist(31)))
    lines = len(output.read_text().splitlines()) - before
    for number in numbers[1:]:
        remove(number)
    one = statistics.median(made_anew([2]) for _ in range(3))
    with others(1000) as batch:
        own, monitor = (spent(some, lambda: events(batch, 20)) for some in (processes[:1], processes[1:]))
    watch.terminate()
    watch.wait()
    remove(2)
    rows = [
        explained(
            row(
                "watch: wrong VLAN → the right one", statistics.median(mended), "typed", statistics.median(typed), "≤ 3"
            ),
            "watch reads the VLANs before it changes them, and runs a process for each step",
        ),
        row("watch: bridge created again → its 30 taps right", all_of_them, "30 times one", 30 * one, "≤ 2"),
    ]
    return rows, [
        f"watch and its `bridge monitor` have {pss / 1024:.1f} MiB of memory (PSS; target: ≤ 30).",
        f"With 30 taps and nothing to do they take {sum(idle):.0f} ms of the lab's processor in a minute, in "
        f"{sum(map(bool, idle))} of its seconds.",
        f"Something sets a VLAN back ten times a second for a minute: {100 * insisting:.1f} % of the processor, {lines}"
        f" lines (target: ≤ 5 %, ≤ 30). The tap is in the wrong VLAN for {100 * shares[0]:.0f} % of that minute:"
        " watch repairs a tap once a second at most.",
        f"100 events a second of 1,000 other ports: {100 * own:.1f} % of the processor for watch, "
        f"{100 * monitor:.1f} % for `bridge monitor` (target: ≤ 5 together).",
    ]


@contextlib.contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    """Have these processes stand still meanwhile."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    yield
    for process in processes:
        os.kill(process, signal.SIGCONT)


def right_tap(number: int) -> None:
    """Make tap `number`, and have the hook make it right."""
    subprocess.run([*NETWORK, "port-created", "begin", "-"], input=port_created(number).encode(), check=True)
    tap(number)
    until_nothing_runs()


def mend(number: int) -> float:
    """Return how long tap `number` is in a wrong VLAN: from the first change to the last."""
    with vlan_changes() as times:
        vlan("add", f"vnet{number}", "3", "pvid", "untagged")
        until_vlans([number])
    return times[-1] - times[0]


def made_anew(numbers: Iterable[int]) -> float:
    """Return how long it takes from a new bridge to its taps' last change."""
    ip("link", "del", "br0")
    time.sleep(1)
    with vlan_changes() as times:
        begin = time.monotonic()
        ip("link", "add", "br0", "up", "type", "bridge", "vlan_filtering", "1", "mcast_snooping", "0")
        until_vlans(numbers)
        time.sleep(1)
    return times[-1] - begin


def insist(number: int) -> float:
    """For a minute, take tap `number` its VLAN ten times a second, whenever it is there again.

    Return for which share of that time it is not.
    """
    begin, wrong = time.monotonic(), 0.0
    while (now := time.monotonic()) < begin + 60:
        is_right = vlans(f"vnet{number}") == [46]
        if is_right:
            vlan("add", f"vnet{number}", "3", "pvid", "untagged")
        time.sleep(0.1)
        wrong += 0 if is_right else time.monotonic() - now
    return wrong / (time.monotonic() - begin)


@contextlib.contextmanager
def others(count: int) -> Iterator[IO[str]]:
    """Make so many other ports, and give the stdin of a `bridge -batch`; remove them afterwards."""
    ip("link", "add", "br1", "type", "bridge", "vlan_filtering", "1")
    batch_of_ip(f"link add other{port} type dummy\nlink set other{port} master br1 up\n" for port in range(count))
    time.sleep(10)
    with subprocess.Popen(["/usr/sbin/bridge", "-batch", "-"], stdin=subprocess.PIPE, text=True) as batch:
        yield batch.stdin
    batch_of_ip(f"link del other{port}\n" for port in range(count))
    ip("link", "del", "br1")


def events(batch: IO[str], seconds: int) -> None:
    """Given the stdin of a `bridge -batch`, have 100 other ports a second change for so long."""
    begin = time.monotonic()
    for tenth in range(10 * seconds):
        for port in range(10 * tenth, 10 * tenth + 10):
            batch.write(f"vlan add dev other{port % 1000} vid {2 + int(begin + tenth / 10) % 4000} master\n")
        batch.flush()
        time.sleep(max(0, begin + tenth / 10 - time.monotonic()))


def batch_of_ip(lines: Iterable[str]) -> None:
    """Have one `ip` do what these lines say."""
    subprocess.run(["ip", "-batch", "-"], input="".join(lines).encode(), check=True)


def vlan(*words: str) -> None:
    """Given what to do, a tap, a VID and flags, do that as an operator would."""
    what, port, *rest = words
    subprocess.run(["/usr/sbin/bridge", "vlan", what, "dev", port, "vid", *rest], check=True)


def until_vlans(numbers: Iterable[int]) -> None:
    """Return once these ports have VLAN 46 alone."""
    while any(vlans(f"vnet{number}") != [46] for number in numbers):
        time.sleep(0.5)


def spent(processes: list[int], work: Callable[[], None]) -> float:
    """Given processes and something that goes on meanwhile, return the share of the processor that they take."""
    begin, before = time.monotonic(), sum(map(processor_seconds, processes))
    work()
    return (sum(map(processor_seconds, processes)) - before) / (time.monotonic() - begin)


# The bench


def ip(*words: str, stdin: str = "") -> None:
    """Run `ip`."""
    subprocess.run(["ip", *words], input=stdin.encode(), check=True)


def tap(number: int) -> None:
    """Make tap `number`, and put it on the bridge."""
    taps([number])


def taps(numbers: Iterable[int]) -> None:
    """Make the taps of ports, and put them on the bridge."""
    lines = [
        f"tuntap add vnet{number} mode tap\n"
        f"link set vnet{number} address fe:54:00:00:{number >> 8:02x}:{number & 255:02x}\n"
        f"link set vnet{number} master br0 up\n"
        for number in numbers
    ]
    subprocess.run(["ip", "-batch", "-"], input="".join(lines).encode(), check=True)


def remove(number: int) -> None:
    """Remove tap `number`, its ticket and whatever waits for it."""
    subprocess.run(["ip", "link", "del", f"vnet{number}"], check=False, stderr=subprocess.DEVNULL)
    address = f"fe:54:00:00:{number >> 8:02x}:{number & 255:02x}"
    for ticket in TICKETS.glob(f"{address}.*"):
        ticket.unlink()
    LOG.unlink(missing_ok=True)


def vlans(port: str) -> list[int]:
    """Return the port's VIDs."""
    shown = subprocess.check_output(["/usr/sbin/bridge", "-j", "vlan", "show", "dev", port])
    return [vlan["vlan"] for entry in json.loads(shown or "[]") for vlan in entry["vlans"]]


@contextlib.contextmanager
def vlan_changes() -> Iterator[list[float]]:
    """Give a list of the times at which the kernel has told of changes of ports since; it grows meanwhile."""
    times: list[float] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        events.bind((0, RTMGRP_LINK))
        events.settimeout(0.2)

        def note() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    if events.recv(65536)[FAMILY] == AF_BRIDGE:
                        times.append(time.monotonic())

        over, thread = threading.Event(), threading.Thread(target=note)
        thread.start()
        try:
            yield times
        finally:
            time.sleep(0.1)
            over.set()
            thread.join()


def adopt(whatever_ends: bool) -> None:
    """Have processes whose parents end become our children, or init's: libvirt waits for QEMU's end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(whatever_ends), 0, 0, 0)


def until_nothing_runs() -> None:
    """Return once all that the hooks have left behind has ended: it is our children, as is asked for below."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def running() -> list[int]:
    """Return the processes that the hooks have left behind."""
    return [int(child) for child in Path("/proc/thread-self/children").read_text().split()]


def port_created(number: int, own_vm: bool = False) -> str:
    """Return the XML of port-created, captured from libvirt, for port `number`, of the captured VM or of its own."""
    xml = (DATA / "network-port-created-zerotier.xml").read_text()
    end = f"{number >> 8:02x}:{number & 255:02x}"
    uuid = xml.split("<networkport>")[1].split("<uuid>")[1].split("<")[0]
    xml = xml.replace("52:54:00:00:00:01", f"52:54:00:00:{end}").replace(uuid, f"{uuid[:-4]}{number:04x}")
    return xml.replace(VM_UUID, f"{VM_UUID[:-4]}{number:04x}") if own_vm else xml


def started(number: int) -> str:
    """Return the XML of start, captured from libvirt, its first NIC being port `number`, and no second."""
    xml = (DATA / "qemu-start.xml").read_text()
    first, second = xml.split("<interface ")[:3][1:]
    uuid = port_created(number).split("<networkport>")[1].split("<uuid>")[1].split("<")[0]
    nic = first.replace(first.split("portid='")[1].split("'")[0], uuid)
    nic = nic.replace(f"dev='{nic.split('target dev=')[1][1:].split(chr(39))[0]}'", f"dev='vnet{number}'")
    return xml.replace("<interface " + first, "<interface " + nic).replace(
        "<interface " + second.split("</interface>")[0] + "</interface>", ""
    )


# The page


def row(what: str, ours: float, against: str, theirs: float, limit: str) -> Row:
    """Return a row: what was measured, its milliseconds, against what, its milliseconds, the ratio, what it may be."""
    return (what, f"{ours * 1000:.0f}", against, f"{theirs * 1000:.0f}", f"{ours / theirs:.2f}", limit)


def explained(measured: Row, why: str) -> Row:
    """Given a row with a limit, and why its ratio can be above the limit, return the row, which says so if it is."""
    *cells, ratio, limit = measured
    return (*cells, ratio, f"{limit}, missed: {why}") if float(ratio) > float(limit.split()[1]) else measured


def page(rows: list[Row], lines: list[str]) -> str:
    """Return the page in Markdown."""
    cells = [("what", "ms", "against", "ms", "ratio", "target"), ("---", "--:", "---", "--:", "--:", "---"), *rows]
    table = "\n".join(f"| {' | '.join(cell)} |" for cell in cells)
    versions = ", ".join(f"{name} {version(name)}" for name in ("sh", "tenacity", "defusedxml"))
    return PAGE.format(
        samples=SAMPLES, table=table, lines="\n".join(f"* {line}" for line in lines), python=platform.python_version(),
        kernel=platform.release(), versions=versions,
        iproute2=subprocess.check_output(["ip", "-V"], text=True).split("iproute2-")[1].split(",")[0],
    )  # fmt: skip


PAGE = """\
# Benchmarks

On Debian or Ubuntu, `sudo sh tests/check -e bench` repeats the measurements, and writes this page and its plot. The run
takes half an hour. Let the machine do nothing else meanwhile. `-e bench -- watch` prints the figures of one part.

Medians of {samples}, all of one run in the lab: a User-Mode Linux {kernel} with one processor, Python {python},
{versions}, iproute2 {iproute2}. A system call costs some thirty times as much there as on a real
host, so the milliseconds are not a hypervisor's: compare the ratios.

![The rows about port-created and about a tap that joins, as bars](benchmarks.svg)

{table}

{lines}

* *bare Python* is `/usr/bin/python3 -I -c pass`; the hooks run with `-IS`, and so are not slowed down by `.pth` files.
* *the least possible* is a Python that imports `defusedxml`'s quickest parser, forks, and does nothing.
* *typed* is `bridge vlan show`, `bridge vlan del` and `bridge vlan add`, in a shell, from its start to the last change.
* *bash hook* is tests/bench/hook.bash: 20 lines with xmllint and jq that check nothing.
* *after 0 s* and *after 0.3 s*: the tap joins while the detached process still imports `sh` and `tenacity`. tenacity
  runs every attempt, so none can begin before its import has ended. That is why these rows miss their limits. tenacity
  8.2 would also import asyncio, which takes a third of that time: the process keeps it from that. From 3 s on the
  import no longer shows.
* *virsh start*: libvirt calls the qemu hook at `prepare`, the network hook for each NIC, and the qemu hook at `start`
  and `started`. Each call is a Python that starts. The bash hook is one bash for each NIC.
* *the release before*: 1.0.0, which has a process for each NIC. Only runs with `LAB_BEFORE=DIRECTORY` have these rows.
* *100 taps at once* share one processor, and each process does more than for one tap: it reads 100 addresses
  (5 to 10 ms), looks at 100 tickets, and sweeps them (4 ms).
* *watch: wrong VLAN → the right one* runs from the change that makes another VLAN the PVID to the last of watch's own.
* *30 times one*: the bridge created again with one tap, times 30. In between the taps' links are down.
* *among 1,000 ports*: before it decides, the hook looks for a tap that has the NIC's address already, because that is a
  live change, or another VM's tap. The bridge's forwarding database in /sys tells that there is none, within 2 to 9 ms.
  To read the address of each of the 1,000 ports takes 150 to 230 ms. A look among 1,000 tickets takes 2 ms.
* *after 30 s*: looks for the tap get rarer the longer it takes, one every sixtieth of the time that has passed.
* The time of a tap runs from its joining the bridge to the last change of its VLANs, both as the kernel tells them
  (`bridge monitor link`).
"""


if __name__ == "__main__":
    adopt(True)
    main()
