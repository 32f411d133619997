# SPDX-License-Identifier: MIT
"""The module that runs iproute2's commands, nearly always `bridge`, as an operator would type them.

tool/bridge_monitor.py runs `bridge monitor`, which changes nothing.

Not to be imported while libvirtd waits: importing `sh` takes longer than a whole hook does.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
from functools import cache
from typing import TextIO

import sh

from . import LACKING, HookError, log
from .vlans import Vlans, from_bridge

TIMEOUT_SECONDS = 30  # a `bridge` takes milliseconds; one that takes this long is stuck, and is killed
FIND_OUT = ": run it in a shell to find out why"
BATCH = {"bridge": ["bridge", "-j", "-compressvlans", "-batch", "-"], "ip": ["ip", "-batch", "-"]}


def link_show(tap: str) -> list[str]:
    """Given a tap, return the command that shows which bridge the tap is on."""
    return ["bridge", "-j", "link", "show", "dev", tap]


def vlan_show(tap: str) -> list[str]:
    """Given a tap, return the command that shows the tap's VLANs."""
    return ["bridge", "-j", "-compressvlans", "vlan", "show", "dev", tap]


def fdb_show(tap: str) -> list[str]:
    """Given a tap, return the command that shows the entries of the forwarding database that lead to the tap."""
    return ["bridge", "-j", "fdb", "show", "dev", tap]


def type_commands(commands: list[list[str]], subject: str) -> list[object]:
    """Given commands of one program and what their log lines begin with, run them in order, and log each beforehand.

    Return what each that shows something has answered, parsed. Several commands are one `bridge -batch`, which stops at
    the first that fails, and looks each name up once: if a tap goes half way, and its name comes back as another VM's,
    the rest does not reach that VM (iproute2, lib/ll_map.c).
    Raises HookError, with the command and what it said, if one fails, takes too long or is not installed.
    """
    for command in commands:
        if is_read(command):
            _log_read_once(shlex.join(command))
    log.info(*(f"{subject}: + {shlex.join(command)}" for command in commands if not is_read(command)))
    return type_unlogged(commands)


def type_unlogged(commands: list[list[str]]) -> list[object]:
    """Do as type_commands(), without a line in the log."""
    said = _run(commands)
    reads = [shlex.join(command) for command in commands if is_read(command)]
    answers = _parsed(said)
    if len(answers) != len(reads):
        raise HookError(
            f"{', '.join(reads)}: the answer is not JSON: {said[:200]!r}: run it in a shell, and update iproute2 if it "
            "prints the same there"
        )
    return answers


def is_read(command: list[str]) -> bool:
    """Given a command, return whether it only shows something."""
    return "show" in command


def vlans_of_all() -> dict[str, Vlans]:
    """Return the VLANs of all bridge ports and bridges by name; those without any are missing.

    Raises HookError as type_commands() does.
    """
    (shown,) = type_commands([["bridge", "-j", "-compressvlans", "vlan", "show"]], "")
    return {str(entry.get("ifname")): from_bridge([entry]) for entry in shown} if isinstance(shown, list) else {}


def blocked_vlans() -> dict[str, dict[int, str]]:
    """Return by bridge port the VLANs that do not forward, with their states; Linux before 5.8 does not say it.

    Raises HookError as type_commands() does.
    """
    (shown,) = type_commands([["bridge", "-d", "-j", "-compressvlans", "vlan", "show"]], "")
    found: dict[str, dict[int, str]] = {}
    for entry in shown if isinstance(shown, list) else []:
        for vlan in entry.get("vlans", ()):
            if vlan.get("state", "forwarding") != "forwarding":
                vids = range(vlan["vlan"], vlan.get("vlanEnd", vlan["vlan"]) + 1)
                found.setdefault(str(entry.get("ifname")), {}).update(dict.fromkeys(vids, vlan["state"]))
    return found


def links() -> object:
    """Return the parsed answer of `ip -d -j link show`. Raises HookError as type_commands() does."""
    return type_commands([["ip", "-d", "-j", "link", "show"]], "")[0]


def _run(commands: list[list[str]]) -> str:
    """Given commands of one program, run them without a shell, several as one batch, and return their stdout.

    Raises HookError, which names the command that failed.
    """
    command, stdin, called = commands[0], "", shlex.join(commands[0])
    if len(commands) > 1:
        command, called = BATCH[command[0]], f"{called} and those after it"
        stdin = "".join(f"{shlex.join(_without_options(line))}\n" for line in commands)
    try:
        # Files instead of pipes: sh would start a thread for each pipe. And if this process is killed, `bridge` must
        # not read half a line ("vid 4" of "vid 46").
        with _file() as fed, _file() as said, _file() as complained:
            fed.write(stdin)
            fed.seek(0)
            # Python itself leaves no other descriptor open to a command
            program = sh.Command(command[0]).bake(_in=fed, _out=said, _err=complained, _close_fds=False)
            environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
            # Without sh's _timeout, which looks ten times a second if the time is up: each command would wait for that.
            running = program(*command[1:], _bg=True, _bg_exc=False, _env=environment)
            too_late = threading.Event()

            def kill() -> None:
                too_late.set()
                running.kill()

            alarm = threading.Timer(TIMEOUT_SECONDS, kill)
            try:
                alarm.start()
                running.wait()
            except sh.ErrorReturnCode as error:
                if too_late.is_set():
                    raise HookError(
                        f"{called}: killed after {TIMEOUT_SECONDS} s: check dmesg, and try again"
                    ) from error
                words = " ".join(_read_back(complained).split() or _read_back(said).split())
                words, _, line = words.partition(" Command failed -:")  # a batch says which line has failed
                failed = shlex.join(commands[int(line) - 1]) if line.isdigit() else called
                raise HookError(f"{failed}: exit {error.exit_code}: {words}{FIND_OUT}") from error
            except RuntimeError:  # there can be no thread now: nobody would end a command that hangs
                running.kill()
                raise
            finally:
                alarm.cancel()
            return _read_back(said)
    except sh.CommandNotFound as error:
        raise HookError(f"{command[0]} is not installed: install iproute2") from error
    except sh.ForkException as error:  # its text has a whole traceback
        why = str(error).strip().splitlines()[-1]
        raise HookError(f"{called}: cannot be run: {why}: {LACKING}") from error
    except (OSError, RuntimeError, ValueError) as error:  # sh could start no thread, or its child was killed
        raise HookError(f"{called}: cannot be run: {error}: {LACKING}") from error


def _without_options(command: list[str]) -> list[str]:
    """Given a command, return its words without the program and its options: those are the whole batch's."""
    first = next(place for place, word in enumerate(command) if place and not word.startswith("-"))
    return command[first:]


def _parsed(said: str) -> list[object]:
    """Given the stdout of a batch, return the JSON values in it, one after another, as far as they can be read."""
    values: list[object] = []
    decoder, rest = json.JSONDecoder(), said.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:
            return []
        values.append(value)
        rest = rest[end:].lstrip()
    return values


def _file() -> TextIO:
    return open(os.memfd_create("bridge"), "w+", encoding="utf-8", errors="replace")


def _read_back(file: TextIO) -> str:
    file.seek(0)
    return file.read()


@cache
def _log_read_once(typed: str) -> None:
    """A process that waits reads the same again and again."""
    log.debug(typed)
