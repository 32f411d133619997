# SPDX-License-Identifier: MIT
"""libvirt-vlan's main program: what its verbs do. The hooks' own code decides which VLANs are wanted."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial

from .. import OFF, VERSION, HookError, hook, log, setter, sysfs, tickets, uplinks
from ..tickets import Ticket
from ..vlans import checked_vid, to_text
from . import findings, graph, installation, monitoring, next_start, repair, textfile, vlan_table, watch
from .inventory import (
    bridges,
    note_uplinks,
    planned_nics,
    planned_nics_of_all,
    refused_starts,
    running_nics,
    with_blocked_vlans,
    with_lasting,
)
from .model import NicState, subject
from .table import to_json, to_table

NO_PROBLEM, PROBLEM, UNKNOWN = 0, 1, 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; man/libvirt-vlan.8 says the same."""
    top = argparse.ArgumentParser(
        prog="libvirt-vlan",
        description="Show, check and repair the VLANs of running VMs on VLAN-aware bridges.",
        epilog="Exit status: 0 no problem, 1 there is a problem, 2 the check itself failed.",
    )
    top.add_argument("--version", action="version", version=f"libvirt-vlan {VERSION}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="print a line for each NIC of every running VM")
    show.add_argument("--json", action="store_true", help="print JSON, for programs")
    check = verbs.add_parser("check", help="print only problems, and exit 1 if there is one")
    form = check.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    form.add_argument("--prometheus", action="store_true", help="print metrics for node_exporter's textfile collector")
    check.add_argument("--output", metavar="FILE", help="write to this file, in one step, instead of printing")
    sync = verbs.add_parser("sync", help="set the wanted VLANs of running VMs, and print the commands that it runs")
    sync.add_argument("--dry-run", action="store_true", help="print the commands without running them")
    sync.add_argument("vm", nargs="*", metavar="VM", help="name or uuid of a running VM (default: all)")
    apply = verbs.add_parser(
        "apply", help="give running VMs now what their next start would give, and print the commands that it runs"
    )
    apply.add_argument("--dry-run", action="store_true", help="print the commands without running them")
    apply.add_argument("vm", nargs="*", metavar="VM", help="name or uuid of a running VM (default: all that differ)")
    plan = verbs.add_parser(
        "plan", help="print what each NIC of a VM would get at its next start, or why it would be refused"
    )
    plan.add_argument("vm", metavar="VM", help="name or uuid of a defined VM")
    vlans = verbs.add_parser("vlans", help="print who is in which VLAN, which uplinks carry it, and what is missing")
    vlans.add_argument("--json", action="store_true", help="print JSON, for programs")
    vlans.add_argument("vid", nargs="*", metavar="VID", help="a VLAN's number (default: all that are in use)")
    verbs.add_parser("map", help="print the VLANs of this host as a graph, for graphviz: libvirt-vlan map | dot -Tsvg")
    watching = verbs.add_parser(
        "watch", help="set the wanted VLANs again whenever somebody changes them, until you stop it"
    )
    watching.add_argument("--dry-run", action="store_true", help="print what is wrong and what it would run")
    verbs.add_parser("off", help="switch the hooks off, until libvirt-vlan on or the next boot")
    verbs.add_parser("on", help="switch the hooks on again, and print what libvirt-vlan sync would run")
    return top


def main(arguments: list[str]) -> int:
    """Given the command line's arguments, do what they say and return the exit status."""
    options = parser().parse_args(arguments)
    hook.set_up("libvirt-vlan")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the locale has no letters for
    try:
        if os.geteuid() != 0:
            raise HookError("only root can read the hooks' tickets: run libvirt-vlan as root")
        status = _VERBS[options.verb](options)
        sys.stdout.flush()
    except HookError as error:
        _complain(str(error))
        return UNKNOWN
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        if not isinstance(error, BrokenPipeError):  # the reader closed the pipe, e.g. head
            _complain(f"{error.filename or 'standard output'}: {error.strerror}")
        return UNKNOWN
    return status


def _off(_: argparse.Namespace) -> int:
    """Switch the hooks off, then name the VMs that this concerns: the file comes first, whatever libvirt answers."""
    os.close(os.open(OFF, os.O_WRONLY | os.O_CREAT, 0o600))
    print("the hooks are switched off until libvirt-vlan on, or until the next boot")
    for nic in planned_nics_of_all():
        if nic.wanted is not None or nic.refused:
            print(log.one_line(f"{subject(nic)}: will start in the default VLAN of its bridge"))
    return NO_PROBLEM


def _on(_: argparse.Namespace) -> int:
    try:
        os.unlink(OFF)
        print("the hooks are switched on")
    except FileNotFoundError:
        print("the hooks were not switched off")
    print("libvirt-vlan sync would run:")
    return _sync(argparse.Namespace(vm=[], dry_run=True))


def _show(options: argparse.Namespace) -> int:
    nics = _running()
    print(to_json(nics) if options.json else to_table(nics, _in_colour()))
    return NO_PROBLEM


def _check(options: argparse.Namespace) -> int:
    nics = with_blocked_vlans(_running())
    used = with_lasting(bridges(nics))
    note_uplinks(used)
    refused = [findings.refused_start(refusal) for refusal in refused_starts(nics)]
    wrong = [*findings.problems(nics, used), *refused, *installation.problems()]
    found = [*wrong, *findings.notes(nics, used), *installation.notes()]
    if options.json:
        text = f"{monitoring.to_json(found)}\n"
    elif options.prometheus:
        text = monitoring.to_prometheus(
            monitoring.Look(
                nics=nics,
                findings=found,
                hooks=installation.installed(),
                off=os.path.exists(OFF),
                watched=installation.watch_runs(),
                seconds=time.time(),
            )
        )
    else:
        text = "".join(f"{log.one_line(finding.line)}\n" for finding in found)
    if options.output:
        textfile.write_whole(options.output, text)
    else:
        if options.prometheus and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # Prometheus takes nothing else, whatever the locale is
        print(text, end="")
    return PROBLEM if wrong else NO_PROBLEM


def _sync(options: argparse.Namespace) -> int:
    return _for_each(options, lambda nic: _sync_nic(nic, options.dry_run))


def _apply(options: argparse.Namespace) -> int:
    return _for_each(options, lambda nic: _move(nic, bool(options.vm), options.dry_run))


def _for_each(options: argparse.Namespace, act: Callable[[NicState], None]) -> int:
    """Call act() for each NIC of the running VMs that the command line names, by default of all; say what fails."""
    nics = _running()
    unknown = [vm for vm in options.vm if not any(vm in _names(nic) for nic in nics)]
    if unknown:
        raise HookError(f"no running VM named {unknown[0]} has a NIC: libvirt-vlan show lists those that do")
    status = NO_PROBLEM
    for nic in nics:
        if options.vm and not _names(nic).intersection(options.vm):
            continue
        try:
            act(nic)
        except HookError as error:
            _complain(f"{subject(nic)}: {error}")
            status = PROBLEM
    return status


def _move(nic: NicState, is_named: bool, dry_run: bool) -> None:
    """Give a NIC now what its next start would give, print what is typed for that, or print it only.

    Raises HookError if that fails.
    """
    why_not = next_start.why_not_applied(nic, is_named)
    if why_not and why_not.is_problem:
        raise HookError(why_not.sentence)
    if why_not:
        _complain(f"{subject(nic)}: {why_not.sentence}")
    elif next_start.verdict(nic) == next_start.DIFFERS:
        interface = (nic.tap, sysfs.ifindex(nic.tap))
        if not interface[1]:
            raise HookError(f"{nic.tap} is gone: try again if the VM still runs")
        _give(nic, next_start.ticket(nic, sysfs.default_pvid(nic.port.bridge), interface), dry_run)
    elif not nic.refused:  # an apply that was killed has left the rest to do
        _sync_nic(nic, dry_run)


def _sync_nic(nic: NicState, dry_run: bool) -> None:
    """Type what leads to the NIC's wanted VLANs and print that, or print it only. Raises HookError if that fails."""
    if nic.refused:
        raise HookError(nic.reason)
    is_right = nic.current == nic.wanted and not nic.not_whole and not nic.not_carried
    if nic.wanted is None or (is_right and not nic.has_new_uplinks):
        return
    ticket = nic.ticket or nic.decided
    assert ticket is not None
    _give(nic, ticket, dry_run)


def _give(nic: NicState, ticket: Ticket, dry_run: bool) -> None:
    """Give a NIC this ticket, type what the ticket says, and print that, or print it only."""
    planned = repair.planned(ticket, nic.tap, nic.current)
    if dry_run:
        for command in planned:
            print(shlex.join(command))
        return

    def attempt() -> None:
        if ticket is not nic.ticket or nic.has_new_uplinks:
            tickets.write(ticket)
        repair.make_right(ticket, nic.tap, repair.print_and_type)

    if nic.ticket is None:  # the VM started before the hooks were installed: from now on it is like any other
        tickets.write(ticket)
    setter.when_unlocked(ticket, attempt)


def _watch(options: argparse.Namespace) -> int:
    watch.watch(options.dry_run)
    return NO_PROBLEM


def _plan(options: argparse.Namespace) -> int:
    nics = planned_nics(options.vm)
    now = {nic.port.mac: nic for nic in _running() if options.vm in _names(nic) and not nic.is_doubled}
    for nic in nics:
        if nic.wanted is not None:
            says = f"wanted on {nic.port.bridge}: {to_text(nic.wanted)}"
            says += f" ({added})" if (added := uplinks.shown(nic.decided) if nic.decided else "") else ""
        else:
            says = f"{'refused' if nic.refused else 'left alone'}: {nic.reason}"
        print(log.one_line(f"{subject(nic)}: {says}{_now(now.get(nic.port.mac))}"))
    return PROBLEM if any(nic.refused for nic in nics) else NO_PROBLEM


def _now(nic: NicState | None) -> str:
    """Given a running NIC, None if its VM does not run, return the words about what the NIC has until its next start.

    "": the next start changes nothing, and the tap has the wanted VLANs.
    """
    if nic is None:
        return ""
    has_granted = nic.wanted is None or nic.wanted == nic.current
    if has_granted and next_start.verdict(nic) not in (next_start.DIFFERS, next_start.REFUSED):
        return ""
    granted = "left alone" if nic.wanted is None else to_text(nic.wanted)
    has = "is not on its bridge" if nic.current is None else f"has {to_text(nic.current)}"
    return f" (until then {granted}{'' if has_granted else f', but {nic.tap} {has}'})"


def _vlans(options: argparse.Namespace) -> int:
    asked = [checked_vid(text) for text in options.vid]
    nics = _running()
    text = vlan_table.to_json if options.json else partial(vlan_table.to_table, colour=_in_colour())
    print(text(nics, bridges(nics), asked))
    return NO_PROBLEM


def _map(_: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # what graphviz reads, whatever the locale
    nics = _running()
    print(graph.to_dot(nics, bridges(nics), os.uname().nodename))
    return NO_PROBLEM


_VERBS = {
    "show": _show, "check": _check, "sync": _sync, "apply": _apply,
    "plan": _plan, "vlans": _vlans, "map": _map, "watch": _watch,
    "off": _off, "on": _on,
}  # fmt: skip


def _in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _running() -> list[NicState]:
    nics, gone = running_nics()
    for line in gone:
        _complain(line)
    return nics


def _names(nic: NicState) -> set[str]:
    return {nic.port.vm, nic.port.vm_uuid}


def _complain(message: str) -> None:
    print(f"libvirt-vlan: {log.one_line(message)}", file=sys.stderr)
