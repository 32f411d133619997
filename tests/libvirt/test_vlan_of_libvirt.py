# SPDX-License-Identifier: MIT
"""libvirt's own <vlan>, from 11.0 on: what has one is libvirt's to set. Older ones refuse it, and we leave nothing."""

import pytest
from conftest import (
    BRIDGE,
    LOG,
    MAC,
    nic,
    nothing_left_behind,
    start_libvirtd,
    stop_libvirtd,
    tap_of,
    typed,
    undefine_network,
    version,
    virsh,
    virsh_fails,
)
from iproute import ACCESS, always, vlans

LIBVIRT_SETS_VLANS = version() >= (11,)
LIST = "<vlan trunk='yes'><tag id='10' nativeMode='untagged'/><tag id='20'/>{}</vlan>"
RANGE, EACH = "<tag id='30-32'/>", "<tag id='30'/><tag id='31'/><tag id='32'/>"
LAB = {10: ACCESS, 20: (), 30: (), 31: (), 32: ()}
METADATA = f"""<metadata><hooks:portgroups xmlns:hooks='urn:libvirt-hooks:portgroups:1'>
<portgroup name='lab'>{LIST.format(RANGE)}</portgroup></hooks:portgroups></metadata>"""
PORTGROUP = f"<portgroup name='lab'>{LIST.format(EACH)}</portgroup>"


def network_with(metadata, portgroup):
    return (
        f"<network><name>{BRIDGE}</name>{metadata}<forward mode='bridge'/><bridge name='{BRIDGE}'/>{portgroup}"
        "<portgroup name='zerotier-46'/></network>"
    )


def define_again(metadata="", portgroup=""):
    """Define the network anew, and restart it, as an operator does for a change to count."""
    undefine_network()
    virsh("net-define", "/dev/stdin", stdin=network_with(metadata, portgroup))
    virsh("net-start", BRIDGE)


def nic_with_vlan():
    return nic(MAC, "zerotier").replace("<model ", "<vlan><tag id='7'/></vlan><model ")


if LIBVIRT_SETS_VLANS:

    @pytest.mark.parametrize(("portgroup", "the_nic", "expected"), [
        (PORTGROUP, nic(MAC, "lab"), LAB),
        ("", nic_with_vlan(), {7: ACCESS}),  # although its portgroup is one of ours
    ])  # fmt: skip
    def test_what_has_a_vlan_is_libvirts_to_set(vm, portgroup, the_nic, expected):
        define_again(portgroup=portgroup)
        LOG.unlink()
        vm("web", the_nic)

        assert vlans(tap_of("web", MAC)) == expected
        assert ": left alone: it has a <vlan>, which libvirt applies itself (since 11.0)\n" in LOG.read_text()
        assert typed() == []
        virsh("destroy", "web")
        nothing_left_behind()

    def test_a_list_moved_from_the_metadata_to_the_portgroup_is_libvirts_from_the_next_start_on(vm):
        define_again(metadata=METADATA)
        vm("web", nic(MAC, "lab"))
        tap = tap_of("web", MAC)
        assert vlans(tap) == LAB
        before = typed()
        define_again(portgroup=PORTGROUP)
        stop_libvirtd("TERM")
        start_libvirtd()
        always(lambda: vlans(tap) == LAB, for_seconds=2)
        virsh("destroy", "web")
        nothing_left_behind()
        virsh("start", "--paused", "web")

        assert vlans(tap_of("web", MAC)) == LAB
        assert typed() == before

else:

    def test_a_vlan_in_the_portgroup_is_refused_by_libvirt(network):
        error = virsh_fails("net-define", "/dev/stdin", stdin=network_with("", PORTGROUP))

        assert "whose type doesn't support vlan configuration" in error

    def test_a_vlan_of_the_nic_is_refused_by_libvirt_and_leaves_nothing_behind(vm):
        before = typed()
        error = virsh_fails("start", vm("web", nic_with_vlan(), start=False))

        assert "vlan tag not supported for this connection type" in error
        assert typed() == before
        nothing_left_behind()
