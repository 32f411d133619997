# SPDX-License-Identifier: MIT
"""The only module that asks libvirt itself, through `virsh`. For the tool: a hook that did so would wait for ever."""

from __future__ import annotations

import os
import shlex
import subprocess

from .. import HookError

VIRSH = ("virsh", "-q", "-c", "qemu:///system")
TIMEOUT_SECONDS = 60  # libvirtd may be waiting for the hook of another VM
# what virsh says in LC_ALL=C if there is no such VM or network. source: libvirt, tools/virsh-util.c
NO_SUCH = ("failed to get domain", "failed to get network", "Domain not found", "Network not found")


def running() -> list[str]:
    """Return the uuids of the running VMs. Raises HookError, as all here do, if libvirt cannot be asked."""
    return _ask("list", "--uuid").decode().split()


def defined() -> list[str]:
    """Return the uuids of all VMs."""
    return _ask("list", "--all", "--uuid").decode().split()


def domain(vm: str, *options: str) -> bytes:
    """Given a VM's uuid and options of `virsh dumpxml`, return its XML, b"" if there is no such VM (any more)."""
    return _ask("dumpxml", *options, "--domain", vm)


def network(name: str) -> bytes:
    """Given a network's name, return its XML as it runs, b"" if there is no such network."""
    return _ask("net-dumpxml", "--network", name)


def _ask(*words: str) -> bytes:
    typed = shlex.join(["virsh", *words])
    try:
        done = subprocess.run(  # noqa: S603 # fixed words, then a uuid or name as an option's value, no shell
            [*VIRSH, *words],
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
        raise HookError(f"{typed}: cannot be run: {error}") from error
    said = " ".join(done.stderr.decode(errors="replace").split())
    if done.returncode and any(text in said for text in NO_SUCH):
        return b""
    if done.returncode:
        raise HookError(f"{typed}: exit {done.returncode}: {said}")
    return done.stdout
