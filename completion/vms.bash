# SPDX-License-Identifier: MIT
# Names of VMs. libvirt's read-only socket asks nobody for a password.
_libvirt_vlan_running() {
    timeout 5 virsh -q -r -c qemu:///system list --name "${@:2}" 2>/dev/null </dev/null | while IFS= read -r name; do
        [[ -n $name && $name == "$1"* ]] && printf '%s\n' "$name"
    done
}

_libvirt_vlan_defined() {
    _libvirt_vlan_running "$1" --all
}
