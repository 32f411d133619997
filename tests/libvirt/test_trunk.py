# SPDX-License-Identifier: MIT
"""A trunk with a list of VLANs in the network's <metadata>, which every libvirt keeps."""

from conftest import BRIDGE, MAC, nic, nothing_left_behind, tap_of, undefine_network, virsh, virsh_fails
from iproute import ACCESS, vlans

TRUNK = """<portgroup name='lab'><vlan trunk='yes'>
  <tag id='10' nativeMode='untagged'/><tag id='20'/><tag id='30-40'/>
</vlan></portgroup>"""


def define(portgroups):
    undefine_network()
    virsh("net-define", "/dev/stdin", stdin=f"""<network><name>{BRIDGE}</name><metadata>
<hooks:portgroups xmlns:hooks='urn:libvirt-hooks:portgroups:1'>{portgroups}</hooks:portgroups>
</metadata><forward mode='bridge'/><bridge name='{BRIDGE}'/></network>""")  # fmt: skip
    virsh("net-start", BRIDGE)


def test_a_vm_has_exactly_the_trunk_in_the_metadata(vm):
    define(TRUNK)
    assert '<tag id="30-40"/>' in virsh("net-dumpxml", BRIDGE).replace("'", '"')
    vm("web", nic(MAC, "lab"))

    assert vlans(tap_of("web", MAC)) == {10: ACCESS, 20: (), **dict.fromkeys(range(30, 41), ())}
    virsh("destroy", "web")
    nothing_left_behind()

    define(TRUNK.replace("30-40", "40-30"))
    error = virsh_fails("start", "web")
    assert f"VM web, NIC {MAC}: network br0: <tag id='40-30'> in <portgroup name='lab'>" in error
    assert "the range is reversed: write '30-40' (virsh net-edit br0)" in error
