# SPDX-License-Identifier: MIT
# Names of VMs and containers. libvirt's read-only socket asks nobody for a password.
_libvirt_vlan_names() { # [--all]
    local -a names
    local uri
    for uri in qemu:///system lxc:///system; do
        names+=(${(f)"$(timeout 5 virsh -q -r -c $uri list --name "$@" 2>/dev/null </dev/null)"})
    done
    compadd -a names
}

# zsh calls these with arguments that are not for virsh.
_libvirt_vlan_running() {
    _libvirt_vlan_names
}

_libvirt_vlan_defined() {
    _libvirt_vlan_names --all
}
