# SPDX-License-Identifier: MIT
"""libvirt-vlan under a real libvirtd: each verb on ports that are right, wiped, half-wiped and stale."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import (
    BRIDGE,
    LIBVIRT,
    MAC,
    MAC2,
    REPOSITORY,
    TICKETS,
    eventually_settled,
    nic,
    nothing_left_behind,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    undefine_network,
    virsh,
)
from iproute import ACCESS, bridge, eventually, ip, vlans
from jsonschema import validate

TOOL = "/usr/local/sbin/libvirt-vlan"
SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan.schema.json").read_text())
NETWORK_HOOK, QEMU_HOOK = Path("/etc/libvirt/hooks/network"), Path("/etc/libvirt/hooks/qemu")
NETWORK = f"""<network><name>{BRIDGE}</name><metadata>
<h:portgroups xmlns:h='urn:libvirt-hooks:portgroups:1'><portgroup name='lab'><vlan>
  <tag id='10' nativeMode='untagged'/><tag id='20'/><tag id='30-40'/></vlan></portgroup></h:portgroups></metadata>
<forward mode='bridge'/><bridge name='{BRIDGE}'/>
<portgroup name='server-3'/><portgroup name='zerotier-46'/><portgroup name='slow'/></network>"""
GROUPS = ("server", "zerotier", "lab", "all", None)
MACS = {group: f"52:54:00:00:00:{number:02x}" for number, group in enumerate(GROUPS, start=1)}
TRUNK = {10: ACCESS, 20: (), **dict.fromkeys(range(30, 41), ())}


@pytest.fixture(scope="module", autouse=True)
def _daemon_that_has_seen_the_hooks(libvirtd):
    """Others of these tests install the hooks anew, and check() tells that libvirtd is older than they are."""
    start_libvirtd()


def tool(*words, env=None):
    """Run the tool with these words; return its exit status, and the lines of its stdout and stderr."""
    done = subprocess.run(
        [TOOL, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def notes_aside(lines):
    return [line for line in lines if not line.startswith("note: ")]


def define_network(xml=NETWORK):
    undefine_network()
    virsh("net-define", "/dev/stdin", stdin=xml)
    virsh("net-start", BRIDGE)


def verdicts():
    status, out, err = tool("show", "--json")
    shown = json.loads("\n".join(out))
    validate(shown, SCHEMA)
    assert (status, err) == (0, [])
    return {nic["portgroup"]: nic["verdict"] for nic in shown["nics"]}


def spoil(taps):
    """Wipe one port, half-wipe another, leave a third in VLANs that it once had."""
    bridge("vlan", "del", "dev", taps["server"], "vid", "3")
    bridge("vlan", "del", "dev", taps["lab"], "vid", "30-35")
    bridge("vlan", "add", "dev", taps["zerotier"], "vid", "1", "pvid", "untagged")
    bridge("vlan", "add", "dev", taps["zerotier"], "vid", "99")


def state(taps):
    return {group: vlans(tap) for group, tap in taps.items()}


def check():
    status, out, err = tool("check")
    assert (status, err) == (1 if notes_aside(out) else 0, [])
    return notes_aside(out)


def test_show_check_and_sync_on_ports_right_wiped_half_wiped_stale_and_made_plain(vm, network, tmp_path):
    """One VM with a NIC in each kind of portgroup, because starting one takes a while here."""
    define_network()
    vm("web", *(nic(mac, group) for group, mac in MACS.items()))
    eventually_settled()
    taps = {group: tap_of("web", mac) for group, mac in MACS.items()}
    right = state(taps)

    are_right(taps)
    spoil(taps)
    are_found_wrong(taps)
    are_mended(taps, right)
    one_made_plain_by_libvirt_is_found(taps["zerotier"])
    faults_around_them_are_found(taps["server"])
    one_that_could_not_be_put_back_is_by_the_next_sync(taps["server"], tmp_path)


def are_right(taps):
    assert vlans(taps["lab"]) == TRUNK
    _, out, _ = tool("show")
    mac, tap = MACS["zerotier"], taps["zerotier"]
    assert out[0].split() == ["VM", "MAC", "TAP", "BRIDGE", "NETWORK", "GROUP", "WANTED", "CURRENT", "VERDICT"]
    assert out[2].split() == ["web", mac, tap, "br0", "br0", "zerotier", "46PU", "46PU", "right"]
    assert len(out) == 1 + len(GROUPS)
    status, out, err = tool("check")
    assert (status, notes_aside(out), err) == (0, [], [])
    assert [line for line in out if line.startswith("note: br0: in VLAN 1 without a portgroup: web")]


def are_found_wrong(taps):
    assert verdicts() == {None: "left alone", "all": "right", **dict.fromkeys(("server", "zerotier", "lab"), "wrong")}
    assert check() == [
        f"web {MACS['server']} {taps['server']} server: has none instead of 3 pvid untagged on br0: "
        "libvirt-vlan sync web",
        f"web {MACS['zerotier']} {taps['zerotier']} zerotier: has 1 pvid untagged, 46 untagged, 99 instead of "
        "46 pvid untagged on br0: libvirt-vlan sync web",
        f"web {MACS['lab']} {taps['lab']} lab: has 10 pvid untagged, 20, 36-40 instead of "
        "10 pvid untagged, 20, 30-40 on br0: libvirt-vlan sync web",
    ]


def are_mended(taps, right):
    """By what --dry-run prints as by sync itself, which prints the same."""
    spoiled = state(taps)
    status, typed, err = tool("sync", "--dry-run")
    assert (status, err, state(taps)) == (0, [], spoiled)
    assert typed[0] == f"bridge vlan add dev {taps['server']} vid 3 pvid untagged master"
    assert all(line.startswith("bridge vlan ") for line in typed)
    subprocess.run(["sh", "-eu"], input="\n".join(typed), text=True, check=True)
    assert state(taps) == right

    spoil(taps)
    assert tool("sync", "web", "no such VM") == (
        2, [], ["libvirt-vlan: no running VM with a NIC is called no such VM: libvirt-vlan show names them"],
    )  # fmt: skip
    assert tool("sync", "web") == (0, typed, [])
    assert state(taps) == right
    assert tool("sync") == (0, [], [])


def one_made_plain_by_libvirt_is_found(tap):
    virsh("domif-setlink", "web", tap, "down")
    eventually(lambda: vlans(tap) == {46: ACCESS})
    (line,) = check()
    assert f"{tap} zerotier: libvirt has made it a plain bridge NIC, as virsh domif-setlink does: " in line
    assert verdicts()["zerotier"] == "right"
    for ticket in TICKETS.glob("*.released"):  # as if that had been before the hooks were there
        ticket.unlink()
    (line,) = check()
    assert f"{tap} -: libvirt has made it a plain bridge NIC" in line
    virsh("update-device", "web", "/dev/stdin", "--live", stdin=nic(MACS["zerotier"], "zerotier"))
    eventually(lambda: vlans(tap) == {46: ACCESS})
    assert check() == []


def faults_around_them_are_found(tap):
    """A VLAN that no uplink carries, no filtering, a port off its bridge, hooks that cannot be called or be trusted."""
    ip("link", "add", "eth9", "type", "dummy")
    ip("link", "set", "eth9", "master", BRIDGE)
    bridge("vlan", "add", "dev", "eth9", "vid", "20")
    ip("link", "set", tap, "nomaster")
    ip("link", "set", BRIDGE, "type", "bridge", "vlan_filtering", "0")
    NETWORK_HOOK.chmod(0o666)
    QEMU_HOOK.rename("/tmp/qemu")
    try:
        found = check()
    finally:
        ip("link", "set", BRIDGE, "type", "bridge", "vlan_filtering", "1")
        NETWORK_HOOK.chmod(0o755)
        os.rename("/tmp/qemu", QEMU_HOOK)
    assert found == [
        f"web {MACS['server']} {tap} server: {tap} is not on br0: libvirt-vlan sync web puts it back",
        "bridge br0 does not filter VLANs: turn that on with ip link set dev br0 type bridge vlan_filtering 1",
        "br0: no uplink (eth9) carries VLAN 3, 10, 30-40, 46 of web: bridge vlan add dev eth9 vid VID master "
        "for each that is to leave this host",
        f"{NETWORK_HOOK} runs as root, and others can change it: chown root:root {NETWORK_HOOK} && "
        f"chmod go-w {NETWORK_HOOK}",
        f"{NETWORK_HOOK} is not executable, so libvirt passes it over: chmod 755 {NETWORK_HOOK}",
        f"{NETWORK_HOOK} was installed or changed after libvirtd started, which may not know it: "
        "systemctl restart libvirtd",
        f"{QEMU_HOOK} is not there, or is another's: install the hooks with make install",
    ]

    link = f"ip link set dev {tap}"
    typed = [
        f"{link} down",
        f"{link} master br0",
        f"bridge vlan del dev {tap} vid 1 master",
        f"bridge vlan add dev {tap} vid 3 pvid untagged master",
        f"{link} up",
    ]
    assert tool("sync", "--dry-run") == (0, typed, [])
    assert tool("sync") == (0, typed, [])
    assert vlans(tap) == {3: ACCESS}
    for vids in ("3", "10", "30-40", "46"):
        bridge("vlan", "add", "dev", "eth9", "vid", vids)
    assert all("after libvirtd started" in line for line in check())
    ip("link", "del", "eth9")


def one_that_could_not_be_put_back_is_by_the_next_sync(tap, directory):
    ip("link", "set", tap, "nomaster")
    program = directory / "bridge"
    program.write_text('#!/bin/sh\ncase "$*" in *-batch*) exit 1;; esac\nexec /usr/sbin/bridge "$@"\n')
    program.chmod(0o755)
    status, _, (line,) = tool("sync", env={"PATH": f"{directory}:{os.environ['PATH']}"})
    assert (status, line.partition(": ")[2].startswith(f"web {MACS['server']} {tap} server: ")) == (1, True)
    assert not Path(f"/sys/class/net/{tap}/master").exists()

    status, typed, _ = tool("sync")
    assert (status, typed[-1]) == (0, f"ip link set dev {tap} up")
    assert vlans(tap) == {3: ACCESS}


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
        f"7 {odd[0]} - -: left alone: it is no port of a libvirt network",
        f"7 {odd[1]} - slow: left alone: portgroup slow names no VID",
    ]
    refused = subprocess.run([*LIBVIRT, "start", "--domain", "7"], capture_output=True, text=True, check=False).stderr
    assert out[-1].partition("refused: ")[2] in refused  # the hook's own words
    assert "defines no portgroup 'nonesuch'" in out[-1]


def test_odd_names_and_what_cannot_be_looked_at(vm, network, tmp_path):
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

    assert tool("plan", "nobody") == (2, [], ["libvirt-vlan: there is no VM nobody: virsh list --all names them"])
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", TOOL, "show"]
    done = subprocess.run(user, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "libvirt-vlan: only root can read the hooks' tickets: run it as root\n"

    ending = tmp_path / "virsh"  # as if the VM ended while it is looked at
    ending.write_text("""#!/bin/sh
case "$*" in *dumpxml*) /usr/bin/virsh -q -c qemu:///system destroy "$6" >&2 ;; esac
exec /usr/bin/virsh "$@"
""")
    ending.chmod(0o755)
    status, out, (line,) = tool("check", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (status, notes_aside(out)) == (0, [])
    assert line.endswith(" went away meanwhile")

    stop_libvirtd("TERM")
    try:
        for verb in (["check"], ["plan", "web"]):
            status, out, (line,) = tool(*verb)
            assert (status, out) == (2, [])
            assert "failed to connect to the hypervisor" in line
    finally:
        start_libvirtd()
