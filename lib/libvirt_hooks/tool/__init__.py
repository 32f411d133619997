# SPDX-License-Identifier: MIT
"""What only libvirt-vlan needs. It may import what it likes: the hooks never import from here.

docs/how-it-works.md has a table of the modules.
"""
