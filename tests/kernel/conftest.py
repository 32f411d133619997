# SPDX-License-Identifier: MIT
"""The real hook on a real VLAN-aware bridge, called as libvirt calls it, with taps that libvirt could have made.

 br0 (vlan_filtering 1)
  |        |        |
vnet0    vnet1    swp1 ...
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from iproute import IP, eventually, ip, ip_batch
from parts import own_part
from processes import command_lines

from libvirt_hooks import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "tests" / "data"
LOG = Path("/var/log/libvirt/hooks.log")  # there is no /dev/log in the lab
TICKETS = Path("/run/libvirt-hooks")
MAC, TAP_MAC = "52:54:00:00:00:01", "fe:54:00:00:00:01"  # of the captured XML
UUID = "00000000-0000-0000-0000-000000000001"


def pytest_sessionstart():
    """Outside the lab, these tests would change a real machine's network, or find no VLAN filtering there."""
    if os.environ.get("LAB") != "1":
        pytest.exit("run it in the lab: tests/lab/run -- python3 -m pytest tests/kernel", returncode=1)


def pytest_collection_modifyitems(config, items):
    """Keep the part of LAB_PART."""
    kept = own_part(items)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def port_created(name="zerotier", uuid=UUID, **replacements):
    """Given a captured port-created, return its XML with this uuid of the port, and (old, new) replaced."""
    xml = (DATA / f"network-port-created-{name}.xml").read_text()
    port = xml.index("<networkport>")
    captured_uuid = xml[port:].split("<uuid>", 1)[1].split("</uuid>", 1)[0]
    xml = xml.replace(captured_uuid, uuid)
    for old, new in replacements.values():
        assert old in xml
        xml = xml.replace(old, new)
    return xml


def hook(operation, xml="", path=None, executable=REPOSITORY / "hooks/network", name="br0"):
    """Call a hook as libvirt does, return when libvirt would go on: its exit status and stderr."""
    done = subprocess.run(
        [executable, name, operation, "begin", "-"],
        input=xml.encode(),
        capture_output=True,
        cwd="/",
        env={"LC_ALL": "C", **({"PATH": path} if path else {})},
        timeout=60,
        check=False,
    )
    assert done.stdout == b""
    done.stderr = done.stderr.decode()
    return done


def refused(done):
    """Given what a hook returned, see that it refused; return its sentence, which is in the log, too."""
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert logged()[-1] == line
    assert "internal error" not in line
    return line


def impatient_hook(directory, hook, module, constant, seconds):
    """Make a copy of a hook in a directory, the same in all but one constant of a module; return its path.

    The constant is its name and its number in seconds, as in ("WAIT_SECONDS", 300).
    """
    shutil.copytree(REPOSITORY / "lib", directory / "lib")
    file = directory / f"lib/libvirt_hooks/{module}.py"
    name, number = constant
    text, count = re.subn(rf"(?m)^{name} = {number}\b", f"{name} = {seconds}", file.read_text())
    assert count == 1
    file.write_text(text)
    return shutil.copy(REPOSITORY / "hooks" / hook, directory)


def make_bridge_program(directory, lines):
    """Make a `bridge` that first does these lines of sh, with the commands typed in $typed, then what it should.

    Return a PATH that has it.
    """
    program = directory / "bridge"
    program.write_text(
        '#!/bin/sh\ntyped=$* batch=; case "$*" in *-batch*) typed=$(cat) batch=yes;; esac\n'
        f"{lines}\n"
        '[ ! "$batch" ] || exec /usr/sbin/bridge "$@" <<END\n$typed\nEND\n'
        'exec /usr/sbin/bridge "$@"\n'
    )
    program.chmod(0o755)
    return f"{directory}:/usr/sbin:/usr/bin:/bin"


@contextlib.contextmanager
def without_bridge():
    """Have no `bridge` installed meanwhile: the lab forgets it, should this end badly."""
    shutil.move("/usr/sbin/bridge", "/usr/sbin/hidden")
    try:
        yield
    finally:
        shutil.move("/usr/sbin/hidden", "/usr/sbin/bridge")


def detached():
    """Return the processes that a hook has left behind, by their ids."""
    return [
        process
        for process, words in command_lines()
        if words[1:2] == [b"-IS"] and words[2].endswith((b"network", b"50-vlan"))  # python3 -IS hooks/network
    ]


def tickets():
    """Return the names of the tickets."""
    return sorted(file.name for file in TICKETS.glob("f?:*"))


