# SPDX-License-Identifier: MIT
"""What the network hook leaves behind when libvirt goes astray, or it cannot go on itself: on a make-believe host."""

import errno
import io
import os
import sys
import time
from pathlib import Path

import pytest

from libvirt_hooks import hookdata, libvirt_records, network, sysfs, taps, tickets
from libvirt_hooks.tickets import Ticket
from libvirt_hooks.vlans import access

DATA = Path(__file__).parents[1] / "data"
CREATED = (DATA / "network-port-created-zerotier.xml").read_bytes()
NO_PORTGROUP = (DATA / "network-port-created-no-portgroup.xml").read_bytes()
PORT = hookdata.parse_network(CREATED).port
TAP = "fe:54:00:00:00:01"  # of the captured MAC address


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    """Give a directory that stands for a host with a bridge br0 without ports."""
    monkeypatch.setattr(tickets, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(libvirt_records, "DIRECTORY", str(tmp_path / "libvirt"))
    monkeypatch.setattr(sysfs, "NET", str(tmp_path / "net"))
    (tmp_path / "net/br0/bridge").mkdir(parents=True)
    (tmp_path / "net/br0/brif").mkdir()
    (tmp_path / "net/br0/bridge/vlan_filtering").write_text("1\n")
    (tmp_path / "net/br0/bridge/default_pvid").write_text("1\n")
    (tmp_path / "libvirt/network/br0/ports").mkdir(parents=True)
    (tmp_path / "libvirt/qemu").mkdir()
    monkeypatch.setattr(os, "fork", lambda: 1)  # what the detached process does is tested on a real bridge
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def may_stop(operation, xml):
    """Return what hooks/network says about this port."""
    return b"<group>" in xml


def run(monkeypatch, operation, xml):
    """Call the hook's main program, return its exit status."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(xml)))
    return network.main(["br0", operation, "begin", "-"], may_stop)


def grant(host, uuid):
    (host / f"libvirt/network/br0/ports/{uuid}.xml").touch()


def uuids_on_disk(host):
    """Return the uuids in the names of the ticket files, read without the project's own code."""
    return sorted(file.name.partition(".")[2] for file in (host / "run").iterdir() if file.name.startswith(TAP))


def earlier_port(**changes):
    """Write and return the ticket of another port of the same NIC."""
    ticket = Ticket(
        uuid="00000000-0000-0000-0000-0000000000aa", vm=PORT.vm, vm_uuid=PORT.vm_uuid, kind=taps, mac=PORT.mac,
        bridge="br0", network="br0", group="server", is_default=False, applied_over=None, isolated=False,
        fdb_managed=False, vlans=access(3), uplinks=[], live=False,
        created=time.monotonic() - 100, released=False, right=None,
        interface=None, bridge_index=0, link_down=False,
    )  # fmt: skip
    ticket.__dict__.update(changes)
    tickets.write(ticket)
    return ticket


@pytest.mark.parametrize("xml", [CREATED, NO_PORTGROUP.replace(b"52:54:00:00:00:02", PORT.mac.encode())])
def test_a_port_that_libvirt_never_took_back_does_not_count_when_its_vm_starts_again(host, monkeypatch, xml):
    earlier = earlier_port(vm_uuid=hookdata.parse_network(xml).port.vm_uuid)
    grant(host, earlier.uuid)

    assert run(monkeypatch, "port-created", xml) == 0
    assert earlier.uuid not in uuids_on_disk(host)


@pytest.fixture
def no_more_processes(monkeypatch):
    def fork():
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)


def test_a_live_change_that_is_refused_leaves_no_ticket(host, monkeypatch, no_more_processes, capsys):
    (host / "net/vnet0").mkdir()
    (host / "net/vnet0/address").write_text(TAP)
    (host / "net/br0/brif/vnet0").mkdir()
    (host / f"libvirt/qemu/{PORT.vm}.xml").write_text("<target dev='vnet0'/>")
    before = earlier_port()
    grant(host, before.uuid)

    assert run(monkeypatch, "port-created", CREATED) == 1
    assert "cannot start a process: Resource temporarily unavailable" in capsys.readouterr().err
    assert uuids_on_disk(host) == [before.uuid]


def test_a_port_that_is_announced_again_keeps_its_ticket_whatever_fails(host, monkeypatch, no_more_processes):
    earlier_port(uuid=PORT.uuid)

    assert run(monkeypatch, "port-created", CREATED) == 1
    assert uuids_on_disk(host) == [PORT.uuid]


@pytest.mark.parametrize(("xml", "status"), [(NO_PORTGROUP, 0), (CREATED, 1)])
def test_xml_that_cannot_be_read_stops_only_vms_with_a_portgroup(monkeypatch, xml, status):
    """libvirt writes a portgroup's name as it is, an apostrophe too."""
    assert run(monkeypatch, "port-created", xml.replace(b"'server-3'", b"'o'neill'")) == status
