# SPDX-License-Identifier: MIT
"""What cannot work is refused, while libvirt still listens: exit status 1 and one sentence on stderr."""

import shutil
from pathlib import Path

import pytest
from conftest import REPOSITORY, TICKETS, detached, hook, port_created, refused, tickets, without_bridge
from iproute import ip

DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")  # Debian's
ABOUT = "VM web, NIC 52:54:00:00:00:01: "


def refused_and_gone(done):
    """Given what the hook returned, return its sentence, as refused() does; nothing is left behind."""
    line = refused(done)
    assert detached() == []
    assert tickets() == []
    return line


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "undefined-name",
            "network br0 defines no portgroup 'nonesuch' or 'nonesuch-VID' (it has server-3, zerotier-46",
        ),
        ("two-candidates", "portgroup 'zerotier' could be any of zerotier-46, zerotier-47 in network br0"),
    ],
)
def test_a_portgroup_that_cannot_work(bridge, name, says):
    assert ABOUT + says in refused_and_gone(hook("port-created", port_created(name)))


@pytest.mark.parametrize("suffix", ["0", "4095", "x"])
def test_a_vid_that_is_none(bridge, suffix):
    xml = port_created(vid=("'zerotier-46'", f"'zerotier-{suffix}'"))

    assert f"'{suffix}' is not a VID: a VID is a number from 1 to 4094" in refused_and_gone(hook("port-created", xml))


def test_a_bridge_that_does_not_exist():
    ip("link", "add", "dummy9", "type", "dummy")
    try:
        for name in ("br0", "dummy9"):
            xml = port_created(bridge=("bridge='br0'", f"bridge='{name}'"))
            assert f"{ABOUT}there is no bridge {name}: create it" in refused_and_gone(hook("port-created", xml))
    finally:
        ip("link", "del", "dummy9")


def test_a_bridge_that_does_not_filter_vlans(bridge):
    bridge.set("vlan_filtering", "0")
    sentence = refused_and_gone(hook("port-created", port_created()))
    assert sentence.startswith(f"{ABOUT}bridge br0 does not filter VLANs")

    ip(*sentence.rpartition("with ip ")[2].split())  # the command that it gives
    assert hook("port-created", port_created()).returncode == 0


@pytest.mark.parametrize(
    "xml",
    [
        "<group>",
        "<hookData><network><group>",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><hookData><network><group>&a;</group></network></hookData>",
        "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><group></group>",
    ],
)
def test_xml_that_is_broken_or_hostile(bridge, xml):
    assert "the XML on stdin cannot be read" in refused_and_gone(hook("port-created", xml))


@pytest.mark.parametrize("bridge_name", ["../../etc", "br0/../br1", "a b", "x" * 16])
def test_a_bridge_name_that_could_leave_its_place(bridge, bridge_name):
    xml = port_created(bridge=("bridge='br0'", f"bridge='{bridge_name}'"))

    assert "cannot be the name of an interface" in refused_and_gone(hook("port-created", xml))


@pytest.mark.parametrize("package", ["sh", "tenacity", "defusedxml"])
def test_a_package_that_is_missing(bridge, package):
    """Its files are gone for as long as the test lasts: the lab forgets them anyway."""
    (installed,) = (path for path in DIST_PACKAGES.glob(f"{package}*") if path.name in (package, f"{package}.py"))
    hidden = installed.with_name(f"hidden-{package}")
    shutil.move(installed, hidden)
    try:
        sentence = refused_and_gone(hook("port-created", port_created()))
    finally:
        shutil.move(hidden, installed)

    assert f"the Python package {package} cannot be imported" in sentence
    assert f"apt install python3-{package} or dnf install python3-{package}" in sentence


def test_bridge_is_not_installed(bridge):
    with without_bridge():
        sentence = refused_and_gone(hook("port-created", port_created()))

    assert "bridge is not installed: install it with apt install iproute2 or dnf install iproute" in sentence


def test_tickets_that_cannot_be_written(bridge):
    TICKETS.write_text("a file where the directory should be")
    try:
        done = hook("port-created", port_created())
    finally:
        TICKETS.unlink()

    assert done.returncode == 1
    assert "cannot lock /run/libvirt-hooks/lock: File exists: check ls -la /run/libvirt-hooks" in done.stderr


def test_the_lib_is_not_there(bridge, tmp_path):
    copy = shutil.copy(REPOSITORY / "hooks/network", tmp_path)

    done = hook("port-created", port_created(), executable=copy)
    assert done.returncode == 1
    says = f"lib in {tmp_path} is missing or not complete: install the hooks again"
    assert done.stderr == f"No module named 'libvirt_hooks': {says}\n"
    assert hook("port-created", port_created("no-portgroup"), executable=copy).returncode == 0
    assert hook("started", executable=copy).returncode == 0


def test_a_name_cannot_forge_a_line_of_the_log(bridge):
    name = "web&#10;Nov 22 00:00:00 host libvirtd[1]: all is well"
    done = hook("port-created", port_created("undefined-name", vm=("<name>web</name>", f"<name>{name}</name>")))

    assert r"VM web\nNov 22 00:00:00 host libvirtd[1]: all is well, NIC " in refused_and_gone(done)
