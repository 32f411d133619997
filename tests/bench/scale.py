# SPDX-License-Identifier: MIT
"""What many VMs, ports and tickets cost: `libvirt-vlan check` under a real libvirtd, and port-created."""

import os
import statistics
import subprocess

import figures
from figures import NETWORK, REPOSITORY, SAMPLES, TICKETS, Figures, adopt, ip, port_created, remove, row, seconds

TOOL, VIRSH = "/usr/local/sbin/libvirt-vlan", ["virsh", "-q", "-c", "qemu:///system"]
COUNTS = (1, 10, 30)
THOUSAND = range(1000)
LIBVIRT_NETWORK = """<network><name>br0</name><forward mode='bridge'/><bridge name='br0'/>
<portgroup name='zerotier-46'/></network>"""
VM = """<domain type='qemu'><name>vm{number}</name><memory unit='MiB'>16</memory>
<os><type arch='armv7l' machine='virt'>hvm</type></os><devices>
<interface type='network'><mac address='52:54:00:00:02:{number:02x}'/><source network='br0' portgroup='zerotier'/>
<model type='virtio'/><rom enabled='no'/></interface><memballoon model='none'/></devices></domain>"""


def checking() -> Figures:
    """Return the row about what one VM more costs `libvirt-vlan check`."""
    adopt(False)
    subprocess.run([REPOSITORY / "tests/lab/start-libvirtd"], check=True, stdin=subprocess.DEVNULL)
    virsh("net-define", stdin=LIBVIRT_NETWORK)
    virsh("net-start", "br0")
    began, check = 0, {}
    for count in COUNTS:
        for number in range(began, count):
            virsh("define", stdin=VM.format(number=number))
            virsh("start", "--paused", f"vm{number}")
        began = count
        check[count] = statistics.median(seconds([TOOL, "check"]) for _ in range(SAMPLES))
    dumpxml = statistics.median(seconds([*VIRSH, "dumpxml", "--domain", "vm0"]) for _ in range(SAMPLES))
    for number in range(began):
        virsh("destroy", f"vm{number}")
        virsh("undefine", f"vm{number}")
    virsh("net-destroy", "br0")
    virsh("net-undefine", "br0")
    adopt(True)
    more = (check[COUNTS[-1]] - check[COUNTS[0]]) / (COUNTS[-1] - COUNTS[0])
    each = ", ".join(f"{check[count] * 1000:.0f} ms with {count}" for count in COUNTS)
    what = "one running VM more, to `libvirt-vlan check`"
    return [row(what, more, "one `virsh dumpxml`", dumpxml, "≤ 0.3")], [
        f"`libvirt-vlan check` takes {each} running VMs."
    ]


def virsh(*words: str, stdin: str = "") -> None:
    """Run virsh with these words, and with its standard input as a file if there is any."""
    file = ["/dev/stdin"] if stdin else []
    subprocess.run([*VIRSH, *words, *file], input=stdin.encode(), check=True, stdout=subprocess.DEVNULL)


def among() -> Figures:
    """Return the rows about port-created among a thousand bridge ports, and a thousand tickets as well."""
    alone = blocked()
    batch("link add other{0} type dummy\nlink set other{0} master br0 up\n")
    ports = blocked()
    make_tickets()
    both = blocked()
    batch("link del other{0}\n")
    for ticket in TICKETS.glob("fe:54:00:01:*"):
        ticket.unlink()
    return [
        row("libvirtd blocked by port-created among 1,000 ports", ports, "alone", alone, "≤ 1.2"),
        row("the same among 1,000 ports and 1,000 tickets", both, "alone", alone, "≤ 1.2"),
    ], []


def blocked() -> float:
    """Return how long libvirtd waits for port-created."""
    times = []
    for _ in range(SAMPLES):
        times.append(seconds([*NETWORK, "port-created", "begin", "-"], port_created(1)))
        end_all()
        remove(1)
    return statistics.median(times)


def end_all() -> None:
    """End the processes that wait for taps."""
    for process in figures.running():
        os.kill(process, 9)
    figures.until_nothing_runs()


def batch(lines: str) -> None:
    """Given lines of `ip -batch` about one of a thousand interfaces, run them for all."""
    with open("/run/batch", "w", encoding="ascii") as file:
        file.writelines(lines.format(number) for number in THOUSAND)
    ip("-batch", "/run/batch")


def make_tickets() -> None:
    """Write a thousand tickets: copies of a real one, with MAC addresses and uuids of their own."""
    subprocess.run([*NETWORK, "port-created", "begin", "-"], input=port_created(1).encode(), check=True)
    end_all()
    (ticket,) = TICKETS.glob("fe:*")
    text, uuid = ticket.read_text(), ticket.name.partition(".")[2]
    for number in THOUSAND:
        end, its_uuid = f"54:00:01:{number >> 8:02x}:{number & 255:02x}", f"{uuid[:-4]}{number:04x}"
        its_text = text.replace("52:54:00:00:00:01", f"52:{end}").replace(uuid, its_uuid)
        (TICKETS / f"fe:{end}.{its_uuid}").write_text(its_text)
    remove(1)
