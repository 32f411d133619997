# SPDX-License-Identifier: MIT
"""The lxc hook: which operations it takes, and what it does for each.

Each operation imports what it needs: libvirtd waits, and most calls need nothing.
"""

from __future__ import annotations

from . import hook


def main(arguments: list[str], may_stop: hook.MayStop) -> int:
    """Given libvirt's arguments (container, operation, sub-operation, extra), do what is due, return exit status."""
    operations = {"prepare": _prepare, "start": _start}
    return hook.run("lxc", arguments, operations, may_stop, f"container {''.join(arguments[:1])}: ")


def _prepare(xml: bytes) -> None:
    from .container_starts import note_start
    from .hookdata import parse_identity

    note_start(parse_identity(xml).uuid)


def _start(xml: bytes) -> None:
    from .container_starts import forget_start
    from .guest_start import before_guest_runs
    from .hookdata import parse_identity

    forget_start(parse_identity(xml).uuid)
    before_guest_runs(xml)
