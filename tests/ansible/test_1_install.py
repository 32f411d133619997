# SPDX-License-Identifier: MIT
"""The role on hosts that have never seen it: what it announces, installs, restarts, checks, and leaves alone."""

import re
import subprocess

from conftest import (
    FOREIGN,
    HOSTS,
    MAC,
    METRICS,
    REPOSITORY,
    SERVER,
    ZEROTIER,
    domain,
    has_package,
    on,
    pid,
    play,
    tap,
    tree,
    vlans,
)
from iproute import eventually

COMPLETION = re.compile("/(completions|site-functions)/")


def files_in(diff):
    return sorted(re.findall(r"^\+\+\+ after: (/.*)$", diff, re.MULTILINE))


def test_check_mode_says_what_the_run_then_changes_and_changes_nothing(preview, installed):
    assert preview.status == 0
    assert preview.after == preview.before
    assert preview.lacked_package
    assert preview.changed == {"alpha": 2, "beta": 3}  # files; on alpha a directory, on beta a package and a restart
    assert "libvirt-vlan-watch.service would be enabled and started" in preview.output
    announced = files_in(preview.output)
    # completion is made by the tool itself, which cannot be run where a package is missing
    written = [file for file in files_in(installed.output) if not COMPLETION.search(file)]
    assert [file for file in announced if not COMPLETION.search(file)] == written
    assert announced.count("/etc/libvirt/hooks/qemu") == len(HOSTS)
    assert announced.count("/etc/libvirt/hooks/network") == announced.count("/etc/libvirt/hooks/network.d/50-vlan") == 1
    assert "+from libvirt_hooks.network import main" in preview.output.replace("+    from", "+from")


def test_what_is_there_then_is_what_make_install_makes(installed, tmp_path):
    assert installed.status == 0
    make = ["make", "-C", REPOSITORY, "install", f"DESTDIR={tmp_path}", "SHTAB_PYTHON=false"]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    found = (
        "find . ! -type d -printf '%m %U:%G %p\n' | sort && find . -type f ! -name '*.pyc' -exec sha256sum {} + | sort"
    )

    def below(root):
        return subprocess.check_output(["sh", "-c", found], cwd=root, text=True).splitlines()

    hooks = on("alpha", f"cd /etc/libvirt/hooks && {found}").splitlines()
    assert hooks == below(tmp_path / "etc/libvirt/hooks")
    modules = list((REPOSITORY / "lib/libvirt_hooks").glob("**/*.py"))
    assert len([line for line in hooks if ".pyc" in line]) == len(modules)
    there = tree("alpha")
    for line in below(tmp_path / "usr/local"):
        assert line.replace(" .", " /usr/local") in there


def test_the_completion_is_what_make_install_makes(installed, tmp_path):
    make = ["make", "-C", REPOSITORY, "install", f"DESTDIR={tmp_path}"]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    made = [file for file in tmp_path.rglob("*libvirt-vlan") if COMPLETION.search(str(file))]

    assert len(made) == 2
    for file in made:
        there = f"/{file.relative_to(tmp_path)}"
        for host in HOSTS:
            assert on(host, f"cat {there}") == file.read_text().strip()
            assert on(host, f"stat -c '%a %u:%g' {there}") == "644 0:0"


def test_another_tools_hook_stays_and_ours_comes_beside_it(installed):
    assert on("beta", "cat /etc/libvirt/hooks/network") == FOREIGN.strip()
    ours = (REPOSITORY / "hooks/network").read_text().strip()
    assert (
        on("beta", "cat /etc/libvirt/hooks/network.d/50-vlan") == on("alpha", "cat /etc/libvirt/hooks/network") == ours
    )


def test_the_missing_package_is_there(installed):
    assert has_package("beta")
    assert installed.changed == {
        "alpha": 4,
        "beta": 3,
    }  # files, restart; on alpha a directory and services, on beta a package


def test_nobody_but_root_can_write_to_any_of_it(installed):
    for host in HOSTS:
        files = "find /etc/libvirt/hooks /usr/local/sbin/libvirt-vlan ! -type l"
        assert on(host, rf"{files} \( ! -uid 0 -o -perm /022 \)") == ""


def test_each_libvirtd_was_restarted_one_by_a_command_one_as_a_service(preview, installed):
    for host in HOSTS:
        assert pid(host) != preview.before[host][1]
    assert "Restart libvirt's daemons as libvirt_hooks_restart_command says] ***\nchanged: [alpha]" in installed.output
    assert "changed: [beta] => (item=libvirtd)" in installed.output


def test_vms_are_in_their_vlans_those_that_ran_before_and_those_started_since(installed):
    assert vlans("alpha", tap("alpha", "early")) == SERVER
    for host in HOSTS:
        on(host, "virsh -q create --paused /dev/stdin", domain("web", MAC, "zerotier"))
        assert vlans(host, tap(host, "web")) == ZEROTIER
        on(host, "virsh -q destroy web")


def test_the_watch_runs_as_a_service_and_puts_a_vlan_right(installed):
    """Under systemd, as confined as its unit says."""
    assert (
        on("alpha", "systemctl is-enabled libvirt-vlan-watch.service libvirt-vlan-check.timer").split()
        == ["enabled"] * 2
    )
    assert (
        on("alpha", "systemctl is-active libvirt-vlan-watch.service libvirt-vlan-check.timer").split() == ["active"] * 2
    )
    port = tap("alpha", "early")
    on("alpha", f"bridge vlan del dev {port} vid 3")

    eventually(lambda: vlans("alpha", port) == SERVER)


def test_metrics_are_written_where_the_inventory_says(installed):
    on("alpha", "systemctl start libvirt-vlan-check.service")

    metrics = on("alpha", f"cat {METRICS}/libvirt-vlan.prom").splitlines()
    assert 'libvirt_vlan_nics{bridge="br0",verdict="right"} 1' in metrics
    assert "libvirt_vlan_watch_running 1" in metrics


def test_services_are_refused_where_there_is_no_systemd(installed):
    before = tree("beta")
    run = play("--limit", "beta", "-e", "libvirt_hooks_monitoring=prometheus")

    assert (run.status, run.changed) == (2, {"beta": 0})
    assert "libvirt_hooks_monitoring needs systemd on the host" in run.output
    assert tree("beta") == before


def test_a_second_run_changes_nothing_and_restarts_nothing(installed):
    before = {host: (tree(host), pid(host)) for host in HOSTS}
    again = play("--diff")

    assert (again.status, again.changed) == (0, {"alpha": 0, "beta": 0})
    assert {host: (tree(host), pid(host)) for host in HOSTS} == before
