# SPDX-License-Identifier: MIT
"""Whatever libvirt does in whatever order: in the end each port has what libvirt last granted, and nothing is left.

Libvirt below is a model of libvirtd that calls the real hooks, in the orders in which libvirt 9.0 and 11.3 do:

* start: port-created for each NIC, then the taps, then the qemu hook, then QEMU; if that fails all ports are taken back
* attach-device: port-created, then the tap; detach-device and destroy: the taps go, then port-deleted for each port
* update-device: port-created for a new port of the same NIC; then port-deleted, for the new one if nothing comes of it,
  for the old one if it is carried out, in which case the tap can be taken off the bridge and put back in between
* domif-setlink: port-deleted for the NIC's only port, the tap can be put back before or after; then the NIC has no port
  and the next update-device grants it a new one
* net-destroy, net-start: libvirt forgets all ports without a word
* a restart of libvirtd: port-created again for all ports that it has noted, their VM dead or alive, then for those of
  running NICs that it has forgotten
* its notes: a port's file comes after port-created has returned, and goes after port-deleted has; a VM's when QEMU runs

libvirt-vlan watch can run, be ended and be killed meanwhile; then it makes right what somebody has wiped.

HYPOTHESIS_EXAMPLES=N and HYPOTHESIS_SEED=N look for longer, and elsewhere.
"""

import fcntl
import os
import signal
import time

import hypothesis
import pytest
from captured import domain, networkport, state_files
from conftest import LOG, TICKETS, Bridge, forget_everything, logged, tickets
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from iproute import ACCESS, DEFAULT, eventually, ip, vlans, vlans_of
from iproute import bridge as bridge_command
from ready import Ready

EXAMPLES, STEPS = int(os.environ.get("HYPOTHESIS_EXAMPLES", "6")), 12
GRACE_SECONDS, WATCH_SECONDS = 2, 3  # instead of 5 and 10: half of the test would be waiting
GRANTED = {
    "zerotier": {46: ACCESS},
    "server": {3: ACCESS},
    "lab": {10: ACCESS, 20: (), **dict.fromkeys(range(30, 41), ())},
}
GROUPS = st.sampled_from([*GRANTED, *GRANTED, ""])  # "": without portgroup, left alone
VMS = ("web", "db", "dns")


class Nic:
    """A NIC of a running VM, as the model has it."""

    def __init__(self, vm, place, group):
        self.vm, self.group = vm, group
        self.mac = f"52:54:00:00:0{VMS.index(vm)}:0{place}"
        self.tap = self.uuid = ""  # uuid "": it has no port any more, and is a plain bridge's
        self.wanted = GRANTED.get(group, DEFAULT)  # None: any of those below, for it is not the hooks' to say
        self.had = [DEFAULT, self.wanted]
        self.announced_until = 0.0

    def granted(self, group):
        """libvirt has granted this portgroup; without one it keeps what it has."""
        self.group = group
        if group:
            self.wanted = GRANTED[group]
            self.had.append(self.wanted)
        elif self.wanted != DEFAULT:
            self.wanted = None


