# SPDX-License-Identifier: MIT
"""From an earlier release's role to this one's and back, beside a running VM: for tox -e upgrade, with LAB_BEFORE."""

import os
from pathlib import Path

from conftest import MAC, REPOSITORY, RESTART, ZEROTIER, domain, on, play, tap, vlans
from iproute import eventually

BEFORE, NOW = (Path(source, "ansible/site.yml") for source in (os.environ["LAB_BEFORE"], REPOSITORY))


def test_each_release_cares_for_the_others_vm(hosts):
    versions = []
    for number, playbook in enumerate((BEFORE, NOW, BEFORE, NOW)):
        run = play("--limit", "alpha", "-e", "libvirt_hooks_check_fails=false", playbook=playbook)
        assert run.status == 0
        if number == 0:
            on("alpha", "virsh -q create --paused /dev/stdin", domain("web", MAC, "zerotier"))
        port = tap("alpha", "web")
        eventually(lambda port=port: vlans("alpha", port) == ZEROTIER)
        versions.append(on("alpha", "libvirt-vlan --version"))

        on("alpha", f"bridge vlan del dev {port} vid 46")
        on("alpha", "libvirt-vlan sync")
        assert vlans("alpha", port) == ZEROTIER
        on("alpha", f"bridge vlan del dev {port} vid 46")
        on("alpha", RESTART)
        eventually(lambda port=port: vlans("alpha", port) == ZEROTIER)

    assert versions[:2] == versions[2:]
    assert versions[0] != versions[1]
