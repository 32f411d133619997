# SPDX-License-Identifier: MIT
"""The detached process is killed at 40 moments, nearly all of them while it types; LAB_ROUNDS=N kills at 5 N.

test_join.py kills the whole hook's; here they are children that have imported everything already, to be many.
"""

import os
import random
import subprocess
import time
from operator import attrgetter

import pytest
from captured import domain, networkport, state_files
from conftest import TICKETS, tickets
from iproute import ACCESS, BRIDGE, DEFAULT, IP, LAB, SERVER, ZEROTIER, eventually, vlans, vlans_of
from processes import command_lines
from ready import Ready

ROUNDS = int(os.environ.get("LAB_ROUNDS", "8"))  # in each of them one process for each kind of change is killed
ROUNDS_PER_MEND = 4
MIXED = {20: ACCESS, 46: ()}  # one VID in common with LAB, with other flags


class Nic:
    """A NIC whose port has some VLANs, and is to have others."""

    def __init__(self, number, old, wanted):
        self.old, self.wanted = old, wanted
        self.tap, self.mac = f"vnet{number}", f"52:54:00:00:00:0{number}"
        self.uuid = f"00000000-0000-0000-0000-00000000000{number}"
        # of a VM of its own: one process serves all NICs of a VM
        vm_uuid = f"14c6f67e-7f4a-4044-b0ed-33600000000{number}"
        self.xml = networkport(self.uuid, "lab" if wanted == LAB else "zerotier", vm_uuid=vm_uuid, mac=self.mac)
        self.tap_mac = self.mac.replace("52", "fe", 1)

    def checked(self, have):
        """Given the tap's current VLANs, return them; fail unless all are old VLANs, or all are wanted VLANs."""
        assert any(have.keys() <= state.keys() for state in (self.old, self.wanted)), (self.tap, have)
        assert all(flags in (self.old.get(vid), self.wanted.get(vid)) for vid, flags in have.items()), (self.tap, have)
        return have


NICS = [
    Nic(0, DEFAULT, ZEROTIER),
    Nic(1, SERVER, ZEROTIER),
    Nic(2, LAB, ZEROTIER),
    Nic(3, DEFAULT, LAB),
    Nic(4, MIXED, LAB),
]
TAPS = [nic.tap for nic in NICS]
OLD, WANTED = attrgetter("old"), attrgetter("wanted")
DOMAIN = domain([(nic.mac, nic.uuid, nic.tap) for nic in NICS])


@pytest.fixture
def ready(bridge):
    """Give the hooks, without what they wait for in live changes."""
    ready = Ready(lifecycle__LIVE_GRACE_SECONDS=0, waiting__WATCH_SECONDS=0)
    yield ready
    ready.close()


@pytest.fixture
def chance():
    """Give a random generator: LAB_SEED=N repeats its numbers, though not what the kernel makes of them."""
    seed = int(os.environ.get("LAB_SEED", time.time_ns() % 1_000_000))
    print(f"LAB_SEED={seed}")
    return random.Random(seed)


def new_taps(announced):
    """Put new taps of the same names on the bridge, with their old VLANs; no ticket knows the taps before them."""
    for ticket, content in announced.items():
        ticket.write_bytes(content)
    links, entries = [], []
    for nic in NICS:
        links += [f"link del {nic.tap}", f"tuntap add {nic.tap} mode tap"]
        links.append(f"link set {nic.tap} address {nic.tap_mac} master br0 up")
        if nic.old != DEFAULT:
            entries.append(f"vlan del dev {nic.tap} vid 1 master")
            flags = {ACCESS: "pvid untagged", (): ""}
            entries += [f"vlan add dev {nic.tap} vid {vid} {flags[has]} master" for vid, has in nic.old.items()]
    for command, lines in ((IP, links), (BRIDGE, entries)):
        subprocess.run([command, "-b", "-"], input="\n".join(lines).encode(), check=True)


def commands_run(ready):
    """Return whether a `bridge` runs, or is about to: one that a killed process leaves behind goes on."""
    return ready.detached() or any(words[0].endswith(b"/bridge") for _, words in command_lines())


def test_killed_at_any_moment_it_leaves_no_foreign_vlan_beside_its_own(bridge, ready, chance):
    """The join or a restart of libvirtd then mends it."""
    for nic in NICS:
        assert ready.network("port-created", nic.xml).returncode == 0
    ready.kill()
    announced = {ticket: ticket.read_bytes() for ticket in TICKETS.glob("f?:*")}
    for nic in NICS:
        bridge.add_tap(nic.tap, nic.tap_mac)
    state_files([nic.uuid for nic in NICS], {"web": [nic.tap for nic in NICS]})
    new_taps(announced)
    assert vlans_of(TAPS) == [nic.old for nic in NICS]
    began = time.monotonic()
    for nic in NICS:
        ready.follow(nic.tap_mac, live=nic.old != DEFAULT)
    eventually(lambda: not ready.detached())
    takes = time.monotonic() - began
    assert vlans_of(TAPS) == [nic.wanted for nic in NICS]

    found = []
    for number in range(ROUNDS):
        new_taps(announced)
        began = time.monotonic()
        processes = [(nic, ready.follow(nic.tap_mac, live=nic.old != DEFAULT)) for nic in NICS]
        moments = sorted(began + takes * chance.uniform(0.1, 0.9) for _ in NICS)
        for moment, (nic, process) in zip(moments, chance.sample(processes, len(processes))):
            time.sleep(max(0, moment - time.monotonic()))
            ready.kill(process)
            nic.checked(vlans(nic.tap))
        eventually(lambda: not commands_run(ready))
        found += [(nic, nic.checked(have)) for nic, have in zip(NICS, vlans_of(TAPS))]
        if number % (2 * ROUNDS_PER_MEND) == 0:
            done = ready.qemu("web", DOMAIN)
            assert (done.returncode, done.stderr) == (0, "")
        elif number % ROUNDS_PER_MEND == 0:
            for nic in NICS:
                assert ready.network("port-created", nic.xml).returncode == 0
            eventually(lambda: not ready.detached())
        if number % ROUNDS_PER_MEND == 0:
            assert vlans_of(TAPS) == [nic.wanted for nic in NICS]

    old, wanted = ([have for nic, have in found if have == state(nic)] for state in (OLD, WANTED))
    print(f"of {len(found)} killed {len(old)} before and {len(wanted)} after they typed, the others half way")
    assert min(len(old), len(wanted)) > len(found) / 10
    for nic in NICS:
        bridge.remove_tap(nic.tap)
        assert ready.network("port-deleted", nic.xml).returncode == 0
    assert (tickets(), ready.detached()) == ([], [])