def logged(whole=False):
    """Return the log's lines, without time and process; not those that say which release a hook is, unless whole."""
    lines = [line.split("]: ", 1)[1] for line in LOG.read_text().splitlines()] if LOG.exists() else []
    return [line for line in lines if whole or not line.endswith(f": libvirt-hooks {VERSION}")]


class Bridge:
    """br0, as an operator would make it, and its ports."""

    name = "br0"

    def __init__(self):
        ip("link", "add", self.name, "up", "type", "bridge", "vlan_filtering", "1")

    def set(self, *options):
        """Change options of the bridge, e.g. set("vlan_default_pvid", "0")."""
        ip("link", "set", self.name, "type", "bridge", *options)

    def add_tap(self, name="vnet0", mac=TAP_MAC):
        """Make a tap and put it on the bridge, in the order that libvirt does; return its name."""
        ip_batch(
            f"tuntap add {name} mode tap",
            f"link set {name} address {mac}",
            f"link set {name} master {self.name}",
            f"link set {name} up",
        )
        return name

    def add_guest(self, name="vnet0", mac=TAP_MAC):
        """Make a port that somebody can send through, a veth in a tap's stead; return the guest's end of it."""
        guest = name.replace("vnet", "guest")
        ip_batch(
            f"link add {name} address {mac} type veth peer name {guest}",
            f"link set {guest} up",
            f"link set {name} master {self.name} up",
        )
        return guest

    def remove_tap(self, name="vnet0"):
        """Delete the tap, as the kernel does when QEMU ends."""
        ip("link", "del", name)

    def reattach(self, name="vnet0"):
        """Take the tap off the bridge and put it back, as libvirt 9.0 does in `virsh domif-setlink`."""
        ip_batch(f"link set {name} nomaster", f"link set {name} master {self.name}")


def forget_everything():
    """Remove what the hooks and libvirt keep in /run."""
    for name in ("/run/libvirt-hooks", "/run/libvirt/network", "/run/libvirt/qemu"):
        shutil.rmtree(name, ignore_errors=True)


@pytest.fixture
def bridge():
    """Give a fresh VLAN-aware bridge br0; afterwards no process, ticket, bridge, tap or veth is left."""
    LOG.unlink(missing_ok=True)
    yield Bridge()
    links = json.loads(subprocess.run([IP, "-j", "link"], check=True, stdout=subprocess.PIPE).stdout)
    commands = "\n".join(f"link del {link['ifname']}" for link in links if link["ifname"] != "lo")
    # one end of a veth pair goes with the other
    subprocess.run([IP, "-force", "-batch", "-"], input=commands.encode(), check=False, stderr=subprocess.DEVNULL)
    forget_everything()  # waiting processes find nothing to wait for, and end
    eventually(lambda: not detached())
    forget_everything()


@pytest.fixture
def hooks_for_everybody():
    """Give a directory with the hooks in it that any user can read: the checkout can be in a private home directory."""
    place = Path("/run/hooks-for-everybody")
    for part in ("hooks", "lib"):
        shutil.copytree(REPOSITORY / part, place / part)
    yield place / "hooks"
    shutil.rmtree(place)


@pytest.fixture
def granted():
    """Give granted(uuid, ...): from then on libvirt's state files say these ports, and VM web running with vnet0.

    VM web runs with these ports, unless used=False says that libvirt has kept them of an earlier run.
    """

    def grant(*uuids, used=True):
        ports, domains = Path("/run/libvirt/network/br0/ports"), Path("/run/libvirt/qemu")
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        domains.mkdir(parents=True, exist_ok=True)
        for uuid in uuids:
            (ports / f"{uuid}.xml").touch()
        sources = "".join(f"<source network='br0' portid='{uuid}'/>" for uuid in uuids if used)
        (domains / "web.xml").write_text(f"<domstatus>{sources}<target dev='vnet0'/></domstatus>")

    return grant


@pytest.fixture
def failing(tmp_path):
    """Give a PATH with a `bridge` that cannot change anything until failing.mend() is called."""

    class Failing:
        broken = tmp_path / "broken"
        notes = tmp_path / "notes"
        path = make_bridge_program(
            tmp_path,
            f'echo >>{tmp_path}/notes; [ ! -e {tmp_path}/broken ] || case "$typed " in *" add "*|*" del "*)\n'
            '  echo "RTNETLINK answers: Operation not permitted" >&2\n'
            '  [ ! "$batch" ] || echo "Command failed -:2" >&2\n  exit 2\nesac',
        )

        def calls(self):
            return len(self.notes.read_text()) if self.notes.exists() else 0

        def mend(self):
            self.broken.unlink()

    Failing.broken.touch()
    return Failing()
