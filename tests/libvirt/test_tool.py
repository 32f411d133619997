# SPDX-License-Identifier: MIT
"""libvirt-vlan under a real libvirtd: VMs from before the hooks, plan, odd names, and what goes away meanwhile."""

import os
import subprocess

import pytest
from conftest import (
    BRIDGE,
    LIBVIRT,
    MAC,
    MAC2,
    QEMU_DAEMON,
    REPOSITORY,
    eventually_settled,
    nic,
    nothing_left_behind,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    virsh,
)
from iproute import ACCESS, bridge, eventually, vlans
from libvirt_vlan import MACS, TOOL, define_network, tool, verdicts


@pytest.fixture(scope="module", autouse=True)
def _daemon_that_has_seen_the_hooks(libvirtd):
    """Others of these tests install the hooks anew, and check() tells that libvirtd is older than they are."""
    start_libvirtd()


def test_a_vm_from_before_the_hooks_is_made_right_and_cared_for_from_then_on(vm, network):
    subprocess.run(["make", "-C", REPOSITORY, "uninstall"], check=True, stdin=subprocess.DEVNULL)
    start_libvirtd()
    define_network()
    vm("web", nic(MAC, "zerotier"), nic(MAC2, "nonesuch"))
    subprocess.run(["make", "-C", REPOSITORY, "install"], check=True, stdin=subprocess.DEVNULL)
    port = tap_of("web", MAC)
    assert vlans(port) == {1: ACCESS}

    assert verdicts() == {"zerotier": "wrong", "nonesuch": "refused"}
    status, out, err = tool("sync")
    assert (status, out) == (1, [
        f"bridge vlan del dev {port} vid 1 master", f"bridge vlan add dev {port} vid 46 pvid untagged master",
    ])  # fmt: skip
    (line,) = err
    assert (
        "network br0 defines no portgroup 'nonesuch' or 'nonesuch-VID' (it has server-3, zerotier-46, slow, lab)"
        in line
    )
    assert vlans(port) == {46: ACCESS}
    start_libvirtd()
    eventually_settled()
    assert verdicts()["zerotier"] == "right"
    virsh("domif-setlink", "web", port, "down")
    eventually(lambda: vlans(port) == {46: ACCESS})
    virsh("destroy", "web")
    nothing_left_behind()


def test_plan_says_what_a_start_would_give_and_what_it_would_refuse(vm, network):
    define_network()
    odd = [MAC[:-2] + number for number in ("20", "21", "22")]
    plain = f"<interface type='bridge'><mac address='{odd[0]}'/><source bridge='{BRIDGE}'/></interface>"
    nics = [nic(mac, group) for group, mac in MACS.items()]
    vm("7", *nics, plain, nic(odd[1], "slow"), nic(odd[2], "nonesuch"), start=False)

    status, out, err = tool("plan", "7")
    assert (status, err) == (1, [])
    assert out[:-1] == [
        f"7 {MACS['server']} - server: wanted on br0: 3 pvid untagged",
        f"7 {MACS['zerotier']} - zerotier: wanted on br0: 46 pvid untagged",
        f"7 {MACS['lab']} - lab: wanted on br0: 10 pvid untagged, 20, 30-40",
        f"7 {MACS['all']} - all: wanted on br0: 1 pvid untagged, 2-4094",
        f"7 {MACS[None]} - -: left alone: it has no portgroup",
        f"7 {odd[0]} - -: left alone: it is not a port of a libvirt network",
        f"7 {odd[1]} - slow: left alone: portgroup slow names no VID",
    ]
    refused = subprocess.run([*LIBVIRT, "start", "--domain", "7"], capture_output=True, text=True, check=False).stderr
    assert out[-1].partition("refused: ")[2] in refused  # the hook's own words
    assert "defines no portgroup 'nonesuch'" in out[-1]


def test_odd_names_and_what_cannot_be_looked_at(vm, network):
    """Each is one clear line on stderr and the right exit status."""
    name = "-x  rm -rf \u202e*"
    vm(name, nic(MAC, "zerotier"), start=False)
    virsh("start", "--paused", "--domain", name)
    eventually_settled()
    (port,) = (port for port in os.listdir(f"/sys/class/net/{BRIDGE}/brif") if port.startswith("vnet"))
    bridge("vlan", "add", "dev", port, "vid", "99")
    assert tool("plan", "--", name)[0] == 0
    assert tool("sync", "--", name) == (0, [f"bridge vlan del dev {port} vid 99 master"], [])
    _, out, _ = tool("show")
    assert out[1].startswith(rf"-x  rm -rf \u202e* {MAC}")

    says = "libvirt-vlan: there is no VM or container nobody: virsh list --all lists them"
    assert tool("plan", "nobody") == (2, [], [says])
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", TOOL, "show"]
    done = subprocess.run(user, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "libvirt-vlan: only root can read the hooks' tickets: run libvirt-vlan as root\n"

    stop_libvirtd("TERM")
    try:
        for verb in (["check"], ["plan", "web"]):
            status, out, (line,) = tool(*verb)
            assert (status, out) == (2, [])
            assert "failed to connect to the hypervisor" in line
            assert line.endswith(f": systemctl status {QEMU_DAEMON} says whether it runs")
    finally:
        start_libvirtd()
