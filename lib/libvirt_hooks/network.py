# SPDX-License-Identifier: MIT
"""The network hook's main program. Imports nothing of weight: most calls are not ours, and libvirtd waits."""

from __future__ import annotations

import os
import sys

from . import HookError, log, missing_package

OPERATIONS = ("port-created", "port-deleted")
COMMAND_DIRECTORIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where the daemon has no PATH


def main(arguments: list[str]) -> int:
    """Given libvirt's arguments (network, operation, sub-operation, extra), do what is due, return the exit status.

    Source: libvirt docs/hooks.rst. A daemon of the user's own (qemu:///session) calls the same hook, without the right
    to change a bridge: nothing is done then.
    """
    operation = arguments[1] if len(arguments) > 1 else ""
    if operation not in OPERATIONS or os.geteuid() != 0:
        return 0
    log.start("libvirt-hook-network")
    os.environ.setdefault("PATH", COMMAND_DIRECTORIES)
    xml = sys.stdin.buffer.read()
    try:
        from . import ports

        (ports.port_created if operation == "port-created" else ports.port_deleted)(xml)
    except HookError as error:
        return _refuse(str(error))
    except ImportError as error:
        return _refuse(missing_package(error.name or str(error)))
    except Exception as error:  # ours: it must not stop a VM that has no portgroup
        _refuse(f"unexpected, please report it: {log.described(error)}")
        return 1 if b"<group>" in xml else 0
    return 0


def _refuse(message: str) -> int:
    log.error(message)
    print(log.one_line(message), file=sys.stderr)
    return 1
