# SPDX-License-Identifier: MIT
"""Which bridge ports are uplinks, and what makes a change to one last."""

import pytest

from libvirt_hooks.tool import owners
from libvirt_hooks.tool.links import parsed, uplinks


def shown(name, kind="", master="br0", up=True, carrier=True, **more):
    """Return an interface as `ip -d -j link show` has it."""
    flags = ["BROADCAST", *(["UP"] if up else []), *(["LOWER_UP"] if carrier else [])]
    info = {"linkinfo": {"info_kind": kind}} if kind else {}
    return {"ifname": name, "master": master, "flags": flags, **info, **more}


ELSEWHERE = {"link_netnsid": 0}


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([shown("eno1")], ["eno1"]),  # a physical device has no kind
        ([shown("bond0", "bond"), shown("team0", "team"), shown("eth0.7", "vlan"), shown("vx", "vxlan"),
          shown("gre1", "gretap")], ["bond0", "eth0.7", "gre1", "team0", "vx"]),
        ([shown("eno1", master="br1"), shown("br0", "bridge", master="")], []),
        ([shown("vnet0", "tun"), shown("tap9", "tun")], []),  # a guest's, and another manager's
        ([shown("dummy0", "dummy"), shown("macvtap0", "macvtap")], []),
        ([shown("veth0", "veth")], []),  # its other end is on this host
        ([shown("veth0", "veth", **ELSEWHERE)], ["veth0"]),  # into a namespace that has the physical device
        ([shown("veth0", "veth", **ELSEWHERE), shown("veth1", "veth", **ELSEWHERE)], []),  # containers
        ([shown("eno1"), shown("veth0", "veth", **ELSEWHERE)], ["eno1"]),  # a container beside an uplink
        ([shown("box0", "veth", **ELSEWHERE)], []),  # a container of libvirt's
    ],
)  # fmt: skip
def test_an_uplink_leads_off_this_host(ports, found):
    assert uplinks("br0", parsed(ports), {"vnet0", "box0"}) == found


def test_what_ip_says_about_an_interface():
    (link,) = parsed([shown("eno1", up=True, carrier=False)]).values()
    assert (link.is_up, link.has_carrier, link.leaves_namespace, link.kind) == (True, False, False, "")
    assert parsed([]) == parsed(None) == {}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Give the directory of a host's files, for the three services, none of which owns anything yet."""
    monkeypatch.setattr(owners, "NETWORKD", tmp_path / "links")
    monkeypatch.setattr(owners, "INTERFACES", tmp_path / "interfaces")
    monkeypatch.setattr(owners, "NETWORK_MANAGER", tmp_path / "NetworkManager")
    monkeypatch.setattr(owners.sysfs, "ifindex", {"eno1": 3, "br0": 4}.__getitem__)
    (tmp_path / "links").mkdir()
    return tmp_path


def test_nobody_owns_the_interface(host):
    (host / "interfaces").write_text("auto eno12\niface eno12 inet manual\n")
    (host / "links/3").write_text("ADMIN_STATE=unmanaged\nNETWORK_FILE=/etc/x.network\n")
    assert owners.lasting("eno1") == ""


def test_networkd_owns_the_interface(host):
    (host / "links/3").write_text("ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/eno1.network\n")
    assert owners.lasting("eno1") == (
        "systemd-networkd undoes that when it reloads: write it into /etc/systemd/network/eno1.network, too"
    )


def test_ifupdown_owns_the_interface(host):
    (host / "interfaces.d").mkdir()
    (host / "interfaces.d/lan").write_text("auto br0\n  iface br0 inet static\n")
    assert owners.lasting("br0") == f"that lasts until br0 is set up again: write it into {host}/interfaces.d/lan, too"


def test_networkmanager_owns_the_interface(host, monkeypatch):
    (host / "NetworkManager").mkdir()
    nmcli = host / "nmcli"
    nmcli.write_text('#!/bin/sh\n[ "$*" = "-g GENERAL.CONNECTION device show eno1" ] && echo uplink || exit 10\n')
    nmcli.chmod(0o755)
    monkeypatch.setenv("PATH", str(host), prepend=":")
    assert owners.lasting("eno1") == (
        "NetworkManager undoes that when it activates uplink: nmcli con edit uplink makes it last"
    )
    assert owners.lasting("br0") == ""
