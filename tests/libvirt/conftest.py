# SPDX-License-Identifier: MIT
"""A real libvirtd with the project's hooks installed, a VLAN-aware bridge, and small Arm VMs.

Where libvirtd is not installed, the modular daemons do its work, and that is what "libvirtd" means in these tests.
"""

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from iproute import ZEROTIER, eventually, ip, vlans
from parts import own_part
from processes import command_lines

REPOSITORY = Path(__file__).resolve().parents[2]
LIBVIRT = ["/usr/bin/virsh", "-q", "-c", "qemu:///system"]
BRIDGE = "br0"
MAC, MAC2 = "52:54:00:00:00:01", "52:54:00:00:00:02"
LOG = Path("/var/log/libvirt/hooks.log")  # there is no /dev/log in the lab
# tox -e deb builds the package, -e upgrade two releases; -e services has the services, -e modular the daemons
collect_ignore = [] if "LAB_DEB" in os.environ else ["test_deb.py"]
collect_ignore += [] if "LAB_UPGRADE" in os.environ else ["test_upgrade.py"]
collect_ignore += [] if shutil.which("NetworkManager") else ["test_services.py"]
collect_ignore += [] if shutil.which("virtqemud") else ["test_modular.py"]
TICKETS = Path("/run/libvirt-hooks")
PID_FILE = Path("/run/libvirtd.pid")
DAEMONS = ("libvirtd",) if shutil.which("libvirtd") else ("virtnetworkd", "virtqemud")
NETWORK_DAEMON, QEMU_DAEMON = DAEMONS[0], DAEMONS[-1]


def pytest_sessionstart():
    """Outside the lab, these tests would change a real machine's libvirtd."""
    if os.environ.get("LAB") != "1":
        pytest.exit("run it in the lab: tests/lab/run --memory 2048M -- python3 -m pytest tests/libvirt", returncode=1)


def pytest_collection_modifyitems(config, items):
    """Keep the tests that this libvirt can run, and of these the part of LAB_PART."""
    kept = own_part(without_containers(items))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def without_containers(items):
    """Given tests, return them without those of containers where, and only where, libvirt has no driver for those."""
    if any(Path("/usr/lib").glob("**/libvirt_driver_lxc.so")):
        return items
    kept = [item for item in items if not item.get_closest_marker("containers")]
    if len(kept) < len(items):
        print(f"\nleft out: {len(items) - len(kept)} tests of containers, because this libvirt has no LXC driver")
    return kept


def virsh(*words, stdin=None):
    """Run virsh with these words and return its stdout. Raises AssertionError, with its stderr, if it fails."""
    done = subprocess.run([*LIBVIRT, *words], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"virsh {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout.strip()


def virsh_fails(*words, stdin=None):
    """Run virsh with these words, see it fail, and return its stderr."""
    done = subprocess.run([*LIBVIRT, *words], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode != 0, f"virsh {' '.join(words)} did not fail"
    return done.stderr.strip()


def tap_of(vm, mac):
    """Given a running VM and a NIC's MAC, return the name of its tap, as libvirt says it."""
    for interface in ET.fromstring(virsh("dumpxml", vm)).iter("interface"):
        if interface.find("mac").get("address") == mac:
            return interface.find("target").get("dev")
    raise AssertionError(f"{vm} has no NIC with MAC {mac}")


def nic(mac, portgroup=None, network=BRIDGE, link=None):
    """Return the XML of a NIC. It has no option ROM, because ROMs are in a package of their own."""
    group = f" portgroup='{portgroup}'" if portgroup is not None else ""
    state = f"<link state='{link}'/>" if link else ""
    return (
        f"<interface type='network'><mac address='{mac}'/><source network='{network}'{group}/>"
        f"<model type='virtio'/>{state}<rom enabled='no'/></interface>"
    )


def define_network(portgroups=("server-3", "zerotier-46", "slow"), name=BRIDGE, bridge=BRIDGE):
    """Define and start a network on a bridge of the host's."""
    groups = "".join(f"<portgroup name='{group}'/>" for group in portgroups)
    xml = f"<network><name>{name}</name><forward mode='bridge'/><bridge name='{bridge}'/>{groups}</network>"
    virsh("net-define", "/dev/stdin", stdin=xml)
    virsh("net-start", name)


def start_libvirtd(*daemons):
    """Start libvirtd, or restart it, and return when it answers: then it has called the hooks of all running VMs.

    With names of modular daemons, do so with these alone.
    """
    subprocess.run([REPOSITORY / "tests/lab/start-libvirtd", *daemons], check=True, stdin=subprocess.DEVNULL)


def undefine_network(name=BRIDGE):
    """Stop a network, if it runs, and undefine it."""
    if name in virsh("net-list", "--name").split():
        virsh("net-destroy", name)
    virsh("net-undefine", name)


def stop_libvirtd(signal, *daemons):
    """Send libvirtd, or only these modular daemons, this signal, and return when it is gone."""
    for daemon in daemons or DAEMONS:
        pid_file = Path(f"/run/{daemon}.pid")
        pid = int(pid_file.read_text())
        subprocess.run(["/usr/bin/kill", f"-{signal}", str(pid)], check=True)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), within_seconds=45)  # noqa: B023 # libvirt 11 gives its threads 30 s
        pid_file.unlink(missing_ok=True)


