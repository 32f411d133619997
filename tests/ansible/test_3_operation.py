# SPDX-License-Identifier: MIT
"""The role on hosts that have it: upgrades, what its check finds, and going away without a trace."""

from types import SimpleNamespace

import pytest
from conftest import HOSTS, MAC2, domain, on, pid, play, tap, tree, vlans, write

LIB = "/etc/libvirt/hooks/lib/libvirt_hooks"


@pytest.fixture(scope="module")
def wrong(installed):
    """Take the VLAN of a VM on alpha away, and give its tap, and what the check says of it."""
    if "early" not in on("alpha", "virsh -q list --name"):
        on("alpha", "virsh -q create --paused /dev/stdin", domain("early", MAC2, "server"))
    port = tap("alpha", "early")
    on("alpha", f"bridge vlan del dev {port} vid 3")
    found = f"early {MAC2} {port} server: has none instead of 3 pvid untagged on br0: libvirt-vlan sync early"
    return SimpleNamespace(port=port, found=found)


def test_the_collection_replaces_an_older_releases_modules_shows_that_and_restarts_nothing(wrong, collection):
    """Built, installed and called by its name, it installs what the checkout does. Problems are only reported."""
    right, before = tree("alpha"), pid("alpha")
    write("alpha", f"{LIB}/old.py", "raise SystemExit\n")
    write("alpha", f"{LIB}/vlans.py", "VID_MAX = 5000\n")
    on("alpha", "chmod 777 /usr/local/sbin/libvirt-vlan /etc/libvirt/hooks")
    reports = ("-e", "libvirt_hooks_check_fails=false")
    run = play("--diff", "--limit", "alpha", *reports, playbook=f"{collection}.site")

    assert (run.status, run.changed) == (0, {"alpha": 1})
    assert tree("alpha") == right
    assert pid("alpha") == before
    for line in ("-raise SystemExit", "-VID_MAX = 5000", "-mode 0777, owner 0:0", "-others than root can write to it"):
        assert f"\n{line}\n" in run.output
    assert wrong.found in run.output


def test_what_the_check_finds_fails_the_host(wrong):
    run = play("--limit", "alpha")

    assert (run.status, run.changed) == (2, {"alpha": 0})
    assert wrong.found in run.output
    assert vlans("alpha", wrong.port) == []


def test_uninstalling_leaves_the_hosts_as_they_were(preview, installed):
    daemons = {host: pid(host) for host in HOSTS}
    trees = {host: tree(host) for host in HOSTS}
    announced = play("--check", "-e", "libvirt_hooks_state=absent")
    assert (announced.status, {host: tree(host) for host in HOSTS}) == (0, trees)
    assert announced.changed == {"alpha": 1, "beta": 2}  # a service's restart is announced, a command is not

    removed = play("-e", "libvirt_hooks_state=absent")
    again = play("-e", "libvirt_hooks_state=absent", "--limit", "alpha")

    assert removed.status == 0
    assert {host: tree(host) for host in HOSTS} == {host: preview.before[host][0] for host in HOSTS}
    assert all(pid(host) != daemons[host] for host in HOSTS)
    assert (again.status, again.changed) == (0, {"alpha": 0})
