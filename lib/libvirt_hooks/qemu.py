# SPDX-License-Identifier: MIT
"""The qemu hook: which operations it takes, and what it does for each.

Each operation imports what it needs: libvirtd waits, and most calls need nothing.
"""

from __future__ import annotations

from . import hook


def main(arguments: list[str], may_stop: hook.MayStop) -> int:
    """Given libvirt's arguments (domain, operation, sub-operation, extra), do what is due, return the exit status.

    Nothing is ever written to stdout, which libvirt takes for XML in `migrate` and `restore`.
    """
    return hook.run("qemu", arguments, {"prepare": _save, "start": _start}, may_stop, f"VM {''.join(arguments[:1])}: ")


def _save(xml: bytes) -> None:
    from .backup import save_detached

    save_detached("qemu", xml)


def _start(xml: bytes) -> None:
    from .guest_start import before_guest_runs

    before_guest_runs(xml)
