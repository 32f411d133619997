# SPDX-License-Identifier: MIT
"""Keeping the taps of running VMs right at every moment, not only when libvirt calls the hooks.

Nothing is decided here: the tickets say which VLANs are wanted, repair.make_right() is what `sync` does, too, and
`bridge monitor` says when to look. Neither virsh nor libvirtd is needed.
"""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import signal
import time

from .. import OFF, HookError, bridge, facts, lifecycle, log, setter, sysfs, tickets, uplinks, waiting
from ..tickets import Ticket
from ..vlans import Vlans, from_bridge, instead
from ..wanted import bridge_fault
from . import bridge_monitor, repair
from .patience import FAULT_SECONDS, Memory, next_look, note_fault, note_repair, note_right
from .places import Nic, Places

ALL_SECONDS = 60  # netlink can lose events
OTHERS_SECONDS = 0.05  # after events of others only: many of them are then read at once
LOCKED_SECONDS = 0.25  # a hook process that types holds the lock for some milliseconds


def watch(dry_run: bool) -> None:
    """Make taps right until SIGTERM, SIGINT or SIGHUP. In a dry run, only say what is wrong and what to type.

    Raises HookError if another watch runs on this host.
    """
    lock = None if dry_run else _take_lock()
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # `ended` can be read then, and is once nothing is half done
    try:
        _Watch(dry_run).run(ended)
    finally:
        if lock is not None:
            os.close(lock)


