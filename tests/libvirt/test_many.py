# SPDX-License-Identifier: MIT
"""libvirt-vlan asks a real libvirtd for all VMs, and for all networks, at once."""

import os
from xml.etree import ElementTree as ET

import pytest
from conftest import (
    MAC,
    MAC2,
    TICKETS,
    define_network,
    eventually_settled,
    nic,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    undefine_network,
    virsh,
)
from iproute import bridge
from libvirt_vlan import notes_aside, tool

from libvirt_hooks import HookError
from libvirt_hooks.tool import virsh as asked

HOSTILE = """error: failed to get domain 'web'
; echo x; ' " \\ </description></domain>
<domain id='9'><name>evil</name><uuid>7b8f064f-bc9d-4d00-8cd2-51f033dd32d5</uuid></domain>
; dumpxml --domain web"""
NOBODY = "00000000-0000-0000-0000-000000000000"
COUNTING = """#!/bin/sh
echo x >>{directory}/count
exec /usr/bin/virsh "$@"
"""
ENDING = """#!/bin/sh
case "$*" in *dumpxml*{uuid}*) /usr/bin/virsh -q -c qemu:///system destroy {uuid} >&2 ;; esac
exec /usr/bin/virsh "$@"
"""


def instead_of_virsh(directory, script):
    """Given a directory and a script, return the environment in which that script is `virsh`."""
    (directory / "virsh").write_text(script)
    (directory / "virsh").chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.fixture(scope="module", autouse=True)
def _daemon_that_has_seen_the_hooks(libvirtd):
    start_libvirtd()


def test_many_vms_are_as_few_processes_as_one_and_one_that_goes_away_costs_nothing_else(vm, network, tmp_path):
    counting = instead_of_virsh(tmp_path, COUNTING.format(directory=tmp_path))
    vm("web", nic(MAC, "zerotier"))
    virsh("desc", "web", "--new-desc", HOSTILE, "--live", "--config")
    eventually_settled()
    for ticket in TICKETS.glob("f?:*"):
        ticket.unlink()  # so that the network is asked for, too
    assert tool("show", env=counting)[0] == 0
    one = (tmp_path / "count").read_text()
    vm("db", nic(MAC2, "server"))
    virsh("desc", "db", "--new-desc", HOSTILE, "--live", "--config")
    eventually_settled()
    (tmp_path / "count").unlink()

    status, shown, err = tool("show", env=counting)

    assert (status, err) == (0, [])
    assert sorted((line.split()[0], line.split()[-1]) for line in shown[1:]) == [("db", "right"), ("web", "right")]
    assert (tmp_path / "count").read_text() == one

    tap, uuid = tap_of("web", MAC), virsh("domuuid", "db")
    bridge("vlan", "add", "dev", tap, "vid", "99")
    status, out, err = tool("check", env=instead_of_virsh(tmp_path, ENDING.format(uuid=uuid)))

    assert (status, err) == (1, [f"libvirt-vlan: VM {uuid} has stopped in the meantime"])
    assert [line.split(": ")[0] for line in notes_aside(out)] == [f"web {MAC} {tap} zerotier"]


def test_each_answer_is_its_own_questions(vm, network, monkeypatch):
    monkeypatch.setattr(asked, "AT_ONCE", 2)
    names = ["-a", "b; echo c", "quit"]
    uuids = {virsh("domuuid", "--domain", vm(name, nic(MAC, "zerotier"), start=False)): name for name in names}
    for name in names:
        virsh("desc", "--domain", name, "--new-desc", HOSTILE, "--config")

    found = asked.domains([NOBODY, *uuids, NOBODY[:-1] + "1"])

    assert {uuid: ET.fromstring(xml).findtext("name") for uuid, xml in found.items()} == uuids
    assert asked.domains([]) == asked.domains([NOBODY]) == {}


def test_each_network_is_told_whatever_it_is_called(network):
    name = "a; echo 'b"
    define_network(name=name)
    try:
        assert {ET.fromstring(xml).findtext("name") for xml in asked.networks()} >= {name, "br0"}
    finally:
        undefine_network(name)


def test_a_libvirtd_that_does_not_answer_is_no_vm_that_went_away(libvirtd):
    stop_libvirtd("TERM")
    try:
        with pytest.raises(HookError, match=r"dumpxml --domain .*: exit 1: .*failed to connect to the hypervisor"):
            asked.domains([NOBODY])
    finally:
        start_libvirtd()
