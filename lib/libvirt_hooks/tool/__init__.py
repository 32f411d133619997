# SPDX-License-Identifier: MIT
"""What only libvirt-vlan needs. It may import what it likes: the hooks never import from here.

command (the main program); inventory, virsh, networks (what there is); verdicts, installation (what is wrong);
findings (what check says), monitoring (the same for programs), textfile; repair (what mends it); table;
members, vlan_table, graph (who is in which VLAN).
"""