class _Watch:
    """The loop, and when to look at which NIC. All times are time.monotonic()'s, in seconds."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.places = Places()
        self.memories: dict[Nic, Memory] = {}
        self.due: dict[Nic, float] = {}
        self.all_due = 0.0
        self.off = False
        self.trouble = ""
        self.unheard = False  # nobody reads what is printed

    def run(self, ended: int) -> None:
        """Look at what is due, until there is something to read from this descriptor."""
        now = time.monotonic()
        events = bridge_monitor.Events(now)
        self.all_due = now + 1  # `bridge monitor` may miss what happens before it listens
        self.look_at_all(now)
        while not self.unheard:
            others_due = [due for due in (self.places.search_due, self.places.uplinks_due, events.restart_due) if due]
            wake_up = min([self.all_due, *others_due, *self.due.values()])
            files = [ended] if events.restart_due else [ended, events.descriptor]
            readable = select.select(files, [], [], max(0.0, wake_up - time.monotonic()))[0]
            now = time.monotonic()
            if ended in readable:
                return
            can_miss = events.restart(now)
            if events.descriptor in readable:
                names, can_miss, sentence = events.read(now)
                if names and not self.note(names, now):
                    time.sleep(OTHERS_SECONDS)
                if sentence:
                    self.say(sentence)
            if can_miss:
                self.all_due = min(self.all_due, now + 1)
            self.look_at_what_is_due(now)

    def note(self, names: dict[int, str], now: float) -> bool:
        """Given the names by index of interfaces that the kernel has reported, have their NICs looked at.

        Return whether there are any.
        """
        concerned = self.places.concerned(names, now)
        new_bridges = {name for name, nic_key in concerned if not nic_key}
        for nic in concerned:
            if nic[0] in new_bridges:
                self.memory(nic).paused_until = 0.0
            self.hurry(nic, now)
        return bool(concerned)

    def hurry(self, nic: Nic, now: float) -> None:
        """Have a NIC looked at now, or once its pause is over."""
        self.due[nic] = max(now, self.memory(nic).paused_until)

    def memory(self, nic: Nic) -> Memory:
        return self.memories.setdefault(nic, Memory())

    def look_at_what_is_due(self, now: float) -> None:
        """Look at one NIC at most, so that the watch can be ended before the next."""
        if os.path.exists(OFF) != self.off:
            self.off = not self.off
            self.all_due = now
            self.say(f"the hooks are switched {'off: nothing is repaired until libvirt-vlan on' if self.off else 'on'}")
        if now >= self.all_due:
            self.all_due = now + ALL_SECONDS
            self.look_at_all(now)
        elif self.places.search_due and now >= self.places.search_due:
            for nic in self.places.search(now):
                self.hurry(nic, now)
        elif self.places.uplinks_due and now >= self.places.uplinks_due:
            self.look_at_uplinks(now)
        elif self.due:
            nic = min(self.due, key=lambda nic: self.due[nic])
            if now >= self.due[nic]:
                del self.due[nic]
                self.look(nic, now)

    def look_at_all(self, now: float) -> None:
        """Read all tickets and the VLANs of all taps, and have those NICs looked at that are not right."""
        known = tickets.by_nic()
        self.places.start_anew({nic[0] for nic in known})
        self.memories = {nic: memory for nic, memory in self.memories.items() if nic in known or not nic[1]}
        try:
            current = bridge.vlans_of_all()
        except HookError as error:
            if str(error) != self.trouble:
                self.say(str(error))
            self.trouble = str(error)
            return
        self.trouble = ""
        for nic, its_tickets in known.items():
            ticket = lifecycle.applies(its_tickets, time.monotonic())
            if ticket is None:
                continue
            memory = self.memory(nic)
            try:
                tap = _tap_of(ticket)
            except HookError:  # look() says why
                self.hurry(nic, now)
                continue
            if tap:
                self.places.add(nic, tap, ticket)
            if not tap or ticket.vlans is None:
                continue
            is_right = sysfs.master(tap) == nic[0] and current.get(tap, {}) == ticket.vlans
            is_right = is_right and self.is_whole(ticket, tap) and not uplinks.commands(ticket, current)
            if not is_right or memory.fault or tickets.bridge_was_replaced(ticket) or not self.places.filters(nic[0]):
                self.hurry(nic, now)
            elif not ticket.bridge_index and not self.dry_run:
                tickets.mark_bridge(ticket)

    def look_at_uplinks(self, now: float) -> None:
        """Have those NICs looked at whose VLANs an uplink lacks that is to carry them."""
        try:
            lacking = self.places.lacking(bridge.vlans_of_all(), now)
        except HookError:  # the next look at all says why
            self.places.uplinks_due = 0.0
            return
        for nic in lacking:
            self.hurry(nic, now)

    def is_whole(self, ticket: Ticket, tap: str) -> bool:
        """Return whether nothing is wrong with a tap besides its VLANs; where that is unknown, look() says why."""
        try:
            return not repair.what_is_not_whole(ticket, tap)
        except HookError:
            return False

    def look(self, nic: Nic, now: float) -> None:
        """Look at a NIC's tap or at a bridge, and make right what is to be."""
        name, nic_key = nic
        if self.off:
            return
        if not nic_key:
            self.look_at_bridge(name, now)
            return
        subject = ""
        try:
            with setter.lock(nic_key):
                known = tickets.by_nic(nic_key).get(nic, [])
                ticket = lifecycle.applies(known if self.dry_run else _without_forgotten(known), now)
                tap = _tap_of(ticket) if ticket else ""
                if ticket is None or not tap:
                    self.places.remove(nic)
                    return
                self.places.add(nic, tap, ticket)
                if ticket.vlans is None or self.has_fault(name, now):
                    return
                subject = tickets.subject(ticket, tap)
                if sysfs.master(tap):
                    self.memory(nic).off_since = 0.0
                elif not self.stays_off(nic, ticket, now):
                    return
                if self.dry_run:
                    self.say_what_to_type(nic, ticket, tap, now)
                else:
                    self.repair_and_say(nic, ticket, tap)
                    self.memory(nic).off_since = 0.0
                    self.note_fault(nic, "", "", now)
        except BlockingIOError:
            self.due[nic] = now + LOCKED_SECONDS
        except (HookError, OSError) as error:
            self.note_fault(nic, subject, str(error), now)

    def stays_off(self, nic: Nic, ticket: Ticket, now: float) -> bool:
        """Given a NIC whose tap is on no bridge and its ticket, return whether the tap stays off; else look again."""
        memory = self.memory(nic)
        memory.off_since = memory.off_since or now
        if now - memory.off_since >= FAULT_SECONDS or tickets.bridge_was_replaced(ticket):
            return True
        self.due[nic] = memory.off_since + FAULT_SECONDS
        return False

    def look_at_bridge(self, name: str, now: float) -> None:
        """Look at a bridge that keeps taps out of their VLANs; once it does not any more, at its taps."""
        its_nics = [nic for nic in self.memories if nic[0] == name and nic[1]]
        if not its_nics:
            self.memories.pop((name, ""), None)
        elif not self.has_fault(name, now):
            for nic in its_nics:
                self.hurry(nic, now)

    def has_fault(self, name: str, now: float) -> bool:
        """Return whether a bridge keeps taps out of their VLANs; say so once, and look at the bridge again."""
        fault = bridge_fault(sysfs.bridge(name))
        self.note_fault((name, ""), "", fault, now)
        if fault:
            self.due[name, ""] = now + FAULT_SECONDS  # a bridge that is down changes without an event
        return bool(fault)

    def repair_and_say(self, nic: Nic, ticket: Ticket, tap: str) -> None:
        """Make a tap right, and say why before the first command that changes something."""
        memory = self.memory(nic)
        current: Vlans | None = None
        began = is_said = False

        def say_and_type(commands: list[list[str]], subject: str) -> list[object]:
            nonlocal current, began, is_said
            if not began and not all(bridge.is_read(command) for command in commands):
                began = True
                is_said, more = note_repair(memory, time.monotonic())
                if is_said:
                    self.say(f"{_reason(ticket, tap, current)}{more}")
                self.due[nic] = memory.paused_until
            answers = repair.print_and_type(commands, subject) if is_said else bridge.type_unlogged(commands)
            if answers:
                current = from_bridge(answers[-1])
            return answers

        repair.make_right(ticket, tap, say_and_type)
        if not began:
            note_right(memory, time.monotonic())

    def say_what_to_type(self, nic: Nic, ticket: Ticket, tap: str, now: float) -> None:
        """Say what is wrong with a tap, once, and print what would be typed."""
        current = None
        if sysfs.master(tap) == ticket.bridge:
            current = from_bridge(bridge.type_commands([bridge.vlan_show(tap)], "")[0])
        assert ticket.vlans is not None
        typed = [shlex.join(command) for command in repair.planned(ticket, tap, current)]
        self.note_fault(nic, "", "\n".join([_reason(ticket, tap, current), *typed]) if typed else "", now)

    def note_fault(self, nic: Nic, subject: str, sentence: str, now: float) -> None:
        """Say once, if it lasts, why nothing can be done for a NIC or a bridge; "": there is no fault."""
        memory = self.memory(nic)
        if note_fault(memory, sentence, now):
            self.say(f"{subject}: {sentence}" if subject else sentence)
        again = next_look(memory, now)
        if again:
            self.due[nic] = again

    def say(self, text: str) -> None:
        """Print and log these lines; in a dry run only print them."""
        for line in text.split("\n"):
            if not self.dry_run:
                log.warning(line)
            try:
                print(log.one_line(line), flush=True)
            except OSError:  # the reader closed the pipe; finish what is half done before the watch ends
                self.unheard = True


