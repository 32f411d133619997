# SPDX-License-Identifier: MIT
"""Another tool's hooks beside ours, as make install leaves them: each does its work, and neither harms the other."""

import subprocess
from pathlib import Path

import pytest
from conftest import LIBVIRT, MAC, REPOSITORY, nic, nothing_left_behind, tap_of, virsh, virsh_fails
from iproute import ACCESS, vlans

HOOKS = Path("/etc/libvirt/hooks")
CALLS, FAILS = Path("/run/other-calls"), Path("/run/other-fails")
FIRST, AFTER_OURS = "network qemu", "network.d/60-other qemu.d/60-other"
OTHERS = f"""#!/bin/sh
# Another tool's hook: notes its calls, fails in the operations that it is told to, changes the XML of a restored VM.
xml=$(cat)
echo "${{0##*/hooks/}} $2" >>{CALLS}
case " $(cat {FAILS}) " in *" $2 "*) echo "the other tool says no" >&2 && exit 1 ;; esac
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


def fail_in(*operations):
    FAILS.write_text(" ".join(operations))


@pytest.fixture(scope="module")
def others(libvirtd, request):
    """Give the names of another tool's two hooks, which were there before ours."""
    names = request.param.split()
    make("uninstall")
    for name in names:
        executable(name)
    fail_in()
    make("install")
    yield names
    make("uninstall")
    assert installed() == set(names)
    for name in names:
        assert (HOOKS / name).read_text() == OTHERS
        (HOOKS / name).unlink()
    make("install")


@pytest.mark.parametrize("others", [FIRST, AFTER_OURS], indirect=True)
def test_both_work_and_a_failure_that_libvirt_does_not_mind_harms_nobody(others, vm):
    CALLS.write_text("")
    fail_in("port-deleted", "stopped", "release", "reconnect")
    vm("web", nic(MAC, "zerotier"))
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}
    virsh("destroy", "web")
    nothing_left_behind()

    network, qemu = others
    calls = CALLS.read_text().splitlines()
    assert {f"{network} port-created", f"{network} port-deleted", f"{qemu} start", f"{qemu} release"} <= set(calls)


@pytest.mark.parametrize("others", [FIRST, AFTER_OURS], indirect=True)
def test_a_start_that_the_other_tool_refuses_does_not_harm_the_next(others, vm):
    vm("web", nic(MAC, "zerotier"), start=False)
    for operation in ("port-created", "start", "started"):
        fail_in(operation)
        assert "the other tool says no" in virsh_fails("start", "--paused", "web")
    fail_in()
    virsh("define", "/dev/stdin", stdin=virsh("dumpxml", "web").replace("'zerotier'", "'server'"))
    virsh("start", "--paused", "web")

    assert vlans(tap_of("web", MAC)) == {3: ACCESS}
    virsh("destroy", "web")
    nothing_left_behind()


@pytest.mark.parametrize("others", [FIRST], indirect=True)
def test_what_the_other_tool_makes_of_a_restored_vm_is_what_libvirt_gets(others, vm):
    fail_in()
    vm("web", nic(MAC, "zerotier"))
    subprocess.run([*LIBVIRT, "desc", "web", "blue"], check=True, stdout=subprocess.DEVNULL)
    virsh("managedsave", "web")
    virsh("start", "--paused", "web")

    assert virsh("desc", "web") == "green"
    assert vlans(tap_of("web", MAC)) == {46: ACCESS}
