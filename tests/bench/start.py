# SPDX-License-Identifier: MIT
"""What `virsh start` costs with these hooks, with a bash hook and without any; and thirty ports at once."""

import os
import statistics
import subprocess
import time
from pathlib import Path

import figures
from figures import (
    ENVIRONMENT,
    HOOKS,
    REPOSITORY,
    SAMPLES,
    TICKETS,
    Figures,
    adopt,
    explained,
    ip,
    port_created,
    row,
    seconds,
)
from scale import LIBVIRT_NETWORK, VIRSH, virsh

BEFORE = os.environ.get("LAB_BEFORE", "")  # a checkout of an earlier release, to compare thirty ports with
NAMES = ("network", "qemu", "lxc")
# why figures miss their limits
FOUR_CALLS = "each of libvirt's four calls starts a Python, and `start` waits until sh and tenacity are imported"
ONE_MORE = "each NIC's call starts a Python, and its VLANs are typed and read back"
THIRTY_PROCESSES = "each VM has a process of its own, and nearly all of its time is the import of sh and tenacity"
THIRTY = range(1, 31)
NIC = """<interface type='network'><mac address='52:54:00:00:03:{number:02x}'/>
<source network='br0' portgroup='zerotier'/><model type='virtio'/><rom enabled='no'/></interface>"""
VM = """<domain type='qemu'><name>vm{nics}</name><memory unit='MiB'>16</memory>
<os><type arch='armv7l' machine='virt'>hvm</type></os><devices>{interfaces}<memballoon model='none'/></devices>
</domain>"""


def starting() -> Figures:
    """Return the rows about `virsh start`, with one NIC and with four."""
    adopt(False)
    subprocess.run([REPOSITORY / "tests/lab/start-libvirtd"], check=True, stdin=subprocess.DEVNULL)
    virsh("net-define", stdin=LIBVIRT_NETWORK)
    virsh("net-start", "br0")
    for nics in (1, 4):
        interfaces = "".join(NIC.format(number=number) for number in range(nics))
        virsh("define", stdin=VM.format(nics=nics, interfaces=interfaces))
    ours = {name: (HOOKS / name).read_bytes() for name in NAMES}
    bash = {"network": figures.BASH[0].read_bytes()}
    took: dict[tuple[str, int], list[float]] = {}
    for sample in range(SAMPLES + 1):  # in turn, so that whatever slows the machine down slows all of them
        for which, files in (("none", {}), ("bash", bash), ("ours", ours)):
            for name in NAMES:
                (HOOKS / name).unlink(missing_ok=True)
                if name in files:
                    (HOOKS / name).write_bytes(files[name])
                    (HOOKS / name).chmod(0o755)
            for nics in (1, 4):
                spent = seconds([*VIRSH, "start", "--paused", f"vm{nics}"])
                time.sleep(1)  # the bash hook waits in the background
                virsh("destroy", f"vm{nics}")
                if sample:  # the first warms the caches up
                    took.setdefault((which, nics), []).append(spent)
    for nics in (1, 4):
        virsh("undefine", f"vm{nics}")
    virsh("net-destroy", "br0")
    virsh("net-undefine", "br0")
    adopt(True)
    one = {which: statistics.median(took[which, 1]) for which in ("none", "bash", "ours")}
    more = {which: (statistics.median(took[which, 4]) - one[which]) / 3 for which in one}
    return [
        explained(row("`virsh start`, one NIC", one["ours"], "bash hook", one["bash"], "≤ 1.2"), FOUR_CALLS),
        row("", one["ours"], "no hooks", one["none"], ""),
        explained(row("`virsh start`, each NIC more", more["ours"], "no hooks", more["none"], "≤ 1.5"), ONE_MORE),
        row("", more["ours"], "bash hook", more["bash"], ""),
    ], []


def thirty() -> Figures:
    """Return the rows about thirty ports at once, of one VM and of thirty, and a line about the memory."""
    rows, lines = [], []
    for what, vms in (("one VM", 1), ("thirty VMs", 30)):
        ours, mebibytes = at_once(HOOKS / "network", vms)
        said = f"thirty ports of {what}: {mebibytes:.0f} MiB (PSS) while they wait for their taps"
        if BEFORE:
            before, its_mebibytes = at_once(Path(BEFORE, "hooks/network"), vms)
            of_ports = row(f"30 ports of {what} at once → last VLAN change", ours, "release before", before, "≤ 0.5")
            rows.append(explained(of_ports, THIRTY_PROCESSES))
            said += f", {its_mebibytes:.0f} MiB in the release before"
        lines.append(f"{said}.")
    return rows, lines


def at_once(hook: Path, vms: int) -> tuple[float, float]:
    """Given a network hook and whether the thirty ports are of one VM or of thirty, return how long it takes from the
    first call of the hook to the last VLAN change, and the memory (MiB) of the processes that wait meanwhile.
    """
    times = []
    for _ in range(3):
        begin = time.monotonic()
        for number in THIRTY:
            xml = port_created(number, own_vm=vms > 1)
            subprocess.run([hook, "br0", "port-created", "begin", "-"], input=xml.encode(), check=True, env=ENVIRONMENT)
        waiting = [line for process in figures.running() for line in figures.smaps(process) if line.startswith("Pss:")]
        with figures.vlan_changes() as changes:
            figures.taps(THIRTY)
            figures.until_nothing_runs()
        assert all(figures.vlans(f"vnet{number}") == [46] for number in THIRTY)
        times.append(changes[-1] - begin)
        ip("-batch", "/dev/stdin", stdin="".join(f"link del vnet{number}\n" for number in THIRTY))
        for ticket in TICKETS.glob("fe:*"):
            ticket.unlink()
    return statistics.median(times), sum(int(line.split()[1]) for line in waiting) / 1024