def _take_lock() -> int:
    """Return a descriptor that keeps other watches away; the kernel closes it when this process dies."""
    try:
        os.makedirs(tickets.DIRECTORY, mode=0o700, exist_ok=True)
        descriptor = os.open(tickets.DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise HookError(
            "another libvirt-vlan watch runs on this host: leave the work to that watch, or stop it"
        ) from error
    except OSError as error:
        raise HookError(f"cannot lock {tickets.DIRECTORY}: {error.strerror}: {tickets.LOOK}") from error
    return descriptor


def _tap_of(ticket: Ticket) -> str:
    """Given a ticket that applies, return the name of the ticket's tap, "" if the tap is gone.

    The tap need not be on its bridge. The ticket can be an earlier tap's, because libvirt calls no hook when a VM ends
    without a port. Raises HookError if two interfaces could be the tap.
    """
    if ticket.right:
        return sysfs.still_named(*ticket.right)
    if ticket.released or not lifecycle.is_granted(facts.known(ticket), time.monotonic()):
        return ""
    return ticket.kind.on_bridge(ticket) or ticket.kind.anywhere(ticket)


def _without_forgotten(known: list[Ticket]) -> list[Ticket]:
    """Given the tickets of a tap, whose lock is held, return them as a hook's own process does, once it has watched."""
    watched = all(time.monotonic() - ticket.created > waiting.WATCH_SECONDS for ticket in known)
    return waiting.remove_forgotten(known) if watched else known


def _reason(ticket: Ticket, tap: str, current: Vlans | None) -> str:
    """Given a ticket, its tap and the tap's current VLANs (None: it is on no bridge), return what is wrong."""
    assert ticket.vlans is not None
    if current is None:
        replaced = tickets.bridge_was_replaced(ticket)
        why = (
            f"is not on {ticket.bridge}{', which was deleted and created again' if replaced else ': it was taken off'}"
        )
    elif current == ticket.vlans:
        why = repair.what_is_not_whole(ticket, tap) or uplinks.lacking(ticket)
    else:
        why = f"has {instead(current, ticket.vlans)} on {ticket.bridge}"
    return f"{tickets.subject(ticket, tap)}: {why}"
