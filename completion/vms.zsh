# SPDX-License-Identifier: MIT
# Names of VMs. libvirt's read-only socket asks nobody for a password.
_libvirt_vlan_names() { # [--all]
    local -a names
    names=(${(f)"$(timeout 5 virsh -q -r -c qemu:///system list --name "$@" 2>/dev/null </dev/null)"})
    compadd -a names
}

# zsh calls these with arguments that are not for virsh.
_libvirt_vlan_running() {
    _libvirt_vlan_names
}

_libvirt_vlan_defined() {
    _libvirt_vlan_names --all
}