class Libvirt(RuleBasedStateMachine):
    """libvirtd, its VMs and the bridge."""

    ready: Ready

    @initialize()
    def boot(self):
        LOG.unlink(missing_ok=True)
        self.bridge = Bridge()
        self.nics = []
        self.ports = {}  # what libvirt has noted of its network's ports: uuid -> NIC, portgroup
        self.numbers = {"port": 0, "tap": 0}
        self.disturbed = set()  # NICs whose ports can be as they should not be until libvirt speaks of them again
        self.wiped = set()  # NICs whose VLANs somebody has changed: only watch makes them right before libvirt speaks
        self.watch = 0  # its process id
        self.untold = set()  # the addresses of NICs that went without a port-deleted

    # What an operator does

    @precondition(lambda self: len(self.running()) < len(VMS))
    @rule(data=st.data(), groups=st.lists(GROUPS, min_size=1, max_size=2), fails=st.integers(0, 4))
    def start(self, data, groups, fails):
        vm = data.draw(st.sampled_from([vm for vm in VMS if vm not in self.running()]))
        nics = [Nic(vm, place, group) for place, group in enumerate(groups)]
        for nic in nics:
            nic.uuid = self.port_created(nic, nic.group)
        for nic in nics:
            self.make_tap(nic)
        if fails == 4:
            self.end(nics)
            return
        done = self.ready.qemu(vm, domain([(nic.mac, nic.uuid, nic.tap, nic.group) for nic in nics], vm))
        assert (done.returncode, done.stderr) == (0, "")
        for nic in nics:
            assert vlans(nic.tap) == nic.wanted
        self.nics += nics
        self.note()

    @precondition(lambda self: self.running())
    @rule(data=st.data(), group=GROUPS)
    def attach_device(self, data, group):
        vm = data.draw(st.sampled_from(self.running()))
        taken = [nic.mac for nic in self.nics]
        nic = next(nic for nic in (Nic(vm, place, group) for place in range(10)) if nic.mac not in taken)
        nic.uuid = self.port_created(nic, group)
        self.make_tap(nic)
        self.nics.append(nic)
        self.note()

    @precondition(lambda self: self.nics)
    @rule(data=st.data())
    def detach_device(self, data):
        self.end([data.draw(st.sampled_from(self.nics))])

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def destroy(self, data):
        vm = data.draw(st.sampled_from(self.running()))
        self.end([nic for nic in self.nics if nic.vm == vm])

    @precondition(lambda self: any(nic.uuid for nic in self.nics))
    @rule(data=st.data(), group=GROUPS)
    def update_device_to_no_avail(self, data, group):
        nic = data.draw(st.sampled_from([nic for nic in self.nics if nic.uuid]))
        began = time.monotonic()
        self.port_deleted(self.port_created(nic, group))
        if time.monotonic() - began >= GRACE_SECONDS:  # the lab was too slow: the hooks took it for carried out
            nic.had.append(GRANTED.get(group, DEFAULT))

    @precondition(lambda self: self.nics)
    @rule(data=st.data(), group=GROUPS, put_back=st.booleans())
    def update_device(self, data, group, put_back):
        nic = data.draw(st.sampled_from(self.nics))
        old, nic.uuid = nic.uuid, self.port_created(nic, group)
        if put_back:
            self.bridge.reattach(nic.tap)
        nic.announced_until = 0 if old in self.ports else time.monotonic() + GRACE_SECONDS
        self.port_deleted(old)
        nic.granted(group)
        self.note()

    @precondition(lambda self: any(nic.uuid in self.ports for nic in self.nics))
    @rule(data=st.data(), put_back=st.sampled_from(["before", "after", "never"]))
    def domif_setlink(self, data, put_back):
        """Not of a NIC whose port libvirt has forgotten: then nobody tells the hooks that its tap is put back."""
        nic = data.draw(st.sampled_from([nic for nic in self.nics if nic.uuid in self.ports]))
        if put_back == "before":
            self.bridge.reattach(nic.tap)
        self.port_deleted(nic.uuid)
        nic.uuid = ""
        if put_back == "after":
            self.bridge.reattach(nic.tap)
        if time.monotonic() < nic.announced_until:  # as if nothing had come of the update-device before it
            nic.wanted = None
        self.note()

    @precondition(lambda self: self.ports)
    @rule()
    def net_destroy_and_start(self):
        self.ports.clear()
        self.note()

    @precondition(lambda self: self.nics)
    @rule()
    def restart_libvirtd(self):
        for uuid, (nic, group) in [
            *self.ports.items(),
            *((nic.uuid, (nic, nic.group)) for nic in self.nics if nic.uuid and nic.uuid not in self.ports),
        ]:
            self.port_created(nic, group, uuid)
            if nic.uuid == uuid:
                self.disturbed.discard(nic)
                self.wiped.discard(nic)

    # What goes wrong

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def a_vm_dies_while_libvirtd_is_down(self, data):
        vm = data.draw(st.sampled_from(self.running()))
        nics = [nic for nic in self.nics if nic.vm == vm]
        for nic in nics:
            self.bridge.remove_tap(nic.tap)
            self.gone(nic)
        self.restart_libvirtd()
        for nic in nics:
            self.port_deleted(nic.uuid)
        self.note()

    @precondition(lambda self: self.nics)
    @rule(data=st.data())
    def a_detached_process_is_killed(self, data):
        if processes := sorted(set(self.ready.detached()) - {self.watch}):
            self.ready.kill(processes[data.draw(st.integers(0, 9)) % len(processes)])
            self.disturbed.update(self.nics)

    @precondition(lambda self: self.nics)
    @rule(data=st.data())
    def somebody_sets_the_default_vlan(self, data):
        nic = data.draw(st.sampled_from(self.nics))
        self.bridge.reattach(nic.tap)
        self.wiped.add(nic)

    @precondition(lambda self: self.nics)
    @rule(data=st.data(), vids=st.sampled_from(["46", "1-4094"]))
    def somebody_wipes(self, data, vids):
        nic = data.draw(st.sampled_from(self.nics))
        bridge_command("vlan", "del", "dev", nic.tap, "vid", vids)
        self.wiped.add(nic)

    @precondition(lambda self: not self.watch)
    @rule()
    def watch_runs(self):
        self.watch = self.ready.watch()

    @precondition(lambda self: self.watch)
    @rule(how=st.sampled_from([signal.SIGTERM, signal.SIGKILL]))
    def watch_ends(self, how):
        os.kill(self.watch, how)
        eventually(lambda: not os.path.exists(f"/proc/{self.watch}"))
        self.watch = 0

    @precondition(lambda self: self.nics)
    @rule(seconds=st.sampled_from([0.5, GRACE_SECONDS, GRACE_SECONDS + WATCH_SECONDS]))
    def time_passes(self, seconds):
        time.sleep(seconds)

    # What must be

    @invariant()
    def no_port_has_a_foreign_vlan(self):
        nics = getattr(self, "nics", ())
        for nic, have in zip(nics, vlans_of([nic.tap for nic in nics])):
            assert any(have.keys() <= state.keys() for state in nic.had), (nic.tap, have)

    def teardown(self):
        try:
            if hasattr(self, "nics"):
                self.all_is_right_in_the_end()
        finally:
            self.ready.kill()
            for interface in os.listdir("/sys/class/net"):
                if interface.startswith(("br", "vnet")):
                    ip("link", "del", interface)
            forget_everything()

    def all_is_right_in_the_end(self):
        for restarted in (False, True):
            if restarted:
                self.restart_libvirtd()
            self.settle()
            for nic in self.nics:
                self.no_port_has_a_foreign_vlan()
                if nic.wanted is None or nic in self.disturbed or not (self.watch or nic not in self.wiped):
                    continue
                if nic.group and self.watch:
                    eventually(lambda nic=nic: vlans(nic.tap) == nic.wanted)
                elif nic not in self.wiped:
                    assert vlans(nic.tap) == nic.wanted, (restarted, nic.vm, nic.tap, nic.group)
        self.end(list(self.nics))
        self.settle()
        for name in tickets():
            nic = Nic("web", 0, "")
            nic.mac = f"52{name[2:17]}"
            assert nic.mac in self.untold, name
            self.port_deleted(self.port_created(nic, ""))  # the next NIC of that address
        if TICKETS.exists():
            assert sorted(os.listdir(TICKETS)) in ([], ["lock"])
            with open(TICKETS / "lock", "w") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # all of it: nobody holds any
        assert [line for line in logged() if "unexpected" in line or "has not come" in line] == []

    # libvirt's steps

    def running(self):
        return [vm for vm in VMS if any(nic.vm == vm for nic in self.nics)]

    def number(self, kind):
        self.numbers[kind] += 1
        return self.numbers[kind]

    def xml(self, uuid, nic, group):
        return networkport(uuid, group, nic.vm, f"00000000-0000-0000-0000-00000000000{VMS.index(nic.vm)}", nic.mac)

    def port_created(self, nic, group, uuid=""):
        """Given a NIC and a portgroup, announce a port (with its uuid: again), note it as granted, return its uuid."""
        uuid = uuid or f"00000000-0000-0000-0000-{self.number('port'):012}"
        done = self.ready.network("port-created", self.xml(uuid, nic, group))
        assert (done.returncode, done.stderr) == (0, "")
        self.ports[uuid] = nic, group
        self.note()
        return uuid

    def port_deleted(self, uuid):
        """Given a port's uuid, take it back, unless it has been forgotten or there is none."""
        if uuid in self.ports:
            done = self.ready.network("port-deleted", self.xml(uuid, *self.ports[uuid]))
            assert (done.returncode, done.stderr) == (0, "")
            del self.ports[uuid]
            self.note()

    def make_tap(self, nic):
        nic.tap = f"vnet{self.number('tap')}"  # libvirt gives no number twice
        self.bridge.add_tap(nic.tap, nic.mac.replace("52", "fe", 1))

    def end(self, nics):
        """Given NICs, have their taps go, and take their ports back."""
        for nic in nics:
            self.bridge.remove_tap(nic.tap)
        for nic in nics:
            self.gone(nic)
            self.port_deleted(nic.uuid)
        self.note()

    def gone(self, nic):
        if nic in self.nics:
            self.nics.remove(nic)
        if nic.uuid not in self.ports:
            self.untold.add(nic.mac)

    def note(self):
        state_files(self.ports, {vm: [nic.tap for nic in self.nics if nic.vm == vm] for vm in self.running()})

    def settle(self):
        eventually(lambda: set(self.ready.detached()) <= {self.watch}, within_seconds=120)


@pytest.fixture
def ready():
    """Give the hooks, with less to wait for in live changes."""
    ready = Ready(lifecycle__LIVE_GRACE_SECONDS=GRACE_SECONDS, waiting__WATCH_SECONDS=WATCH_SECONDS)
    yield ready
    ready.close()


def test_whatever_libvirt_does_each_port_has_what_it_was_granted_last(ready):
    Libvirt.ready = ready
    seed = os.environ.get("HYPOTHESIS_SEED")
    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=seed is None,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[hypothesis.Phase.generate],  # to find a shorter way to the same mistake takes the lab an hour
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    machine = hypothesis.seed(int(seed))(Libvirt) if seed else Libvirt
    run_state_machine_as_test(machine, settings=settings)
