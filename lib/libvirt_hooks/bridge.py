# SPDX-License-Identifier: MIT
"""The only module that runs iproute2's commands, nearly always `bridge`, as an operator would type them.

Not to be imported while libvirtd waits: `sh` takes longer to import than all the rest.
"""

from __future__ import annotations

import json
import os
import shlex
from functools import cache

import sh

from . import HookError, log
from .sysfs import ports_with
from .vlans import Vlans, from_bridge

TIMEOUT_SECONDS = 30  # a `bridge` takes milliseconds; one that takes this long is stuck, and is killed


def run(command: list[str]) -> str:
    """Given a command of iproute2, run it without a shell and return its stdout.

    Raises HookError, with the command and what it said, if it fails, takes too long or is not installed.
    """
    environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    typed = shlex.join(command)
    try:
        program = sh.Command(command[0])
        # no pty: there are hosts with none to spare
        answer = program(
            *command[1:], _tty_out=False, _timeout=TIMEOUT_SECONDS, _env=environment, _decode_errors="replace"
        )
        return str(answer)
    except sh.CommandNotFound as error:
        raise HookError(f"{command[0]} is not installed: install iproute2") from error
    except sh.TimeoutException as error:
        raise HookError(f"{typed}: not done after {TIMEOUT_SECONDS} s, killed") from error
    except sh.ErrorReturnCode as error:
        said = " ".join((error.stderr or error.stdout).decode(errors="replace").split())
        raise HookError(f"{typed}: exit {error.exit_code}: {said}") from error
    except (OSError, sh.ForkException, RuntimeError) as error:  # RuntimeError: sh can start no thread
        raise HookError(f"{typed}: cannot be run: {error}") from error


def change(command: list[str], subject: str) -> None:
    """Given a command that changes something and what its log line begins with, log it and run it, as run() does."""
    log.info(f"{subject}: + {shlex.join(command)}")
    run(command)


def vlans_of(port: str) -> Vlans:
    """Given a port, return the VLANs that it has. Raises HookError as run() does, and if the answer is none."""
    return from_bridge(_read(["bridge", "-j", "-compressvlans", "vlan", "show", "dev", port]))


def vlans_of_all() -> dict[str, Vlans]:
    """Return the VLANs of all ports and bridges by name; ports without any are missing. Raises HookError as above."""
    shown = _read(["bridge", "-j", "-compressvlans", "vlan", "show"])
    return {str(entry.get("ifname")): from_bridge([entry]) for entry in shown} if isinstance(shown, list) else {}


def port_with(address: str, bridge: str) -> str:
    """Given a tap's address and a bridge, return the name of the bridge's port that owns the address, "" if none does.

    Only a permanent entry of the forwarding database is a port's own address: any guest can make the bridge learn any
    other by sending one frame. Raises HookError if `bridge` fails although such a port is there, or if there are two.
    """
    there = ports_with(address, bridge)
    if len(there) > 1:
        raise HookError(f"{' and '.join(there)} on {bridge} have the same address: give one another MAC address")
    try:
        entries = _read(["bridge", "-j", "fdb", "get", address, "br", bridge])
    except HookError:
        if there:
            raise
        return ""  # no such entry, or not even the bridge
    for entry in entries if isinstance(entries, list) else ():
        # the bridge's own address can be the same, and have been there first
        if isinstance(entry, dict) and entry.get("state") == "permanent" and entry.get("ifname") in (*there, bridge):
            return there[0] if there else ""
    return ""


def _read(command: list[str]) -> object:
    _log_once(shlex.join(command))
    answer = run(command)
    try:
        return json.loads(answer or "[]")
    except ValueError as error:
        raise HookError(f"{shlex.join(command)}: answered what is no JSON: {answer[:200]!r}") from error


@cache
def _log_once(typed: str) -> None:
    """A process that waits reads the same again and again."""
    log.debug(typed)
