# SPDX-License-Identifier: MIT
"""libvirt hooks that put a VM's taps into their wanted VLANs.

The modules, from the XML that libvirt sends to the commands that are typed:
network, qemu, lxc (the hooks' main programs) and hook (what they have in common); hookdata, elements, metadata, wanted,
vlans (pure); ports, tickets, detach, taps, retries, bridge; join for the qemu and lxc hooks, backup for the qemu hook;
interfaces, containers, veths; beside them sysfs, statefiles and log. The tool libvirt-vlan is in tool/, and the hooks
never import from there.

What runs while libvirtd waits imports as little as it can: no dataclasses, typing, pathlib, json, logging
(each costs libvirtd about as much as Python's own start).
"""

VERSION = "1.0.0"
OFF = "/run/libvirt-hooks.off"  # while this file is there, the hooks do nothing; hooks/* name it, too
# what to do if the system gives no process, no thread or no open file
LACKING = "check the host's processes and free memory, and try again"


class HookError(Exception):
    """What the operator must know: one sentence that says what is wrong and what to do.

    Raised anywhere, caught once, in hook.run(): there it becomes a log line, the line on stderr that libvirt
    shows, and exit status 1. refuses says that this VM must not start, whatever else is known of it.
    """

    def __init__(self, message: str, refuses: bool = False) -> None:
        """Given the sentence, and whether it is about a NIC that has wanted VLANs, be that error."""
        super().__init__(message)
        self.refuses = refuses


def missing_package(name: str) -> str:
    """Given the name of a module that cannot be imported, return the sentence that says what to install."""
    package = name.partition(".")[0]
    return (
        f"the Python package {package} cannot be imported: install it with "
        f"apt install python3-{package} or dnf install python3-{package}"
    )
