# SPDX-License-Identifier: MIT
"""libvirt hooks that put a VM's taps into their wanted VLANs.

docs/how-it-works.md follows one start through the modules, and says what each of them owns.

What runs while libvirtd waits imports as little as it can: no dataclasses, typing, pathlib, json, logging
(each costs libvirtd about as much as Python's own start).
"""

VERSION = "1.1.0"
OFF = "/run/libvirt-hooks.off"  # while this file is there, the hooks do nothing; hooks/* name it, too
# what to do if the system gives no process, no thread or no open file
LACKING = "check the host's processes and free memory, and try again"


class HookError(Exception):
    """What the operator must know: one sentence that says what is wrong and what to do.

    What stops libvirt is caught in hook.run(): there the error becomes a log line and the line on stderr
    that libvirt shows. The exit status is 1 if the error refuses the guest, or if the hook may stop libvirt.
    """

    def __init__(self, message: str, refuses: bool = False) -> None:
        """Given the sentence, and whether this guest must not start, whatever else is known of it, be that error."""
        super().__init__(message)
        self.refuses = refuses


def missing_package(name: str) -> str:
    """Given the name of a module that cannot be imported, return the sentence that says what to install."""
    package = name.partition(".")[0]
    return (
        f"the Python package {package} cannot be imported: install it with "
        f"apt install python3-{package} or dnf install python3-{package}"
    )
