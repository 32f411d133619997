# SPDX-License-Identifier: MIT
"""ifupdown2, NetworkManager and systemd-networkd with systemd-udevd, each the owner of br0, beside a VM that sends.

Each has br0 with the uplink eno1, and reloads while the VM runs. With `pytest -rP` this prints how long the VM was off
the wire.
"""

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import BRIDGE, MAC, MAC2, define_network, eventually_settled, nic, start_libvirtd, tap_of, virsh
from frames import bridged_to
from guest import listening_behind, sending, tap_of_qemu
from iproute import ZEROTIER, eventually, ip, vlans
from libvirt_vlan import TOOL, tool

INTERFACES = """auto eno1
iface eno1
auto br0
iface br0
    bridge-ports eno1
    bridge-vlan-aware yes
    bridge-vids {vids}
    {more}
"""
NETWORKD = {
    "br0.netdev": "[NetDev]\nName=br0\nKind=bridge\n[Bridge]\nVLANFiltering=yes\nSTP=no\n",
    "br0.network": "[Match]\nName=br0\n[Network]\nLinkLocalAddressing=no\nConfigureWithoutCarrier=yes\n",
    "eno1.network": "[Match]\nName=eno1\n[Network]\nBridge=br0\n[BridgeVLAN]\nVLAN=2-4094\n",
}
UNMANAGED = "[Match]\nName=vnet*\n[Link]\nUnmanaged=yes\n"
ETHER = "[Match]\nType=ether\n[Network]\nLinkLocalAddressing=no\n"
KEEP = "bridge-ports-condone-regex ^vnet[0-9]+$"


