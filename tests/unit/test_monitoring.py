# SPDX-License-Identifier: MIT
"""What `check` finds as JSON and as Prometheus' metrics, the alerts about them, and the units that write them."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import ValidationError, validate
from states import DOES_NOT_FILTER, LEFT_ALONE, MAC, REFUSED, UUID, br0, nic

from libvirt_hooks.tool import installation, textfile
from libvirt_hooks.tool.findings import notes, problems
from libvirt_hooks.tool.model import NOTES, PROBLEMS
from libvirt_hooks.tool.monitoring import Look, to_json, to_prometheus
from libvirt_hooks.vlans import access

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/monitoring.md").read_text()
SCHEMA = json.loads((REPOSITORY / "docs/libvirt-vlan-check.schema.json").read_text())
SERVICE, TIMER = REPOSITORY / "systemd/libvirt-vlan-check.service", REPOSITORY / "systemd/libvirt-vlan-check.timer"
HOSTILE = 'a"} 1\nlibvirt_vlan_nics{x="\\'
ALL_WRONG = [
    nic(current={}, vm=HOSTILE), nic(current=None), nic(**REFUSED, current={}), nic(made_plain=True),
    nic(**LEFT_ALONE, current=access(1)), nic(**LEFT_ALONE, waits=True), nic(**{**LEFT_ALONE, "group": "vlan100"}),
    nic(planned=nic(access(47))),
]  # fmt: skip


ALL_BRIDGES = [
    br0(DOES_NOT_FILTER), br0("no bridge"), br0(eth0={}), br0(),
    replace(br0(eth0=access(46)), unused={"eth0": {7: ""}}),
]  # fmt: skip


def found(nics=ALL_WRONG, bridges=ALL_BRIDGES):
    return [*problems(nics, bridges), *notes(nics, bridges)]


def look(nics=(), findings=(), **changes):
    fields = {"hooks": {"network": True, "qemu": False}, "off": False, "watched": True, "seconds": 1700000000.4}
    return Look(list(nics), list(findings), **{**fields, **changes})


def samples(text):
    """Given metrics, return their values by name and labels; each is of a metric with HELP and TYPE lines before."""
    described = re.findall(r"(?m)^# HELP (\S+) [A-Z0-9][A-Za-z]*[a-z ][\w, -]*\.\n# TYPE \1 gauge$", text)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert {re.split(r"[ {]", line)[0] for line in lines} == set(described)
    return dict(line.rpartition(" ")[::2] for line in lines)


def test_json_is_as_its_schema_says_and_has_problems_and_notes_apart():
    shown = json.loads(to_json(found()))

    validate(shown, SCHEMA)
    assert shown["version"] == 1
    assert [one["code"] for one in shown["problems"] + shown["notes"]] == [one.code for one in found()]
    of_the_host = {"firewall-sees-frames", "watch-not-enabled"}
    assert {one["code"] for one in shown["notes"]} == set(NOTES) - of_the_host


@pytest.mark.parametrize(
    "spoil", [{"code": "typo"}, {"mac": "x"}, {"wanted": [{"vlan": 0, "flags": []}]}, {"line": ""}]
)
def test_the_schema_refuses_what_is_no_finding(spoil):
    shown = json.loads(to_json(found()))
    shown["problems"][0].update(spoil)

    with pytest.raises(ValidationError):
        validate(shown, SCHEMA)


def test_json_has_all_that_the_line_has():
    (shown,) = json.loads(to_json(found([nic(current={})], [br0(eth0=access(46))])))["problems"]

    vlans = [{"vlan": 46, "flags": ["PVID", "Egress Untagged"]}]
    assert shown == {
        "code": "wrong-vlans", "vm": "web", "vm_uuid": UUID, "mac": MAC, "tap": "vnet0",
        "bridge": "br0", "wanted": vlans, "current": [], "sentence": "has none instead of 46 pvid untagged on br0",
        "command": "libvirt-vlan sync web",
        "line": f"web {MAC} vnet0 zerotier: has none instead of 46 pvid untagged on br0: libvirt-vlan sync web",
    }  # fmt: skip


def test_json_can_be_read_by_people_too():
    assert to_json([]).startswith('{\n  "version": 1,\n')


def test_json_has_null_for_what_there_is_not():
    (shown,) = json.loads(to_json(found([nic()], [br0("no bridge br0")])))["problems"]

    assert [key for key, value in shown.items() if value is None] == [
        "vm", "vm_uuid", "mac", "tap", "wanted", "current", "command",
    ]  # fmt: skip


def test_every_code_is_in_the_schema_and_in_the_page():
    in_schema = [SCHEMA["properties"][part]["items"]["properties"]["code"]["enum"] for part in ("problems", "notes")]

    assert in_schema == [list(PROBLEMS), list(NOTES)]
    assert re.findall(r"(?m)^\| `([a-z-]+)` \|", PAGE) == [*PROBLEMS, *NOTES]


@pytest.mark.parametrize(
    ("sudo", "status", "first"),
    [
        ('[ "$2" = -l ] || echo "note: br0: …"', 0, "OK: all VMs are in their VLANs"),
        ('[ "$2" = -l ] || { echo "web: wrong | x"; exit 1; }', 2, "web: wrong / x"),
        ('[ "$2" = -l ] || { echo "libvirt-vlan: no answer" >&2; exit 2; }', 3, "libvirt-vlan: no answer"),
        ('echo "sudo: a password is required" >&2; exit 1', 3, "sudo: a password is required"),
    ],
)
def test_the_plugin_translates_the_exit_status_and_does_not_take_sudos_for_a_problem(tmp_path, sudo, status, first):
    (plugin,) = re.findall(r"(?ms)^```sh\n(#!/bin/sh\n.*?)^```$", PAGE)
    (tmp_path / "sudo").write_text(f"#!/bin/sh\n{sudo}\n")
    (tmp_path / "sudo").chmod(0o755)
    done = subprocess.run(
        ["sh"], input=plugin, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, text=True, capture_output=True, check=False
    )

    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (status, first, "")


def test_metrics_count_nics_by_bridge_and_verdict_and_problems_by_code():
    nics = [nic(), nic(), nic(current={}), nic(**LEFT_ALONE, bridge="")]
    said = samples(to_prometheus(look(nics, found(nics, [br0(eth0=access(46))]))))

    assert said['libvirt_vlan_nics{bridge="br0",verdict="right"}'] == "2"
    assert said['libvirt_vlan_nics{bridge="br0",verdict="wrong"}'] == "1"
    assert said['libvirt_vlan_nics{bridge="br0",verdict="not on bridge"}'] == "0"
    assert said['libvirt_vlan_nics{bridge="",verdict="left alone"}'] == "1"
    assert {code: said[f'libvirt_vlan_problems{{code="{code}"}}'] for code in PROBLEMS} == {
        **dict.fromkeys(PROBLEMS, "0"), "wrong-vlans": "1",
    }  # fmt: skip
    assert said['libvirt_vlan_notes{code="no-uplink"}'] == "0"


def test_metrics_say_how_the_hooks_are():
    said = samples(to_prometheus(look(off=True)))

    assert {name: value for name, value in said.items() if "code=" not in name} == {
        'libvirt_vlan_hook_installed{hook="network"}': "1", 'libvirt_vlan_hook_installed{hook="qemu"}': "0",
        "libvirt_vlan_switched_off": "1", "libvirt_vlan_watch_running": "1",
        "libvirt_vlan_last_look_timestamp_seconds": "1700000000",
    }  # fmt: skip


def test_a_vms_name_is_a_label_only_where_something_is_wrong():
    right = to_prometheus(look([nic()], found([nic()], [br0(eth0=access(46))])))
    wrong = to_prometheus(look([nic(current={})], found([nic(current={})], [br0(eth0=access(46))])))

    assert "web" not in right
    about_a_bridge = to_prometheus(look([nic()], found([nic()], [br0(eth0={})])))
    assert "libvirt_vlan_nic_problem" not in about_a_bridge
    labels = f'code="wrong-vlans",vm="web",mac="{MAC}",tap="vnet0",bridge="br0"'
    assert [line for line in wrong.splitlines() if "web" in line] == [f"libvirt_vlan_nic_problem{{{labels}}} 1"]


def test_no_name_breaks_out_of_its_label():
    text = to_prometheus(look(ALL_WRONG, found()))

    (line,) = (line for line in text.splitlines() if 'vm="a' in line)
    assert r'vm="a\"} 1\nlibvirt_vlan_nics{x=\"\\",mac=' in line
    samples(text)


def test_every_metric_is_in_the_page():
    text = to_prometheus(look(ALL_WRONG, found()))

    assert re.findall(r"(?m)^\| `(libvirt_vlan_\w+)", PAGE) == re.findall(r"(?m)^# TYPE (\S+)", text)


PROMTOOL = pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool: tox -e promtool installs it")


@PROMTOOL
@pytest.mark.parametrize("nics", [[], [nic()], ALL_WRONG], ids=["none", "right", "wrong"])
def test_promtool_has_nothing_to_say_about_the_metrics(nics):
    text = to_prometheus(look(nics, found(nics)))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@PROMTOOL
def test_the_alerts_come_when_they_should():
    for words in (
        ["check", "rules", "monitoring/libvirt-vlan.rules.yml"],
        ["test", "rules", "tests/monitoring/rules.test.yml"],
    ):
        done = subprocess.run(["promtool", *words], cwd=REPOSITORY, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_about_metrics_and_codes_that_there_are():
    rules = (REPOSITORY / "monitoring/libvirt-vlan.rules.yml").read_text()
    expressions = "\n".join(re.findall(r"expr: (.*)", rules))
    codes = re.findall(r'code!?[=~]+"([^"]*)"', expressions)

    assert set(re.findall(r"libvirt_vlan_\w+", expressions)) <= set(re.findall(r"libvirt_vlan_\w+", PAGE))
    assert {code for several in codes for code in several.split("|")} <= {*PROBLEMS, "watch-not-running"}


def test_a_file_is_replaced_whole_and_others_can_read_it(tmp_path):
    file = tmp_path / "a.prom"
    file.write_text("old")
    before = os.open(file, os.O_RDONLY)

    textfile.write_whole(str(file), "new ü")

    assert os.read(before, 9) == b"old"  # whoever was reading it
    assert (file.read_text(encoding="utf-8"), file.stat().st_mode & 0o777) == ("new ü", 0o644)
    assert os.listdir(tmp_path) == ["a.prom"]
    os.close(before)


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: os.close(-1))

    with pytest.raises(OSError, match="Bad file"):
        textfile.write_whole(str(tmp_path / "a.prom"), "new")
    assert os.listdir(tmp_path) == []


def test_a_watch_that_runs_is_seen_by_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(installation.tickets, "DIRECTORY", str(tmp_path))
    if not Path("/proc/locks").exists():
        pytest.skip("this machine's kernel has no /proc/locks")
    assert not installation.watch_runs()
    holder = subprocess.Popen(["flock", tmp_path, "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE)
    try:
        holder.stdout.read(1)
        assert installation.watch_runs()
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze on this machine")
@pytest.mark.parametrize("unit", [SERVICE, TIMER], ids=lambda unit: unit.suffix)
def test_systemd_has_nothing_to_say_about_the_units(unit, tmp_path):
    for one in (SERVICE, TIMER):
        text = one.read_text().replace("/usr/local/sbin/libvirt-vlan", "/bin/true")
        (tmp_path / one.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
