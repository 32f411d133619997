# SPDX-License-Identifier: MIT
"""libvirtd confined by its distribution's own AppArmor profile: the hooks do all that they do, and nothing is denied.

It says `/etc/libvirt/hooks/** rmix`, so a hook and its detached process stay in it; `/** rwmkl`, so they can write
where they do; and `/usr/sbin/* PUx`, so they can run `bridge`, which no profile confines.
"""

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import (
    LOG,
    MAC,
    MAC2,
    PID_FILE,
    eventually_settled,
    nic,
    nothing_left_behind,
    start_libvirtd,
    tap_of,
    virsh,
    working,
)
from iproute import ACCESS, bridge, eventually, vlans
from libvirt_vlan import TOOL

PROFILES = [Path("/etc/apparmor.d", name) for name in ("usr.sbin.libvirtd", "usr.lib.libvirt.virt-aa-helper")]
BACKUPS = Path("/var/backups/libvirt")
OTHERS_HOOK = Path("/etc/libvirt/hooks/network.d/90-other")
ELSEWHERE = Path("/usr/local/sbin/elsewhere")
UUID = "0e7a6c1c-9a36-4e0c-8a3d-6e1f0d9b2a55"
PORT = f"""<networkport><uuid>{UUID}</uuid><owner><name>web</name><uuid>{UUID}</uuid></owner>
<group>zerotier</group><mac address='{MAC}'/></networkport>"""


def as_packaged(file):
    """Given a file of the distribution's configuration, return whether it is as its package has it."""
    package = subprocess.check_output(["dpkg-query", "-S", file], text=True).partition(":")[0]
    known = subprocess.check_output(["dpkg-query", "-W", "-f", "${Conffiles}\n", package], text=True)
    return f" {file} {hashlib.md5(file.read_bytes()).hexdigest()}\n" in known


def confinement(process):
    """Given a process id, return the profile that it is in, as `libvirtd (enforce)`."""
    return Path(f"/proc/{process}/attr/current").read_text().strip()


def denials():
    """Return what AppArmor has denied libvirtd and its hooks, as (operation, name, requested) in the kernel's words."""
    told = subprocess.check_output(["dmesg"], text=True).splitlines()
    denied = [line for line in told if 'apparmor="DENIED"' in line and 'profile="libvirtd' in line]
    return [tuple(re.findall(r'(?:operation|name|requested_mask)="([^"]*)"', line)) for line in denied]


def confine():
    """Restart libvirtd under its profile, enforced, and each VM under one that virt-aa-helper makes for it."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    assert enabled.read_text() == "Y\n", "the kernel has no AppArmor"
    for profile in PROFILES:
        assert as_packaged(profile)
        (profile.parent / "local" / profile.name).write_text("")  # this machine's own additions
    subprocess.run(["apparmor_parser", "-r", *PROFILES], check=True)
    Path("/proc/sys/kernel/printk_ratelimit").write_text("0")  # so that dmesg has every denial
    os.environ["SECURITY_DRIVER"] = "apparmor"
    start_libvirtd()


def set_free():
    """Restart libvirtd without its profile."""
    del os.environ["SECURITY_DRIVER"]
    subprocess.run(["apparmor_parser", "-R", *PROFILES], check=True)
    start_libvirtd()


@pytest.fixture(scope="module")
def confined(libvirtd):
    confine()
    yield
    set_free()


def test_ports_are_right_definitions_are_saved_the_log_is_written_and_nothing_is_denied(confined, vm):
    LOG.unlink(missing_ok=True)
    assert confinement(PID_FILE.read_text()) == "libvirtd (enforce)"
    vm("web", nic(MAC, "zerotier"))
    virsh("attach-device", "web", "/dev/stdin", "--live", stdin=nic(MAC2, "server"))
    tap = tap_of("web", MAC2)
    eventually(lambda: vlans(tap) == {3: ACCESS})
    uuid = virsh("domuuid", "web")
    assert confinement(Path("/run/libvirt/qemu/web.pid").read_text()) == f"libvirt-{uuid} (enforce)"
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}
    eventually_settled()

    (saved,) = BACKUPS.glob(f"qemu/web.{uuid}/*.xml")
    assert saved.read_text().rstrip().endswith("</domain>")
    assert f"+ bridge vlan add dev {tap_of('web', MAC)} vid 46 pvid untagged master" in LOG.read_text()
    virsh("destroy", "web")
    nothing_left_behind()
    assert denials() == []


def test_the_detached_process_is_confined_as_libvirtd_is(confined, network):
    virsh("net-port-create", "br0", "/dev/stdin", stdin=PORT)  # a port whose tap never comes
    (waiting,) = working()
    assert confinement(waiting) == "libvirtd (enforce)"
    virsh("net-port-delete", "br0", UUID)

    nothing_left_behind()
    assert denials() == []


def test_watch_works_beside_the_confined_hooks(confined, vm):
    """It takes the same locks, reads the hooks' tickets and writes its own note into them."""
    with subprocess.Popen([TOOL, "watch"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as watch:
        vm("web", nic(MAC, "zerotier"))
        tap = tap_of("web", MAC)
        eventually_settled()
        bridge("vlan", "add", "dev", tap, "vid", "7")
        eventually(lambda: vlans(tap) == {46: ACCESS})
        watch.terminate()
    assert watch.returncode == 0
    virsh("destroy", "web")

    nothing_left_behind()
    assert denials() == []


def test_what_the_profile_forbids_a_hook_is_seen(confined, network):
    """So that the lists above are known to be empty because nothing was denied."""
    ELSEWHERE.write_text("#!/bin/sh\n")
    ELSEWHERE.chmod(0o755)
    OTHERS_HOOK.parent.mkdir(exist_ok=True)
    OTHERS_HOOK.write_text(f"#!/bin/sh\n{ELSEWHERE} || :\n")
    OTHERS_HOOK.chmod(0o755)
    try:
        virsh("net-update", "br0", "add", "portgroup", "<portgroup name='dmz-4'/>", "--live")
    finally:
        OTHERS_HOOK.unlink()
        ELSEWHERE.unlink()

    assert ("exec", str(ELSEWHERE), "x") in denials()
