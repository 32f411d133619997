# SPDX-License-Identifier: MIT
"""Where the frames of a guest go that sends from the first moment on: into its own VLAN, or the bridge's default one.

With `pytest -rP` this prints the figures of the table in docs/limits.md.
"""

import statistics
import subprocess
import time
from pathlib import Path

import pytest
from conftest import (
    BRIDGE,
    LIBVIRT,
    MAC,
    MAC2,
    PID_FILE,
    eventually_settled,
    nic,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    virsh,
)
from guest import descriptor_of, listening_in_every_vlan, sending, tap_of_qemu
from iproute import ACCESS, eventually, ip, vlans

SLOW_BRIDGE = Path("/usr/local/sbin/bridge")
QEMU_HOOK = Path("/etc/libvirt/hooks/qemu")


@pytest.fixture
def heard(network):
    """Give a function that returns what has come since it was last asked, as {vid: [when sent, ...]}."""
    with listening_in_every_vlan(BRIDGE) as heard:
        yield heard


@pytest.fixture
def slow_bridge():
    """The hooks' `bridge` takes a second, as on a host with much to do."""
    SLOW_BRIDGE.write_text('#!/bin/sh\nsleep 1\nexec /usr/sbin/bridge "$@"\n')
    SLOW_BRIDGE.chmod(0o755)
    yield
    SLOW_BRIDGE.unlink()


@pytest.fixture(params=[1, 0], ids=lambda vid: f"vlan_default_pvid {vid}")
def default_pvid(heard, request):
    """The VLAN that every port of the bridge has until somebody changes that.

    Put back before the listener goes: a bridge without ports has no address, and can have no VLAN then.
    """
    ip("link", "set", BRIDGE, "type", "bridge", "vlan_default_pvid", str(request.param))
    yield request.param
    ip("link", "set", BRIDGE, "type", "bridge", "vlan_default_pvid", "1")


def tap_of_libvirtd():
    """Return what libvirtd has of a tap that it is making, None as long as it has none."""
    return descriptor_of(PID_FILE.read_text().strip())


def median_ms(*command):
    """Return how long a command takes here: the lab's milliseconds are no other machine's."""
    took = []
    for _ in range(5):
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took.append((time.monotonic() - start) * 1000)
    return statistics.median(took)


def leaked(what, came, own):
    """Given what has come, and the guest's own VLAN, print the figures, return the VIDs that are not its own."""
    for vid in sorted(set(came) - {own}):
        print(f"{what}: VLAN {vid}: {len(came[vid])} frames in {(max(came[vid]) - min(came[vid])) * 1000:.0f} ms")
    return set(came) - {own}


def frames_of_a_guest_that_is_started(vm, heard):
    """Start a VM whose guest sends as soon as QEMU has its tap, return what was heard until its port was right."""
    vm("web", nic(MAC, "zerotier"), start=False)
    with sending(tap_of_qemu, MAC) as sent:
        virsh("start", "--paused", "web")
        tap = tap_of("web", MAC)
        eventually(lambda: vlans(tap) == {46: ACCESS})
        enough = sent() + 100
        eventually(lambda: sent() > enough)
    return heard()


def test_a_guest_that_is_started_reaches_no_other_vlan_not_even_if_bridge_is_slow(vm, heard, slow_bridge):
    came = frames_of_a_guest_that_is_started(vm, heard)

    assert leaked("start", came, own=46) == set()
    assert len(came[46]) > 100


def test_without_the_join_it_would(vm, heard, slow_bridge):
    """So that the nothing above is known to be the join's doing, and all frames to be heard."""
    hook = QEMU_HOOK.read_text()
    QEMU_HOOK.write_text("#!/bin/sh\n")
    try:
        came = frames_of_a_guest_that_is_started(vm, heard)
    finally:
        QEMU_HOOK.write_text(hook)

    assert leaked("start without the join", came, own=46) == {1}


def stop_and_start_the_network(_):
    virsh("net-destroy", BRIDGE)
    virsh("net-start", BRIDGE)


def restart_libvirtd(_):
    stop_libvirtd("TERM")
    start_libvirtd()


def update_to(portgroup):
    """Return what updates the NIC to a portgroup: if another, libvirt 9 does nothing and libvirt 11 refuses."""
    command = [*LIBVIRT, "update-device", "web", "/dev/stdin", "--live"]
    return lambda _: subprocess.run(command, input=nic(MAC, portgroup).encode(), capture_output=True, check=False)


def set_link(state):
    return lambda tap: virsh("domif-setlink", "web", tap, state)


LIVE_CHANGES = {
    "update-device to another portgroup": (update_to("server"), "never"),
    "net-destroy and net-start": (stop_and_start_the_network, "never"),
    "restart of libvirtd": (restart_libvirtd, "never"),
    # libvirt 9 takes the tap off the bridge and puts it back
    "domif-setlink down": (set_link("down"), "for a while"),  # a real guest's frames end in QEMU then
    "update-device after that": (update_to("zerotier"), "for a while"),
    "domif-setlink up": (set_link("up"), "for a while"),
}


def test_a_running_guest_reaches_no_other_vlan_than_the_default_one_and_that_ends(default_pvid, vm, heard):
    vm("web", nic(MAC, "zerotier"))
    tap = tap_of("web", MAC)
    assert vlans(tap) == {46: ACCESS}
    eventually_settled()
    with sending(tap_of_qemu, MAC):
        print(f"bare python3: {median_ms('/usr/bin/python3', '-I', '-c', 'pass'):.0f} ms")
        print(f"one bridge: {median_ms('/usr/sbin/bridge', 'vlan', 'show', 'dev', tap):.0f} ms")
        for what, (change, in_the_default_vlan) in LIVE_CHANGES.items():
            if default_pvid == 0 and in_the_default_vlan == "never":
                continue  # with a default VLAN, the same change is seen to reach none
            heard()
            change(tap)
            eventually(lambda: vlans(tap) == {46: ACCESS})
            time.sleep(0.3)
            others = leaked(f"default {default_pvid}, {what}", heard(), own=46)
            assert others <= (set() if in_the_default_vlan == "never" else {default_pvid} - {0}), what
            assert set(eventually(heard)) == {46}, f"{what}: it does not end"


def test_a_nic_plugged_in_reaches_no_other_vlan_than_the_default_one_and_that_ends(default_pvid, vm, heard):
    vm("web", nic(MAC))
    with sending(tap_of_libvirtd, MAC2) as sent:
        virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "server"))
        tap = tap_of("web", MAC2)
        eventually(lambda: vlans(tap) == {3: ACCESS})
        assert sent() > 0
        time.sleep(0.3)
        assert leaked(f"default {default_pvid}, attach-device", heard(), own=3) == {default_pvid} - {0}
        assert set(eventually(heard)) == {3}