def version_text():
    """Return libvirt's version, as "11.3.0"."""
    return subprocess.check_output([QEMU_DAEMON, "--version"], text=True).split()[-1]


def version():
    """Return libvirt's version, as (11, 3, 0)."""
    return tuple(int(number) for number in version_text().split("."))


def typed():
    """Return the commands that the hooks have typed, as in the log."""
    lines = LOG.read_text().splitlines() if LOG.exists() else []
    return [line.partition(" + ")[2] for line in lines if " + " in line]


def working():
    """Return the ids of the processes that the hooks have left behind."""
    return [process for process, words in command_lines() if b"/etc/libvirt/hooks/" in b" ".join(words)]


def leftovers():
    """Return the names of the hooks' files in /run, tickets above all, and the ids of the hooks' processes.

    What `check` is to remember of refused starts and of uplinks stays.
    """
    kept = ("lock", "refused.", "uplinks.")
    return [file.name for file in TICKETS.glob("*") if not file.name.startswith(kept)] + working()


def nothing_left_behind():
    """Return once no ticket and no process of the hooks is left."""
    deadline = time.monotonic() + 20
    while left := leftovers():
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


def eventually_settled():
    """Return when the hooks have nothing to do any more."""
    eventually(lambda: not working(), within_seconds=40)


@pytest.fixture(scope="session", autouse=True)
def libvirtd():
    """Install the hooks as an operator would, make br0, and start libvirtd."""
    subprocess.run(["make", "-C", REPOSITORY, "install"], check=True, stdin=subprocess.DEVNULL)
    ip("link", "add", BRIDGE, "type", "bridge", "vlan_filtering", "1")
    ip("link", "set", BRIDGE, "up")
    start_libvirtd()


def network_as_it_is():
    """Return what libvirt says of network br0: the running one, and its persistent definition."""
    both = [*LIBVIRT, f"net-dumpxml {BRIDGE}; net-dumpxml --inactive {BRIDGE}"]
    return subprocess.run(both, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def networks_as_defined(libvirtd):
    """Give a set of what network_as_it_is() was when `network` had defined it; afterwards there is no br0."""
    yield set()
    if BRIDGE in virsh("net-list", "--all", "--name").split():
        undefine_network()


@pytest.fixture
def network(networks_as_defined):
    """Give network br0 with portgroups server-3, zerotier-46 and slow, running: a new one, if a test has changed it."""
    if network_as_it_is() not in networks_as_defined:
        if BRIDGE in virsh("net-list", "--all", "--name").split():
            undefine_network()
        define_network()
        networks_as_defined.add(network_as_it_is())
    return BRIDGE


@pytest.fixture
def vm(network):
    """Give vm(name, *nics), which defines an Arm VM of 16 MiB and starts it paused; all are removed afterwards.

    Arm, because libvirt asks QEMU some 400 questions less about it than about an x86 guest.
    """
    names = []

    def define(name, *nics, start=True):
        names.append(name)
        virsh(
            "define /dev/stdin" + (f"; start --paused --domain {shlex.quote(name)}" if start else ""),
            stdin=f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
            "<os><type arch='armv7l' machine='virt'>hvm</type></os>"
            f"<devices>{''.join(nics)}<memballoon model='none'/></devices></domain>",
        )
        return name

    yield define
    for name in names:
        domain = f"--domain {shlex.quote(name)}"
        virsh(f"destroy {domain}; undefine --managed-save {domain}")


@pytest.fixture
def tap(vm):
    """Give the tap of a VM that runs in VLAN 46."""
    vm("web", nic(MAC, "zerotier"))
    name = tap_of("web", MAC)
    assert vlans(name) == ZEROTIER
    eventually_settled()
    return name
