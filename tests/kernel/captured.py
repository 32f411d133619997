# SPDX-License-Identifier: MIT
"""What libvirt tells the hooks of any VM, NIC and portgroup: XML captured from it (tests/data), and its state files."""

import shutil
from pathlib import Path

from conftest import DATA, MAC, port_created

LIST = "<tag id='10' nativeMode='untagged'/><tag id='20'/><tag id='30-40'/>"
METADATA = f"""<metadata>
      <hooks:portgroups xmlns:hooks='urn:libvirt-hooks:portgroups:1'>
        <portgroup name='lab'><vlan trunk='yes'>{LIST}</vlan></portgroup>
      </hooks:portgroups>
    </metadata>
    <forward"""


def networkport(uuid, group, vm="web", vm_uuid="14c6f67e-7f4a-4044-b0ed-336b9ee62273", mac=MAC):
    """Given a port's uuid, portgroup ("" for none), VM and MAC address, return what a network hook is given for it.

    The network defines zerotier-46, server-3 and slow, and lab in its <metadata>.
    """
    return port_created(
        uuid=uuid,
        metadata=("<forward", METADATA),
        group=("<group>zerotier</group>", f"<group>{group}</group>" if group else ""),
        vm=("<name>web</name>", f"<name>{vm}</name>"),
        vm_uuid=("<uuid>14c6f67e-7f4a-4044-b0ed-336b9ee62273</uuid>", f"<uuid>{vm_uuid}</uuid>"),
        mac=(MAC, mac),
    )


def domain(nics, vm="web"):
    """Given a VM's NICs, return what the qemu hook's `start` is given for the VM.

    A NIC is its MAC address, its port's uuid, its tap, and its portgroup if that is not zerotier ("": none).
    """
    xml = (DATA / "qemu-start.xml").read_text()
    before, _, rest = xml.partition("    <interface")
    interface, _, _ = rest.partition("    <interface")
    after = rest.rpartition("</interface>\n")[2]
    uuid = interface.split("portid='")[1].split("'")[0]
    tap = interface.split("<target dev='")[1].split("'")[0]
    interfaces = []
    for mac, port_uuid, name, *portgroup in nics:
        named = "".join(f" portgroup='{group}'" for group in portgroup or ["zerotier"] if group)
        xml = f"    <interface{interface}".replace(MAC, mac).replace(uuid, port_uuid).replace(f"'{tap}'", f"'{name}'")
        interfaces.append(xml.replace(" portgroup='zerotier'", named))
    return before.replace("<name>web</name>", f"<name>{vm}</name>") + "".join(interfaces) + after


def state_files(uuids, taps):
    """Given the uuids of the ports that libvirt has granted and the taps of each running VM, have its files say so."""
    ports, domains = Path("/run/libvirt/network/br0/ports"), Path("/run/libvirt/qemu")
    for directory in (ports, domains):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    for uuid in uuids:
        (ports / f"{uuid}.xml").touch()
    sources = "".join(
        f"<source network='br0' portid='{uuid}'/>" for uuid in uuids
    )  # each VM's: nobody asks for others'
    for vm, names in taps.items():
        targets = "".join(f"<target dev='{name}'/>" for name in names)
        (domains / f"{vm}.xml").write_text(f"<domstatus>{sources}{targets}</domstatus>")
