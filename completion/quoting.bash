# SPDX-License-Identifier: MIT
# shtab's function compares words as they are typed, and inserts names as they are. So remove the quoting from what is
# typed, and quote what is inserted: a VM can be called "a b", "$(x)" or "*".
_libvirt_vlan() {
    local - typed=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} quote='' name found
    set -f # a name is no pattern
    COMPREPLY=()
    [[ $typed != [:=@] && $before != [:=@] ]] || return 0 # a name that bash has taken apart, because it is not quoted
    if [[ $typed == [\'\"]* ]]; then
        quote=${typed:0:1}
        typed=${typed:1}
    fi
    [[ $quote == \' ]] || typed=$(printf '%s\n' "$typed" | sed 's/\\\(.\)/\1/g')
    COMP_WORDS[COMP_CWORD]=$typed
    _shtab_libvirt_vlan
    found=("${COMPREPLY[@]}")
    COMPREPLY=()
    for name in "${found[@]}"; do
        case $quote in
        \')
            [[ $name != *\'* ]] || continue # cannot be written between these
            ;;
        \")
            [[ $name != *!* ]] || continue # would be history
            name=${name//\\/\\\\} name=${name//\"/\\\"} name=${name//\$/\\\$} name=${name//\`/\\\`}
            ;;
        *)
            printf -v name %q "$name"
            [[ $name == \$* ]] || name=${name//:/\\:} name=${name//=/\\=} name=${name//@/\\@}
            ;;
        esac
        COMPREPLY+=("$name")
    done
}

# shtab 1.5, as in Debian 12, offers the first verb only, unless all verbs are one word, in lines.
_shtab_libvirt_vlan_pos_0_choices=("$(printf '%s\n' "${_shtab_libvirt_vlan_pos_0_choices[@]}")")
complete -F _libvirt_vlan libvirt-vlan
