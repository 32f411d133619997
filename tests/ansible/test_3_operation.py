# SPDX-License-Identifier: MIT
"""The role on hosts that have it: upgrades, what its check finds, and going away without a trace."""

from conftest import HOSTS, MAC2, domain, on, pid, play, tap, tree, vlans, write

LIB = "/etc/libvirt/hooks/lib/libvirt_hooks"


def test_an_older_releases_modules_are_replaced_shown_by_diff_and_need_no_restart(installed):
    right, before = tree("alpha"), pid("alpha")
    write("alpha", f"{LIB}/old.py", "raise SystemExit\n")
    write("alpha", f"{LIB}/vlans.py", "VID_MAX = 5000\n")
    on("alpha", "chmod 777 /usr/local/sbin/libvirt-vlan /etc/libvirt/hooks")
    run = play("--diff", "--limit", "alpha")

    assert (run.status, run.changed) == (0, {"alpha": 1})
    assert tree("alpha") == right
    assert pid("alpha") == before
    for line in ("-raise SystemExit", "-VID_MAX = 5000", "-mode 0777, owner 0:0", "-others than root can write to it"):
        assert f"\n{line}\n" in run.output


def test_what_the_check_finds_fails_the_host_unless_told_otherwise(installed):
    if "early" not in on("alpha", "virsh -q list --name"):
        on("alpha", "virsh -q create --paused /dev/stdin", domain("early", MAC2, "server"))
    port = tap("alpha", "early")
    on("alpha", f"bridge vlan del dev {port} vid 3")
    found = f"early {MAC2} {port} server: has none instead of 3 pvid untagged on br0: libvirt-vlan sync early"

    fails = play("--limit", "alpha")
    reports = play("--limit", "alpha", "-e", "libvirt_hooks_check_fails=false")

    assert (fails.status, fails.changed) == (2, {"alpha": 0})
    assert (reports.status, reports.changed) == (0, {"alpha": 0})
    assert found in fails.output
    assert found in reports.output
    assert vlans("alpha", port) == []


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