def run(command):
    """Run a line in a shell, and see it succeed."""
    done = subprocess.run(
        ["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"


def interfaces(vids="2-4094", more=""):
    Path("/etc/network/interfaces").write_text(INTERFACES.format(vids=vids, more=more))


def start_ifupdown2():
    run("mkdir -p /run/network /etc/iproute2/rt_tables.d")
    interfaces()
    run("ifup -a")


def start_udevd():
    """Start udevd and the system bus, as systemd has done where the other services run."""
    run("pidof systemd-udevd || /usr/lib/systemd/systemd-udevd --daemon; udevadm trigger && udevadm settle")
    run("pidof dbus-daemon || { mkdir -p /run/dbus && dbus-daemon --system --fork; }")


def start_network_manager():
    start_udevd()
    run("NetworkManager")
    eventually(lambda: subprocess.run(["nmcli", "general", "status"], capture_output=True, check=False).returncode == 0)
    run(
        "nmcli con add type bridge ifname br0 con-name br0 bridge.vlan-filtering yes bridge.stp no "
        "ipv4.method disabled ipv6.method disabled"
    )
    run(
        "nmcli con add type ethernet ifname eno1 con-name eno1 controller br0 port-type bridge bridge-port.vlans 2-4094"
    )
    run("nmcli device set eno1 managed yes")
    run("nmcli con up br0 && nmcli con up eno1")


def networkd(**files):
    directory = Path("/etc/systemd/network")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, text in {**NETWORKD, **files}.items():
        (directory / name).write_text(text)


def start_networkd():
    start_udevd()
    networkd()
    run("install -d -o systemd-network -g systemd-network /run/systemd/netif")
    restart_networkd()


def restart_networkd():
    run("pkill -x systemd-network; true")
    subprocess.Popen(["/usr/lib/systemd/systemd-networkd"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: Path("/sys/class/net/br0/brif/eno1").exists())
    eventually(
        lambda: (
            "configured"
            in subprocess.run(["networkctl", "status", "eno1"], capture_output=True, text=True, check=False).stdout
        )
    )


# what the services' own settings can reach
LEAVES_TAPS_ALONE = (
    f"ifreload -a, with {KEEP}",
    f"ifreload -a, with other VLANs and {KEEP}",
    "nmcli device reapply br0",
    "systemctl restart systemd-networkd",
    "networkctl reconfigure br0 eno1",
    "the same, and one with Name=vnet* and Unmanaged=yes",
)
# by service: how it starts, how it ends, and what is done while the VM runs
SERVICES = {
    "ifupdown2": (start_ifupdown2, "ifdown -a; true", {
        "ifreload -a": lambda: run("ifreload -a"),
        "ifreload -a, with other VLANs": lambda: (interfaces("2-100"), run("ifreload -a")),
        "ifdown br0; ifup br0": lambda: run("ifdown br0; ifup br0"),
        f"ifreload -a, with {KEEP}": lambda: (interfaces(more=KEEP), run("ifreload -a")),
        f"ifreload -a, with other VLANs and {KEEP}": lambda: (interfaces("2-100", KEEP), run("ifreload -a")),
    }),
    "NetworkManager": (start_network_manager, "pkill -x NetworkManager", {
        "nmcli con up br0": lambda: run("nmcli con up br0 && nmcli con up eno1"),
        "nmcli con down br0; nmcli con up br0": lambda: run("nmcli con down br0; nmcli con up br0; nmcli con up eno1"),
        "nmcli device reapply br0": lambda: run("nmcli device reapply br0"),
    }),
    "systemd-networkd": (start_networkd, "pkill -x systemd-network; pkill -x systemd-udevd; true", {
        "systemctl restart systemd-networkd": restart_networkd,
        "networkctl reconfigure br0 eno1": lambda: run("networkctl reconfigure br0 eno1"),
        "a .network file with Type=ether, networkctl reload": lambda: (
            networkd(**{"zz.network": ETHER}), run("networkctl reload")
        ),
        "the same, and one with Name=vnet* and Unmanaged=yes": lambda: (
            networkd(**{"10-vnet.network": UNMANAGED, "zz.network": ETHER + "# changed\n"}),
            run("networkctl reload"),
        ),
    }),
}  # fmt: skip


@pytest.fixture(scope="module")
def uplink(libvirtd):
    """Give what comes out of eno1, and take the lab's own br0 away: the service makes it."""
    ip("link", "del", BRIDGE)
    with listening_behind("eno1") as heard:
        yield heard


@pytest.fixture(scope="module", params=SERVICES)
def service(request, uplink):
    """Have the service make br0, and a VM run there, with a neighbour that it must not reach; give the service."""
    start, end, _ = SERVICES[request.param]
    start()
    eventually(lambda: Path("/sys/class/net/br0/brif/eno1").exists())
    start_libvirtd()
    define_network()
    for name, mac in (("web", MAC), ("db", MAC2)):
        isolated = nic(mac, "zerotier").replace("<model", "<port isolated='yes'/><model")
        virsh(
            "create --paused /dev/stdin",
            stdin=f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
            "<os><type arch='armv7l' machine='virt'>hvm</type></os>"
            f"<devices>{isolated}<memballoon model='none'/></devices></domain>",
        )
    eventually_settled()
    yield request.param
    for name in ("web", "db"):
        virsh("destroy", name)
    virsh("net-destroy", BRIDGE)
    virsh("net-undefine", BRIDGE)
    run(end)
    subprocess.run(["ip", "link", "del", BRIDGE], check=False)


@contextlib.contextmanager
def watching():
    process = subprocess.Popen([TOOL, "watch"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    eventually(
        lambda: subprocess.run(["pgrep", "-f", "monitor link"], capture_output=True, check=False).returncode == 0
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def tap_of_web():
    return tap_of_qemu(b"guest=web")


def state(tap):
    """Given a tap, return its bridge, its VLANs, whether it is up and whether it is isolated."""
    (shown,) = json.loads(subprocess.check_output(["ip", "-d", "-j", "link", "show", "dev", tap]))
    isolated = shown.get("linkinfo", {}).get("info_slave_data", {}).get("isolated")
    return shown.get("master"), vlans(tap), "UP" in shown["flags"], isolated


WHOLE = BRIDGE, ZEROTIER, True, True


def make_whole(taps):
    """Have sync put the taps back, as an operator does where no watch runs."""
    eventually(lambda: tool("sync")[0] == 0)
    assert [state(tap) for tap in taps] == [WHOLE] * len(taps)


def test_a_reload_cuts_no_vm_off_for_good_and_lets_none_out_of_its_vlan(service, uplink):
    taps = [tap_of("web", MAC), tap_of("db", MAC2)]
    for action, act in SERVICES[service][2].items():
        make_whole(taps)
        act()
        time.sleep(1)
        left = [(name, sorted(vids), isolated) for name, vids, _, isolated in map(state, taps)]
        make_whole(taps)
        longest = off_the_wire(act, taps, uplink)
        print(f"{service}: {action}: without watch {left}; with watch off the wire for {longest:.1f} s at most")
        assert (left == [(BRIDGE, [46], True)] * 2) == (action in LEAVES_TAPS_ALONE)


def off_the_wire(act, taps, uplink):
    """Given what a service does, two taps and what comes out of the uplink, have it done while watch runs.

    Return for how long no frame of the first tap's guest came out, in seconds.
    """
    with watching(), bridged_to(taps[1]) as heard, sending(tap_of_web, MAC) as sent:
        eventually(lambda: sent() > 100)
        uplink()
        began = time.monotonic()
        act()
        for tap in taps:
            eventually(lambda tap=tap: state(tap) == WHOLE)
        enough = sent() + 100
        eventually(lambda: sent() > enough)
        time.sleep(1)
        came, strayed = uplink(), heard()
    assert (set(came), strayed) == ({46}, 0)
    times = [began, *(when for when in came[46] if when >= began)]
    longest = max(later - earlier for earlier, later in zip(times, times[1:]))
    assert max(times) > began
    return longest
