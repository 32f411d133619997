# SPDX-License-Identifier: MIT
"""What `check` finds, for programs: JSON, and metrics in Prometheus' text format. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .model import NOTES, PROBLEMS, VERDICTS, Finding, NicState, verdict
from .table import vlans_as_json

JSON_VERSION = 1  # of docs/libvirt-vlan-check.schema.json: a new field leaves it, a changed or removed one does not
# source: https://prometheus.io/docs/instrumenting/exposition_formats/, "Comments, help text, and type information"
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True)
class Look:
    """What one look at the host has found."""

    nics: list[NicState]  # of all running VMs
    findings: list[Finding]
    hooks: dict[str, bool]  # by name, whether libvirt can call ours
    off: bool  # the hooks are switched off
    watched: bool  # libvirt-vlan watch runs
    seconds: float  # since 1970


def to_json(findings: list[Finding]) -> str:
    """Given findings, return them as JSON, as docs/libvirt-vlan-check.schema.json describes it."""
    problems = [_object(finding) for finding in findings if not finding.is_note]
    notes = [_object(finding) for finding in findings if finding.is_note]
    return json.dumps({"version": JSON_VERSION, "problems": problems, "notes": notes}, indent=2)


def to_prometheus(look: Look) -> str:
    """Given a look at the host, return metrics for the textfile collector of Prometheus' node_exporter.

    Each code and verdict is there even if its number is 0. Names of VMs are labels only where something is wrong: each
    name is a time series of its own.
    """
    verdicts = Counter((nic.port.bridge, verdict(nic)) for nic in look.nics)
    bridges = sorted({nic.port.bridge for nic in look.nics})
    codes = Counter(finding.code for finding in look.findings)
    wrong = {_labels_of(finding): 1 for finding in look.findings if finding.mac and not finding.is_note}
    metrics = [
        _gauge("nics", "NICs of running VMs, by bridge and verdict.", {
            _labels(bridge=bridge, verdict=word): verdicts[bridge, word] for bridge in bridges for word in VERDICTS
        }),
        _gauge("problems", "Problems that libvirt-vlan check reports, by code.", _by_code(PROBLEMS, codes)),
        _gauge("notes", "Notes of libvirt-vlan check, possibly intentional, by code.", _by_code(NOTES, codes)),
        _gauge("nic_problem", "1 for each NIC that has this problem.", wrong),
        _gauge("hook_installed", "Whether libvirt can find this hook.", {
            _labels(hook=hook): int(there) for hook, there in look.hooks.items()
        }),
        _gauge("switched_off", "Whether the hooks are switched off by libvirt-vlan off.", {"": int(look.off)}),
        _gauge("watch_running", "Whether libvirt-vlan watch runs.", {"": int(look.watched)}),
        _gauge("last_look_timestamp_seconds", "When libvirt-vlan last looked at this host, in seconds since 1970.", {
            "": round(look.seconds)
        }),
    ]  # fmt: skip
    return "".join(metrics)


def _object(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "vm": finding.vm or None,
        "vm_uuid": finding.vm_uuid or None,
        "mac": finding.mac or None,
        "tap": finding.tap or None,
        "bridge": finding.bridge or None,
        "wanted": vlans_as_json(finding.wanted),
        "current": vlans_as_json(finding.current),
        "sentence": finding.sentence,
        "command": finding.command or None,
        "line": finding.line,
    }


def _by_code(codes: tuple[str, ...], found: Counter[Any]) -> dict[str, int]:
    return {_labels(code=code): found[code] for code in codes}


def _labels_of(finding: Finding) -> str:
    return _labels(code=finding.code, vm=finding.vm, mac=finding.mac, tap=finding.tap, bridge=finding.bridge)


def _labels(**labels: str) -> str:
    """Given labels, return them as Prometheus reads them, whatever a value has in it."""
    return "{" + ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in labels.items()) + "}"


def _gauge(name: str, says: str, values: dict[str, int]) -> str:
    """Given a metric's name, what it says and its values by labels, return its lines, none if it has no values."""
    full = f"libvirt_vlan_{name}"
    lines = [f"# HELP {full} {says}", f"# TYPE {full} gauge", *(f"{full}{which} {n}" for which, n in values.items())]
    return "".join(f"{line}\n" for line in lines) if values else ""
