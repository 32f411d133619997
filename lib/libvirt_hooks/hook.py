# SPDX-License-Identifier: MIT
"""What all hooks have in common: libvirt's arguments, the user, PATH, stdin, and what becomes of an error.

Imports nothing of weight: most calls are for operations that the hooks do not take, and libvirtd waits.
"""

from __future__ import annotations

import os
import sys

from . import OFF, VERSION, HookError, log, missing_package

TYPE_CHECKING = False  # as typing's, which itself costs libvirtd too much
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    MayStop = Callable[[str, bytes], bool]  # given the operation and the XML, which need not be well-formed

# a daemon started by hand gives its hooks a PATH without /usr/sbin, or none
COMMAND_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    name: str,
    arguments: list[str],
    operations: Mapping[str, Callable[[bytes], None]],
    may_stop: MayStop,
    about: str = "",
) -> int:
    """Given a hook's name and libvirt's arguments (object, operation, sub-operation, extra), return the exit status.

    operations has what to do with the XML on stdin, for each operation that the hook takes. may_stop() returns whether
    a failure may stop libvirt: the hook's own file has the rule, because it must hold where lib is broken, too. Each
    sentence for the operator begins with `about`.
    Nothing is done while the hooks are switched off. A daemon of the user's own (qemu:///session) calls the same hooks
    without the right to change a bridge: nothing is done then either. Source: libvirt, docs/hooks.rst.
    """
    operation = arguments[1] if len(arguments) > 1 else ""
    if operation not in operations or os.geteuid() != 0:
        return 0
    set_up(f"libvirt-hook-{name}")
    if os.path.exists(OFF):
        log.warning(f"{arguments[0]}: {operation}: nothing done: switched off with libvirt-vlan off")
        return 0
    log.debug(f"{operation}: libvirt-hooks {VERSION}")
    xml = sys.stdin.buffer.read()
    refuses = False
    try:
        operations[operation](xml)
    except HookError as error:
        sentence, refuses = str(error), error.refuses
    except ImportError as error:
        sentence = missing_package(error.name or str(error))
    except Exception as error:
        sentence = f"internal error, please report it: {log.described(error)}"
    else:
        return 0
    log.error(f"{about}{sentence}")
    print(log.one_line(f"{about}{sentence}"), file=sys.stderr)  # libvirt shows it to its user if the status is not 0
    return 1 if refuses or may_stop(operation, xml) else 0


def set_up(ident: str) -> None:
    """Have each log line carry this name, and the commands be found whatever PATH the daemon has."""
    log.start(ident)
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{COMMAND_PATH}".lstrip(":")
