#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the completion of libvirt-vlan for bash and for zsh, made from its parser by shtab: for make install.

    completion/build.py DIRECTORY

There, libvirt-vlan is for bash, _libvirt-vlan for zsh: each shell looks for these names.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

try:
    import shtab

    from libvirt_hooks.tool.command import parser
except ImportError as error:
    sys.exit(f"No completion for bash and zsh: {error}: apt install python3-{error.name}, then again")

OF_DEFINED_VMS = ("plan",)  # the verbs whose VMs need not run; all others are about running VMs


def main() -> None:
    """Write both into the directory that the command line names."""
    (directory,) = map(Path, sys.argv[1:])
    (directory / "libvirt-vlan").write_text(f"{completion('bash')}\n{(HERE / 'quoting.bash').read_text()}")
    # shtab's own would complete the first of several VMs, and no other
    (directory / "_libvirt-vlan").write_text(completion("zsh").replace('"(*)::', '"*:'))


def completion(shell: str) -> str:
    """Given a shell, return what shtab makes of the parser, with the functions that name VMs."""
    top = parser()
    (verbs,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    for verb in verbs._choices_actions:
        of_verb = verbs.choices[verb.dest]
        of_verb.description = verb.help  # zsh shows it beside the verb
        for action in of_verb._actions:
            if action.metavar == "VM":
                function = f"_libvirt_vlan_{'defined' if verb.dest in OF_DEFINED_VMS else 'running'}"
                setattr(action, "complete", {shell: function})  # noqa: B010 # what shtab looks for
            elif action.metavar and shell == "zsh":  # no word for it: without the brackets, no option either
                setattr(action, "complete", {shell: "()"})  # noqa: B010
    names_of_vms = (HERE / f"vms.{shell}").read_text()
    return str(shtab.complete(top, shell=shell, preamble={shell: names_of_vms}))


if __name__ == "__main__":
    main()
