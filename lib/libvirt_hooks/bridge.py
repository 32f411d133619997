# SPDX-License-Identifier: MIT
"""The only module that runs iproute2's commands, nearly always `bridge`, as an operator would type them.

Not to be imported while libvirtd waits: `sh` takes longer to import than all the rest.
"""

from __future__ import annotations

import json
import os
import shlex
from functools import cache
from typing import TextIO

import sh

from . import HookError, log
from .vlans import Vlans, from_bridge

TIMEOUT_SECONDS = 30  # a `bridge` takes milliseconds; one that takes this long is stuck, and is killed


def run(command: list[str], stdin: str = "") -> str:
    """Given a command of iproute2 and its stdin, run it without a shell and return its stdout.

    Raises HookError, with the command and what it said, if it fails, takes too long or is not installed.
    """
    typed = shlex.join(command)
    try:
        # files, not pipes: sh would start threads for those; and whoever kills us must not leave a line cut to "vid 4"
        with _file() as fed, _file() as said, _file() as complained:
            fed.write(stdin)
            fed.seek(0)
            # Python itself leaves no other descriptor open to a command
            program = sh.Command(command[0]).bake(_in=fed, _out=said, _err=complained, _close_fds=False)
            try:
                program(*command[1:], _timeout=TIMEOUT_SECONDS, _env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
            except sh.ErrorReturnCode as error:
                words = _read_back(complained).split() or _read_back(said).split()
                raise HookError(f"{typed}: exit {error.exit_code}: {' '.join(words)}") from error
            return _read_back(said)
    except sh.CommandNotFound as error:
        raise HookError(f"{command[0]} is not installed: install iproute2") from error
    except sh.TimeoutException as error:
        raise HookError(f"{typed}: not done after {TIMEOUT_SECONDS} s, killed") from error
    except sh.ForkException as error:  # it has a whole traceback in its text
        raise HookError(f"{typed}: cannot be run: {str(error).strip().splitlines()[-1]}") from error
    except (OSError, RuntimeError, ValueError) as error:  # sh can start no thread; what it forked was killed
        raise HookError(f"{typed}: cannot be run: {error}") from error


def _file() -> TextIO:
    return open(os.memfd_create("bridge"), "w+", encoding="utf-8", errors="replace")


def _read_back(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def change(commands: list[list[str]], subject: str) -> None:
    """Given commands of one program and what their log lines begin with, log them and run them, as run() does.

    Several are one `bridge -batch` or `ip -batch`, which stops at the first that fails. It looks names up once: if the
    port goes half way, and its name comes back as another VM's, the rest does not reach that one (lib/ll_map.c).
    """
    log.info(*(f"{subject}: + {shlex.join(command)}" for command in commands))
    if len(commands) == 1:
        run(commands[0])
    elif commands:
        _run_batch(commands)


def vlans_of(port: str) -> Vlans:
    """Given a port, return the VLANs that it has. Raises HookError as run() does, and if the answer is none."""
    return from_bridge(_read(["bridge", "-j", "-compressvlans", "vlan", "show", "dev", port]))


def vlans_of_all() -> dict[str, Vlans]:
    """Return the VLANs of all ports and bridges by name; ports without any are missing. Raises HookError as above."""
    shown = _read(["bridge", "-j", "-compressvlans", "vlan", "show"])
    return {str(entry.get("ifname")): from_bridge([entry]) for entry in shown} if isinstance(shown, list) else {}


def _run_batch(commands: list[list[str]]) -> None:
    try:
        run([commands[0][0], "-batch", "-"], "".join(f"{shlex.join(command[1:])}\n" for command in commands))
    except HookError as error:
        _, ran, said = str(error).partition(" -batch -: ")
        if not ran:
            raise
        said, _, line = said.partition(" Command failed -:")
        typed = f"{shlex.join(commands[0])} and those after it"
        if line.isdigit():
            typed = shlex.join(commands[int(line) - 1])
        raise HookError(f"{typed}: {said}") from error


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
