# SPDX-License-Identifier: MIT
"""The qemu hook's main program. Imports nothing of weight: most calls are not ours, and libvirtd waits."""

from __future__ import annotations

import os
import sys

from . import COMMAND_PATH, HookError, log, missing_package

OPERATIONS = ("prepare", "start")


def main(arguments: list[str]) -> int:
    """Given libvirt's arguments (domain, operation, sub-operation, extra), do what is due, return the exit status.

    Source: libvirt docs/hooks.rst. Nothing is ever written to stdout, which libvirt would take for XML in `migrate` and
    `restore`. Nothing but `start` ever fails: in `reconnect` libvirt would kill the VM.
    """
    operation = arguments[1] if len(arguments) > 1 else ""
    if operation not in OPERATIONS or os.geteuid() != 0:
        return 0
    log.start("libvirt-hook-qemu")
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{COMMAND_PATH}".lstrip(":")
    xml = sys.stdin.buffer.read()
    try:
        if operation == "prepare":
            from .backup import save_definition

            save_definition("qemu", xml)
        else:
            from .join import make_ports_right

            make_ports_right(xml)
    except HookError as error:
        message = str(error)
    except ImportError as error:
        message = missing_package(error.name or str(error))
    except Exception as error:
        message = f"unexpected, please report it: {log.described(error)}"
    else:
        return 0
    return log.refuse(f"VM {arguments[0]}: {message}", operation == "start" and _concerns_us(xml))


def _concerns_us(xml: bytes) -> bool:
    """Given a domain's XML, return whether one of its ports has a ticket. Independent of all that may have failed."""
    try:
        uuids = [name.partition(".")[2].encode() for name in os.listdir("/run/libvirt-hooks")]
    except OSError:
        return False
    return any(uuid and uuid in xml for uuid in uuids)
