# SPDX-License-Identifier: MIT
"""The only module that asks libvirt itself, through `virsh`. For the tool: a hook that did so would wait for ever.

One `virsh` asks for all VMs, and one for all networks. A process for each of them would take ten times as long.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
from pathlib import Path

from .. import LACKING, HookError

DRIVERS = Path("/usr")  # somewhere below are libvirt's drivers
VIRSH = ("virsh", "-q", "-c")
QEMU, LXC = "qemu:///system", "lxc:///system"
TIMEOUT_SECONDS = 60  # libvirtd may be waiting for the hook of another VM
AT_ONCE = 500  # questions for one process: some 50 KiB. source: linux/binfmts.h, MAX_ARG_STRLEN: 128 KiB an argument
# what virsh says in LC_ALL=C if there is no such VM or network. source: libvirt, tools/virsh-util.c
NO_SUCH = ("failed to get domain", "failed to get network", "Domain not found", "Network not found")
# and if no daemon runs containers. source: libvirt, src/rpc/virnetsocket.c
NO_DAEMON = "Failed to connect socket to"
# which daemon that is: the file's name less -sock. source: libvirt, src/remote/remote_sockets.c
SOCKET = re.compile(f"{NO_DAEMON} '[^']*/([a-z]+)-sock'")


def drivers() -> list[str]:
    """Return the URIs of libvirt's drivers: that of VMs, and that of containers if this libvirt has it."""
    return [QEMU, LXC] if has_lxc_driver() else [QEMU]


def has_lxc_driver() -> bool:
    """Return whether this libvirt can run containers."""
    places = [*DRIVERS.glob("lib*"), *DRIVERS.glob("lib/*")]  # Debian's are in lib/x86_64-linux-gnu
    return any((place / "libvirt/connection-driver/libvirt_driver_lxc.so").exists() for place in places)


def running(uri: str = QEMU) -> list[str]:
    """Return the uuids of the running VMs. Raises HookError, as all here do, if libvirt cannot be asked."""
    return _ask(uri, "list", "--uuid").decode().split()


def defined(uri: str = QEMU) -> list[str]:
    """Return the uuids of all VMs."""
    return _ask(uri, "list", "--all", "--uuid").decode().split()


def domains(uuids: list[str], *options: str, uri: str = QEMU) -> dict[str, bytes]:
    """Given VMs' uuids and options of `virsh dumpxml`, return their XML by uuid, without VMs that are not there."""
    return _ask_for_each(uri, [shlex.join(["dumpxml", *options, "--domain"])], uuids)[0]


def both_domains(uuids: list[str], uri: str = QEMU) -> list[dict[str, bytes]]:
    """Given running VMs' uuids, return their XML by uuid, as they run and as they are defined, without VMs that are not
    there.
    """
    return _ask_for_each(uri, ["dumpxml --domain", "dumpxml --inactive --domain"], uuids)


def domain(vm: str, *options: str, uri: str = QEMU) -> bytes:
    """Given a VM's name or uuid and options of `virsh dumpxml`, return its XML, b"" if there is no such VM."""
    return _ask(uri, "dumpxml", *options, "--domain", vm)


def networks(uri: str = QEMU) -> list[bytes]:
    """Return the XML of all networks, as they run."""
    uuids = _ask(uri, "net-list", "--all", "--uuid").decode().split()
    return list(_ask_for_each(uri, ["net-dumpxml --network"], uuids)[0].values())


def network(name: str, uri: str = QEMU) -> bytes:
    """Given a network's name, return its XML as it runs, b"" if there is no such network."""
    return _ask(uri, "net-dumpxml", "--network", name)


def _ask_for_each(uri: str, questions: list[str], uuids: list[str]) -> list[dict[str, bytes]]:
    """Given commands of virsh that want a uuid, and uuids, return what each answers by uuid, without empty answers.

    An answer ends with a random word that virsh is told to say: nobody's <description> can have it.
    """
    answers: list[dict[str, bytes]] = [{} for _ in questions]
    for begin in range(0, len(uuids), AT_ONCE):
        some = uuids[begin : begin + AT_ONCE]
        end = secrets.token_hex()
        asked = [f"{question} {uuid}" for uuid in some for question in questions]
        parts = _ask(uri, "".join(f"{one}; echo {end}; " for one in asked), shown=f"{asked[0]}; …").split(end.encode())
        if len(parts) != len(asked) + 1:
            raise HookError(f"virsh {asked[0]}; …: {len(parts) - 1} answers to {len(asked)} questions: try again")
        for place, found in enumerate(answers):
            said = parts[place :: len(questions)]
            found.update({uuid: part.strip() for uuid, part in zip(some, said) if part.strip()})
    return answers


def _ask(uri: str, *words: str, shown: str = "") -> bytes:
    """Given words for virsh, and how an error is to show them, return its stdout, b"" for what there is not."""
    typed = shlex.join(["virsh", *([shown] if shown else words)])
    try:
        done = subprocess.run(  # noqa: S603 # fixed words, then uuids, or a name as an option's value, no shell
            [*VIRSH, uri, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            timeout=TIMEOUT_SECONDS,
        )
    except FileNotFoundError as error:
        raise HookError("virsh is not installed: install libvirt-clients (dnf: libvirt-client)") from error
    except subprocess.TimeoutExpired as error:
        raise HookError(f"{typed}: no answer after {TIMEOUT_SECONDS} s: try again") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
        raise HookError(f"{typed}: cannot be run: {error}: {LACKING}") from error
    said = done.stderr.decode(errors="replace")
    errors = [line for line in said.splitlines() if line.startswith("error:")]  # the exit status is the last command's
    if uri == LXC and NO_DAEMON in said:  # none is started where only VMs run
        return b""
    if any(_is_of_weight(line) for line in errors) or (done.returncode and not errors):
        raise HookError(f"{typed}: exit {done.returncode}: {' '.join(said.split())}: {_whom_to_ask(said)}")
    return done.stdout


def _whom_to_ask(said: str) -> str:
    """Given virsh's errors, return what to do: look after the daemon whose socket is missing, if they name that."""
    named = SOCKET.search(said)
    if not named:
        return "systemctl status libvirtd (or virtqemud and virtnetworkd) says whether libvirt runs"
    daemon = "libvirtd" if named[1] == "libvirt" else named[1]
    return f"systemctl status {daemon} says whether it runs"


def _is_of_weight(error: str) -> bool:
    """Given an error of virsh's, return whether it says more than that there is no such VM or network."""
    return not any(text in error for text in NO_SUCH)
