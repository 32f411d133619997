# SPDX-License-Identifier: MIT
"""The network hook's main program. Imports nothing of weight: most calls are not ours, and libvirtd waits."""

from __future__ import annotations

import os
import sys

from . import COMMAND_PATH, HookError, log, missing_package

OPERATIONS = ("port-created", "port-deleted", "started", "updated")


def main(arguments: list[str]) -> int:
    """Given libvirt's arguments (network, operation, sub-operation, extra), do what is due, return the exit status.

    Source: libvirt docs/hooks.rst. A daemon of the user's own (qemu:///session) calls the same hook, without the right
    to change a bridge: nothing is done then. Nothing but `port-created` ever fails.
    """
    operation = arguments[1] if len(arguments) > 1 else ""
    if operation not in OPERATIONS or os.geteuid() != 0:
        return 0
    log.start("libvirt-hook-network")
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{COMMAND_PATH}".lstrip(":")
    xml = sys.stdin.buffer.read()
    has_portgroup = b"<group>" in xml  # whatever fails: a VM without is never stopped
    try:
        if operation in ("started", "updated"):
            from .backup import save_network

            save_network(xml)
        else:
            from . import ports

            (ports.port_created if operation == "port-created" else ports.port_deleted)(xml)
    except HookError as error:
        message = str(error)
    except ImportError as error:
        message = missing_package(error.name or str(error))
    except Exception as error:
        message = f"unexpected, please report it: {log.described(error)}"
    else:
        return 0
    return log.refuse(message, operation == "port-created" and has_portgroup)
