# SPDX-License-Identifier: MIT
"""The role on hosts that have it: upgrades, what its check finds, and going away without a trace."""

import html
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import HOSTS, MAC, MAC2, REPOSITORY, domain, on, pid, play, tap, tree, vlans, write

PAGE = "/run/report.html"
REPORT = ("-e", f"libvirt_hooks_report={PAGE}")
EVIL = "<b>{{ 7*7 }}"
NO_WATCH = ("-e", "libvirt_hooks_watch=false")
NO_PACKAGES = ("-e", "{libvirt_hooks_packages: []}")  # they are there, and to see that takes a while
LIB = "/etc/libvirt/hooks/lib/libvirt_hooks"


@pytest.fixture(scope="module")
def wrong(installed):
    """Take the VLAN of a VM on alpha away, and give its tap, and what the check says of it."""
    if "early" not in on("alpha", "virsh -q list --name"):
        on("alpha", "virsh -q create --paused /dev/stdin", domain("early", MAC2, "server"))
    port = tap("alpha", "early")
    on("alpha", "systemctl stop libvirt-vlan-watch.service")
    on("alpha", f"bridge vlan del dev {port} vid 3")
    found = f"early {MAC2} {port} server: has none instead of 3 pvid untagged on br0: libvirt-vlan sync early"
    return SimpleNamespace(port=port, found=found)


def test_the_collection_replaces_an_older_releases_modules_shows_that_and_restarts_nothing(wrong, collection):
    """Built, installed and called by its name, it installs what the checkout does. Problems are only reported.

    The watch is not wanted any more."""
    right, before = tree("alpha"), pid("alpha")
    write("alpha", f"{LIB}/old.py", "raise SystemExit\n")
    write("alpha", f"{LIB}/vlans.py", "VID_MAX = 5000\n")
    on("alpha", "chmod 777 /usr/local/sbin/libvirt-vlan /etc/libvirt/hooks")
    reports = ("-e", "libvirt_hooks_check_fails=false")
    run = play("--diff", "--limit", "alpha", *NO_WATCH, *NO_PACKAGES, *reports, playbook=f"{collection}.site")

    assert (run.status, run.changed) == (0, {"alpha": 2})  # files, services
    assert tree("alpha") == right
    assert pid("alpha") == before
    for line in ("-raise SystemExit", "-VID_MAX = 5000", "-mode 0777, owner 0:0", "-others than root can write to it"):
        assert f"\n{line}\n" in run.output
    assert wrong.found in run.output
    assert on("alpha", "systemctl is-enabled libvirt-vlan-watch.service || true") == "disabled"
    assert on("alpha", "systemctl is-active libvirt-vlan-check.timer") == "active"


def test_what_the_check_finds_fails_the_host(wrong):
    run = play("--limit", "alpha", *NO_WATCH, *NO_PACKAGES)

    assert (run.status, run.changed) == (2, {"alpha": 0})
    assert wrong.found in run.output
    assert vlans("alpha", wrong.port) == []


def test_the_report_names_what_is_wrong_and_who_could_not_be_asked(wrong, collection):
    """Nobody answers at gamma's address. EVIL is made to break out of the page, and to be a template to Ansible."""
    on("alpha", "virsh -q create --paused /dev/stdin", domain(html.escape(EVIL), MAC, "zerotier"))
    port = tap("alpha", shlex.quote(EVIL))
    on("alpha", f"bridge vlan del dev {port} vid 46")
    Path("/run/more").write_text("[hypervisors]\ngamma ansible_host=192.0.2.13\n")
    run = play("-i", "/run/more", *REPORT, playbook=f"{collection}.report")
    on("alpha", f"virsh -q destroy {shlex.quote(EVIL)}")
    page = Path(PAGE).read_text()
    rows = re.findall(r"(?s)<tr class=.(?:wrong|silent).>(.*?)</tr>", page)
    texts = sorted(" ".join(html.unescape(re.sub("<.*?>", " ", row)).split()) for row in rows)

    assert (run.status, run.changed) == (2, {"alpha": 0, "beta": 0, "gamma": 0})
    assert "Hosts: 3. All right: 1.\nWith problems: 1. Not asked: 1.</p>" in page
    assert len(texts) == 3
    assert texts[0] == (
        f"alpha {EVIL} has none instead of 46 pvid untagged on br0 {MAC} {port} libvirt-vlan sync {shlex.quote(EVIL)}"
    )
    assert texts[1] == (
        f"alpha early has none instead of 3 pvid untagged on br0 {MAC2} {wrong.port} libvirt-vlan sync early"
    )
    assert texts[2].startswith("gamma cannot be reached: ")
    assert "No route to host" in texts[2]


def test_uninstalling_leaves_the_hosts_as_they_were(preview, installed):
    daemons = {host: pid(host) for host in HOSTS}
    trees = {host: tree(host) for host in HOSTS}
    announced = play("--check", "-e", "libvirt_hooks_state=absent")
    assert (announced.status, {host: tree(host) for host in HOSTS}) == (0, trees)
    assert announced.changed == {"alpha": 1, "beta": 2}  # a service's restart is announced, a command is not

    removed = play("-e", "libvirt_hooks_state=absent")
    again = play("-e", "libvirt_hooks_state=absent", "--limit", "alpha")

    assert removed.status == 0
    for unit in ("libvirt-vlan-watch.service", "libvirt-vlan-check.timer"):
        assert on("alpha", f"systemctl is-active {unit} || true") == "inactive"
        assert on("alpha", f"find /etc/systemd -name {unit}") == ""
    assert {host: tree(host) for host in HOSTS} == {host: preview.before[host][0] for host in HOSTS}
    assert [on(host, "find /usr/local/share -name '*libvirt-vlan*'") for host in HOSTS] == ["", ""]
    assert all(pid(host) != daemons[host] for host in HOSTS)
    assert (again.status, again.changed) == (0, {"alpha": 0})
    report = play("--limit", "beta", *REPORT, playbook=REPOSITORY / "ansible/report.yml")
    assert report.status == 2
    assert "libvirt-vlan is not installed" in Path(PAGE).read_text()
