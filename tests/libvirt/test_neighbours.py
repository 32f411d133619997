# SPDX-License-Identifier: MIT
"""Another tool's hooks beside ours, as make install leaves them: each does its work, and neither harms the other."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import (
    LIBVIRT,
    LOG,
    MAC,
    REPOSITORY,
    nic,
    nothing_left_behind,
    start_libvirtd,
    tap_of,
    virsh,
    virsh_fails,
)
from iproute import ACCESS, eventually, vlans

HOOKS = Path("/etc/libvirt/hooks")
CALLS, TOLD, HANGS = Path("/run/other-calls"), Path("/run/other-told"), Path("/run/other-hangs")
FIRST, AFTER_OURS = "network qemu", "network.d/60-other qemu.d/60-other"
OTHERS = f"""#!/bin/sh
# Another tool's hook: notes its calls, does in an operation what it is told to, changes the XML of a restored VM.
xml=$(cat)
echo "${{0##*/hooks/}} $2" >>{CALLS}
case $(cat {TOLD}) in
*"fails in $2;"*) echo "the other tool says no" >&2 && exit 1 ;;
*"hangs in $2;"*) echo $$ >{HANGS} && exec sleep 1000 ;;
*"prints in $2;"*) echo "the other tool is at work" && exit ;;
esac
[ "$2" != restore ] || printf '%s\\n' "$xml" | sed 's/blue/green/'
"""


def make(target):
    subprocess.run(["make", "-s", "-C", REPOSITORY, target], check=True, stdin=subprocess.DEVNULL)


def executable(name):
    file = HOOKS / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(OTHERS)
    file.chmod(0o755)


def installed():
    return {str(file.relative_to(HOOKS)) for file in HOOKS.rglob("*") if file.is_file() and "lib" not in file.parts}


def tell(**operations):
    """Tell the other tool's hooks what to do in which operations: fails=..., hangs=..., prints=..."""
    told = [f"{does} in {operation};" for does, words in operations.items() for operation in words.split()]
    TOLD.write_text(" ".join(told))


def end_the_hook_that_hangs():
    os.kill(int(HANGS.read_text()), signal.SIGTERM)
    HANGS.unlink()


@pytest.fixture(scope="module")
def others(libvirtd, request):
    """Give the names of another tool's two hooks, which were there before ours."""
    names = request.param.split()
    make("uninstall")
    for name in names:
        executable(name)
    tell()
    make("install")
    yield names
    make("uninstall")
    assert installed() == set(names)
    for name in names:
        assert (HOOKS / name).read_text() == OTHERS
        (HOOKS / name).unlink()
    make("install")


@pytest.mark.parametrize("others", [FIRST, AFTER_OURS], indirect=True)
def test_both_work_and_what_libvirt_does_not_mind_harms_nobody(others, vm):
    CALLS.write_text("")
    tell(prints="prepare port-created start started", fails="port-deleted stopped release")
    vm("web", nic(MAC, "zerotier"))
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}
    virsh("destroy", "web")
    nothing_left_behind()

    network, qemu = others
    calls = CALLS.read_text().splitlines()
    assert {f"{network} port-created", f"{network} port-deleted", f"{qemu} start", f"{qemu} release"} <= set(calls)


@pytest.mark.parametrize("others", [FIRST, AFTER_OURS], indirect=True)
def test_a_start_that_the_other_tool_holds_up_or_refuses_does_not_harm_the_next(others, vm):
    vm("web", nic(MAC, "zerotier"), start=False)
    LOG.unlink(missing_ok=True)
    tell(hangs="port-created")
    with subprocess.Popen([*LIBVIRT, "start", "--paused", "web"], stderr=subprocess.PIPE, text=True) as starting:
        eventually(lambda: HANGS.exists() and HANGS.read_text())
        with pytest.raises(subprocess.TimeoutExpired):  # libvirt asks the VM that starts, too
            subprocess.run([*LIBVIRT, "list"], timeout=2, check=False)
        end_the_hook_that_hangs()
        assert "fatal signal" in starting.communicate()[1]
    assert "wanted on br0: 46" in LOG.read_text()  # libvirt calls the others all the same
    for operation in ("start", "started"):
        tell(fails=operation)
        assert "the other tool says no" in virsh_fails("start", "--paused", "web")
    tell()
    virsh("define", "/dev/stdin", stdin=virsh("dumpxml", "web").replace("'zerotier'", "'server'"))
    virsh("start", "--paused", "web")

    assert vlans(tap_of("web", MAC)) == {3: ACCESS}
    virsh("destroy", "web")
    nothing_left_behind()


@pytest.mark.parametrize("others", [FIRST], indirect=True)
def test_what_the_other_tool_prints_for_a_restored_vm_is_what_libvirt_gets(others, vm):
    tell()
    vm("web", nic(MAC, "zerotier"))
    subprocess.run([*LIBVIRT, "desc", "web", "blue"], check=True, stdout=subprocess.DEVNULL)
    virsh("managedsave", "web")
    virsh("start", "--paused", "web")

    assert virsh("desc", "web") == "green"
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}
    virsh("managedsave", "web")
    tell(prints="restore")
    # libvirt 9 refuses that start; libvirt 11.3 deletes the saved state, and says that all is well
    subprocess.run([*LIBVIRT, "start", "--paused", "web"], capture_output=True, check=False)
    assert virsh("list", "--name") == ""


@pytest.mark.parametrize("others", [FIRST], indirect=True)
def test_a_failure_at_the_restart_of_libvirtd_ends_the_vm_and_nothing_is_left_of_it(others, vm):
    tell(fails="reconnect")
    vm("web", nic(MAC, "zerotier"))
    start_libvirtd()

    eventually(lambda: "web" not in virsh("list", "--name"))
    nothing_left_behind()
