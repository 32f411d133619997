# SPDX-License-Identifier: MIT
"""Every `bridge` command that the hook runs, in order: one on PATH notes its words, and has the real one do it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import MAC, REPOSITORY, UUID, detached, hook, logged, make_bridge_program, port_created
from iproute import ACCESS, eventually, vlans

LINK, SHOW = "link show dev vnet0", "vlan show dev vnet0"


@pytest.fixture
def typed(tmp_path):
    """Give a PATH with a `bridge` that first notes what is typed, and a function that returns that."""
    notes = tmp_path / "typed"
    path = make_bridge_program(tmp_path, f'echo "$typed" >>{notes}')

    def read():
        return notes.read_text().splitlines()

    return path, read


def finished(bridge):
    eventually(lambda: not detached())


ACCESS_PORT = [LINK, "vlan del dev vnet0 vid 1 master", "vlan add dev vnet0 vid 46 pvid untagged master", SHOW]


@pytest.mark.parametrize(
    ("name", "default_pvid", "commands"),
    [
        ("zerotier", "1", ACCESS_PORT),
        ("whole-name", "1", ACCESS_PORT),
        ("zerotier", "0", [LINK, "vlan add dev vnet0 vid 46 pvid untagged master", SHOW]),
        ("zerotier", "46", [LINK, SHOW]),
        ("all", "1", [LINK, "vlan add dev vnet0 vid 2-4094 master", SHOW]),
        ("trunk", "0", [LINK, "vlan add dev vnet0 vid 1-4094 master", SHOW]),
        ("all", "7", [LINK, "vlan add dev vnet0 vid 1-6 master", "vlan add dev vnet0 vid 8-4094 master", SHOW]),
    ],
)
def test_it_types_what_an_operator_would(bridge, typed, name, default_pvid, commands):
    path, read = typed
    bridge.set("vlan_default_pvid", default_pvid)
    hook("port-created", port_created(name), path=path)
    bridge.add_tap()
    finished(bridge)

    assert read() == commands


def test_the_log_can_be_pasted(bridge, typed):
    """What stands behind the + in the log is what was typed, and typing it again does the same."""
    path, read = typed
    hook("port-created", port_created(), path=path)
    bridge.add_tap()
    finished(bridge)
    changes = [line.split(" + ", 1) for line in logged() if " + " in line]

    assert [command for _, command in changes] == [
        f"bridge {words}" for words in read() if " add " in words or " del " in words
    ]
    assert {subject for subject, _ in changes} == {"web 52:54:00:00:00:01 vnet0 zerotier:"}
    bridge.reattach()
    for _, command in changes:
        subprocess.run(command, shell=True, check=True)
    assert vlans("vnet0") == {46: ACCESS}


@pytest.mark.parametrize("place", ["link", "copy", "network.d", "make install"])
def test_wherever_it_is_it_finds_its_lib(bridge, typed, place, tmp_path):
    path, read = typed
    if place == "link":
        (tmp_path / "network").symlink_to(REPOSITORY / "hooks/network")
    elif place == "make install":
        subprocess.run(
            ["make", "-C", REPOSITORY, "install", f"HOOKS_DIR={tmp_path}"], check=True, stdout=subprocess.DEVNULL
        )
    else:
        shutil.copytree(REPOSITORY / "lib", tmp_path / "lib")
        shutil.copy(REPOSITORY / "hooks/network", tmp_path)
    if place == "network.d":
        (tmp_path / "network.d").mkdir()
        (tmp_path / "network").rename(tmp_path / "network.d/50-vlan")
    executable = next(file for file in (tmp_path / "network.d/50-vlan", tmp_path / "network") if Path(file).exists())
    assert hook("port-created", port_created(), path=path, executable=executable).returncode == 0
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == {46: ACCESS})
    finished(bridge)

    assert read() == ACCESS_PORT


def test_reads_are_in_the_log_once_and_can_be_pasted_too(bridge, failing):
    """A tap whose VLANs cannot be changed at first: each attempt reads the same."""
    hook("port-created", port_created(uuid=UUID), path=failing.path)
    bridge.add_tap()
    eventually(lambda: failing.calls() > 2)
    failing.mend()
    finished(bridge)
    reads = [line for line in logged() if line.startswith("bridge -j ")]

    assert reads == ["bridge -j link show dev vnet0", "bridge -j -compressvlans vlan show dev vnet0"]
    link, vlan = (json.loads(subprocess.check_output(command, shell=True)) for command in reads)
    assert (link[0]["master"], vlan[0]["vlans"][0]["vlan"]) == ("br0", 46)


def test_a_tap_that_bridge_does_not_show_on_the_bridge_is_left_as_it_is(bridge, tmp_path):
    """/sys tells the tap's name; `bridge link show` decides."""
    elsewhere = make_bridge_program(
        tmp_path,
        f"""[ -e {tmp_path}/mended ] || {{ echo '[{{"ifname":"vnet0","master":"br1"}}]'; echo '[]'; exit; }}""",
    )
    hook("port-created", port_created(), path=elsewhere)
    bridge.add_tap()
    says = f"trying again: web {MAC} vnet0 zerotier: vnet0 is not on br0: try again"
    eventually(lambda: any(line.startswith(says) for line in logged()))
    assert vlans("vnet0") == {1: ACCESS}
    (tmp_path / "mended").touch()

    eventually(lambda: vlans("vnet0") == {46: ACCESS})


def test_nothing_is_typed_for_a_tap_that_is_gone_when_bridge_looks(bridge, typed, tmp_path):
    """A batch stops at `bridge link show` before the changes."""
    path, _ = typed
    until_up = "until ip link show dev vnet0 up | grep -q .; do sleep 0.1; done"
    first = f"[ -e {tmp_path}/first ] || {{ touch {tmp_path}/first; {until_up}; ip link del vnet0; }}"
    program = tmp_path / "bridge"
    program.write_text(program.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{first}\n", 1))
    hook("port-created", port_created(), path=path)
    bridge.add_tap()
    eventually(lambda: any('link show dev vnet0: exit 1: Cannot find device "vnet0"' in line for line in logged()))
    bridge.add_tap()

    eventually(lambda: vlans("vnet0") == {46: ACCESS})


def test_a_batch_keeps_to_the_port_that_it_began_with(bridge):
    """What the hook relies on: several commands are one `bridge -batch`, and a name can come back as another VM's."""
    bridge.add_tap()
    batch = subprocess.Popen(["/usr/sbin/bridge", "-batch", "-"], stdin=subprocess.PIPE, text=True)
    batch.stdin.write("vlan del dev vnet0 vid 1 master\n")
    batch.stdin.flush()
    eventually(lambda: vlans("vnet0") == {})
    bridge.remove_tap()
    bridge.add_tap(mac="fe:54:00:00:00:02")
    batch.stdin.write("vlan add dev vnet0 vid 46 pvid untagged master\n")
    batch.stdin.close()

    assert batch.wait() != 0
    assert vlans("vnet0") == {1: ACCESS}
