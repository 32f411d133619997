# SPDX-License-Identifier: MIT
"""The qemu hook as libvirt calls it before it runs QEMU: the ports are right when it returns, or it says why not."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import (
    DATA,
    MAC,
    REPOSITORY,
    TICKETS,
    UUID,
    detached,
    hook,
    logged,
    make_bridge_program,
    port_created,
    refused,
    tickets,
    without_bridge,
)
from iproute import DEFAULT, SERVER, ZEROTIER, always, eventually, ip, vlans

QEMU = REPOSITORY / "hooks/qemu"
DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")  # Debian's
MAC2, TAP_MAC2, UUID2 = "52:54:00:00:00:02", "fe:54:00:00:00:02", UUID[:-1] + "2"
NONE = {}
TAKEN_OFF = "vnet0 is not on br0: try again; if that stays so, find out which network service takes it off"
DEL, ADD = "vlan del dev vnet0 vid 1 master", "vlan add dev vnet0 vid 46 pvid untagged master"
# the real command, without the right to change anything: the kernel itself refuses
NOT_PERMITTED = 'echo "$typed" | exec setpriv --bounding-set -net_admin /usr/sbin/bridge "$@"; exit'
PORT2 = port_created(uuid=UUID2, mac=(MAC, MAC2), group=("<group>zerotier</group>", "<group>server</group>"))


def domain():
    """Return the captured XML of `start`: the ports UUID on vnet0 (zerotier) and UUID2 on vnet1 (no portgroup)."""
    xml = (DATA / "qemu-start.xml").read_text().replace(" portgroup='server'", "")
    for uuid, tap in ((UUID, "vnet0"), (UUID2, "vnet1")):
        captured_uuid = xml.split("portid='")[1 if uuid == UUID else 2].split("'")[0]
        captured_tap = xml.split("<target dev='")[1 if uuid == UUID else 2].split("'")[0]
        xml = xml.replace(captured_uuid, uuid).replace(f"'{captured_tap}'", f"'{tap}'")
    return xml


def start(path=None, executable=QEMU, operation="start"):
    """Call the qemu hook as `virsh start web` does."""
    return hook(operation, domain(), path, executable, name="web")


def without_portgroups():
    """Return the XML of `start` of the same VM, whose NICs name no portgroup."""
    return domain().replace(" portgroup='zerotier'", "")


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def kill_detached():
    for process in detached():
        kill(process)


def announced(bridge, path=None):
    """Have port-created called and the tap made, and the detached process killed before it has typed anything."""
    assert hook("port-created", port_created(), path).returncode == 0
    kill_detached()
    eventually(lambda: not detached())
    bridge.add_tap()
    assert vlans("vnet0") == DEFAULT


@pytest.fixture
def notes(tmp_path):
    """Give a file that the `bridge` of bridge_that() notes its words in."""
    return tmp_path / "notes"


@pytest.fixture
def bridge_that(tmp_path, notes):
    """Give bridge_that(lines), which returns a PATH with a `bridge` that does this first, then what it should."""

    def make(lines=""):
        return make_bridge_program(tmp_path, f'echo "$typed" >>{notes}\n{lines}')

    return make


def changes(notes):
    return [line for line in notes.read_text().splitlines() if " add " in line or " del " in line]


@contextlib.contextmanager
def without(*packages):
    """Have Python not find these packages: the lab forgets it, should this end badly."""
    moved = []
    try:
        for package in packages:
            (installed,) = (
                path for path in DIST_PACKAGES.glob(f"{package}*") if path.name in (package, f"{package}.py")
            )
            hidden = installed.with_name(f"hidden-{package}")
            shutil.move(installed, hidden)
            moved.append((hidden, installed))
        yield
    finally:
        for hidden, installed in moved:
            shutil.move(hidden, installed)


# What it costs


def test_if_the_port_is_right_already_nothing_is_run_and_nothing_imported(bridge, bridge_that, notes):
    hook("port-created", port_created())
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == ZEROTIER and not detached())
    before = logged()
    with without("sh", "tenacity"):
        done = start(bridge_that())

    assert (done.returncode, done.stderr, notes.exists(), logged()) == (0, "", False, before)


def test_if_there_is_work_and_a_package_is_missing_it_says_so(bridge):
    announced(bridge)
    with without("tenacity"):
        assert "VM web: the Python package tenacity cannot be imported: install it" in refused(start())


@pytest.mark.parametrize("what", ["no ticket at all", "the ticket of another port of the same VM"])
def test_a_vm_without_portgroup_and_ticket_is_left_alone(bridge, bridge_that, notes, what):
    if what == "the ticket of another port of the same VM":
        uuids = [xml.split("<uuid>")[-1].split("</uuid>")[0] for xml in (port_created().split("<mac ")[0], domain())]
        hook("port-created", port_created(uuid=UUID[:-1] + "9", vm_uuid=uuids))
        kill_detached()
    bridge.add_tap()
    before = logged()
    with without("sh", "tenacity"):
        done = hook("start", without_portgroups(), bridge_that(), QEMU, name="web")

    assert (done.returncode, done.stderr, notes.exists(), logged()) == (0, "", False, before)
    assert vlans("vnet0") == DEFAULT


# Whatever became of the detached process


def test_it_does_the_work_of_a_process_that_was_killed(bridge, bridge_that, notes):
    announced(bridge)
    done = start(bridge_that())

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", ZEROTIER)
    assert changes(notes) == [DEL, ADD]
    assert f"web {MAC} vnet0 zerotier: + bridge {ADD}" in logged()
    assert start(bridge_that("exit 1")).returncode == 0  # the ticket says that it is right now


def test_the_process_killed_while_it_is_waited_for(bridge, bridge_that, notes):
    """Its `bridge` lives on, and types what it was told to long after the port is right."""
    hook("port-created", port_created(), bridge_that('case "$typed" in *" del "*) sleep 4;; esac'))
    bridge.add_tap()
    eventually(lambda: notes.exists() and changes(notes) == [DEL, ADD])
    killer = threading.Timer(1.5, kill_detached)
    killer.start()
    done = start()

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", ZEROTIER)
    assert killer.finished.is_set()
    always(lambda: vlans("vnet0") == ZEROTIER, for_seconds=3)


@pytest.mark.parametrize("slow", ["", "sleep 0.5"])
def test_both_at_once_type_each_command_once(bridge, bridge_that, notes, slow):
    path = bridge_that(slow)
    hook("port-created", port_created(), path)
    bridge.add_tap()
    done = start(path)

    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", ZEROTIER)
    eventually(lambda: not detached())
    assert changes(notes) == [DEL, ADD]
    assert vlans("vnet0") == ZEROTIER


def test_every_nic_of_the_vm_is_made_right(bridge):
    announced(bridge)
    hook("port-created", PORT2)
    kill_detached()
    bridge.add_tap("vnet1", TAP_MAC2)

    assert start().returncode == 0
    assert (vlans("vnet0"), vlans("vnet1")) == (ZEROTIER, SERVER)


# What stops the start


@pytest.mark.parametrize(
    ("lines", "said", "left"),
    [
        # the first change: as before
        (f'case "$typed" in *" del "*) {NOT_PERMITTED};; esac', f"{DEL}: exit 1: RTNETLINK answers", DEFAULT),
        # half way: in no VLAN rather than in the wrong one, and then only the second is left to do
        (
            'typed=$(echo "$typed" | sed "s/ 46 / 5000 /"); [ "$batch" ] || set -- $typed',
            f'{ADD}: exit 1: Invalid VLAN ID "5000"',
            NONE,
        ),
    ],
)
def test_a_bridge_that_fails_stops_the_start_and_is_quoted(bridge, bridge_that, lines, said, left):
    announced(bridge)
    line = refused(start(bridge_that(lines)))

    assert line.startswith(f"VM web: NIC {MAC}, tap vnet0: bridge {said}")
    assert vlans("vnet0") == left
    assert start().returncode == 0  # mended
    assert vlans("vnet0") == ZEROTIER


def test_a_bridge_that_fails_once_stops_nothing(bridge, bridge_that, tmp_path):
    announced(bridge)
    fail_once = f'case "$typed" in *" add "*) if mkdir {tmp_path}/failed 2>&1; then {NOT_PERMITTED}; fi;; esac'
    done = start(bridge_that(fail_once))

    assert (tmp_path / "failed").exists()
    assert (done.returncode, done.stderr, vlans("vnet0")) == (0, "", ZEROTIER)


def test_a_bridge_that_does_nothing_and_says_nothing_stops_the_start(bridge, bridge_that):
    announced(bridge)
    line = refused(start(bridge_that('case "$typed" in *" add "*) typed=$(echo "$typed" | grep show);; esac')))

    assert "has 1 pvid untagged instead of 46 pvid untagged: find out what else sets the VLANs of vnet0" in line


def test_no_bridge_at_all_stops_the_start(bridge):
    announced(bridge)

    with without_bridge():
        assert "bridge is not installed: install iproute2" in refused(start())


def test_a_path_without_sbin_stops_nothing(bridge):
    """libvirtd has it from whoever starts it by hand."""
    announced(bridge, path="/usr/bin:/bin")

    assert start("/usr/bin:/bin").returncode == 0
    assert vlans("vnet0") == ZEROTIER


def test_a_damaged_ticket_stops_the_start(bridge):
    announced(bridge)
    (name,) = tickets()
    text = (TICKETS / name).read_bytes()
    for spoiled in (
        text[:-20],  # cut short: a full disk
        b"",
        text.replace(b"vlans 46", b"vlans 4096"),  # no VID
        text.replace(b"\nmac ", b"\nMAC "),  # a value missing
        os.urandom(200),  # no text
    ):
        (TICKETS / name).write_bytes(spoiled)
        line = refused(start())

        assert line.startswith(f"VM web: NIC {MAC}, tap vnet0: the ticket /run/libvirt-hooks/{name} is damaged (")
        assert line.endswith("): remove it and restart the VM")
        assert vlans("vnet0") == DEFAULT


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("on no bridge", TAKEN_OFF),
        ("on another bridge", TAKEN_OFF),
        (
            "nowhere",
            'bridge -j link show dev vnet0: exit 1: Cannot find device "vnet0": run it in a shell to find out why',
        ),
    ],
)
def test_a_tap_that_is_not_on_the_bridge_stops_the_start(bridge, where, says):
    announced(bridge)
    if where == "nowhere":
        bridge.remove_tap()
    else:
        ip("link", "set", "vnet0", "nomaster")
    if where == "on another bridge":
        ip("link", "add", "br1", "type", "bridge", "vlan_filtering", "1")
        ip("link", "set", "vnet0", "master", "br1")

    assert refused(start()) == f"VM web: NIC {MAC}, tap vnet0: {says}"
    if where == "on another bridge":
        assert vlans("vnet0") == DEFAULT


@pytest.mark.parametrize("xml", ["", "<domain>", "<!DOCTYPE x [<!ENTITY a 'b'>]><domain>&a;</domain>"])
def test_xml_that_cannot_be_read_stops_no_start_without_ticket(bridge, xml):
    done = hook("start", xml, executable=QEMU, name="web")

    assert done.returncode == 0
    assert "VM web: the XML on stdin cannot be read" in logged()[-1]


def test_xml_that_cannot_be_read_stops_a_start_with_a_ticket(bridge):
    announced(bridge)
    done = hook("start", domain()[:-5], executable=QEMU, name="web")

    assert "VM web: the XML on stdin cannot be read" in refused(done)


# What never stops anything


def test_every_other_operation_does_nothing(bridge):
    announced(bridge)
    before = logged()
    for operation in (
        "reconnect",  # a failure kills the VM
        "migrate",  # what is on stdout replaces the domain
        "restore",  # so here
        "started",  # a failure kills the VM
        "stopped",
        "release",
        "attach",
        "no-such-operation",
        "",
    ):
        for xml in ("\0 garbage & <", domain()):
            done = hook(operation, xml, executable=QEMU, name="web")  # stdout is empty, too

            assert (operation, done.returncode, done.stderr, logged()) == (operation, 0, "", before)
    assert vlans("vnet0") == DEFAULT


def test_prepare_with_garbage_is_a_line_in_the_log(bridge):
    done = hook("prepare", "\0 garbage & <", executable=QEMU, name="web")

    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: [line for line in logged() if "not backed up: " in line])


def test_a_session_daemon_is_not_in_our_way(bridge, hooks_for_everybody):
    announced(bridge)
    before = logged()
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    for operation in ("prepare", "start"):
        done = subprocess.run(
            [*user, hooks_for_everybody / "qemu", "web", operation, "begin", "-"],
            input=domain().encode(), capture_output=True, env={"LC_ALL": "C"}, check=False,
        )  # fmt: skip

        assert (done.returncode, done.stdout, done.stderr, logged()) == (0, b"", b"", before)


@pytest.fixture
def hook_with_a_mistake_in(tmp_path):
    """Give hook_with_a_mistake_in(module), which returns a copy of the qemu hook, its lib's module spoiled."""

    def spoil(module):
        shutil.copytree(REPOSITORY / "lib", tmp_path / "lib")
        with open(tmp_path / "lib/libvirt_hooks" / f"{module}.py", "a", encoding="utf-8") as file:
            file.write("\nraise RuntimeError('a mistake')\n")
        return Path(shutil.copy(QEMU, tmp_path))

    return spoil


@pytest.mark.parametrize(
    "module",
    [
        "guest_start",  # imported once it is known that there is something to do
        "taps",  # only if there is work
        "sysfs",  # by most others
        "qemu",  # the main program itself
        "__init__",  # all of it
    ],
)
def test_our_own_mistakes_stop_only_a_vm_that_has_a_portgroup(bridge, hook_with_a_mistake_in, module):
    executable = hook_with_a_mistake_in(module)
    assert hook("start", without_portgroups(), executable=executable, name="web").returncode == 0

    announced(bridge)
    assert start(executable=executable, operation="reconnect").returncode == 0
    assert hook("start", without_portgroups(), executable=executable, name="web").returncode == 1  # it has a ticket now
    done = start(executable=executable)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "a mistake" in line


@pytest.mark.parametrize("module", ["backup", "qemu"])
def test_our_own_mistakes_never_stop_prepare(bridge, hook_with_a_mistake_in, module):
    announced(bridge)

    assert start(executable=hook_with_a_mistake_in(module), operation="prepare").returncode == 0
