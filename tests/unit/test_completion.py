# SPDX-License-Identifier: MIT
"""The completion of libvirt-vlan, as bash and zsh take it: keys are typed, and what the command is given is read."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("shtab")
REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = [
    "web", "web server", "it's", 'a"b', "$(touch injected)", "`touch injected`", "x;touch injected", "x&&y", "*",
    "[a]?", "back\\slash", "-dash", "~", "#hash", "a:b", "a=b", "a@b", "!x", "ümlaut", "{a,b}", "a  b", "$HOME", "x\ty",
]  # fmt: skip
# how each shell is to take keys from us alone, and its completion
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SET_UP = {
    "bash": "PS1= PS2=; HISTFILE=; bind 'set bell-style none'; . completion/libvirt-vlan\n",
    "zsh": "PS1= PS2=; unsetopt prompt_sp; unset zle_bracketed_paste; fpath=($PWD/completion $fpath)\n"
    "autoload -Uz compinit; compinit -u -D\n",
}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request, tmp_path_factory):
    """Give a shell's name and a directory with its completion, and a virsh that names the VMs in a file there."""
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    directory = tmp_path_factory.mktemp(request.param)
    (directory / "completion").mkdir()
    subprocess.run([sys.executable, REPOSITORY / "completion/build.py", directory / "completion"], check=True)
    (directory / "virsh").write_text(
        '#!/bin/sh\n[ "$*" = "-q -r -c qemu:///system list --name --all" ] && cat all\n'
        '[ "$*" = "-q -r -c qemu:///system list --name" ] && cat running\n'
        '[ "$*" = "-q -r -c lxc:///system list --name" ] && echo box\n'
    )
    (directory / "libvirt-vlan").write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >given\n')
    for program in ("virsh", "libvirt-vlan"):
        (directory / program).chmod(0o755)
    (directory / "all").write_text("\n".join(NAMES) + "\n")
    (directory / "running").write_text("web\n")
    return request.param, directory


def typed(shell, *lines):
    """Given a shell and, for each line, the names of the VMs and keys, return the words that libvirt-vlan is given.

    All in one session, because a shell takes a while to start. None: the command is not run.
    """
    name, directory = shell
    environment = {"PATH": f"{directory}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(directory)}
    environment.update(LC_ALL="C.UTF-8", INPUTRC="/dev/null")
    try:
        process, terminal = pty.fork()
    except OSError as error:
        pytest.fail(f"a shell needs a terminal ({error}): mount -t devpts devpts /dev/pts -o ptmxmode=0666")
    if process == 0:
        os.chdir(directory)
        os.execvpe(SHELLS[name][0], SHELLS[name], environment)
    try:
        os.write(terminal, f"{SET_UP[name]}touch fin\n".encode())
        until_there(directory / "fin", terminal)
        return [words(directory, terminal, names, keys) for names, keys in lines]
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def words(directory, terminal, names, keys):
    given = directory / "given"
    given.unlink(missing_ok=True)
    (directory / "all").write_text("".join(f"{name}\n" for name in names))
    os.write(terminal, f"libvirt-vlan {keys}\ntouch fin\n".encode())
    until_there(directory / "fin", terminal)
    return given.read_text().split("\0")[:-1] if given.exists() else None


def until_there(file, terminal):
    """Wait for this file, and remove it; meanwhile read what the terminal shows, or the shell could not go on."""
    seen, deadline = "", time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"the terminal has shown: {seen}"
        if select.select([terminal], [], [], 0.02)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    file.unlink()


def test_a_name_is_completed_as_it_is_whatever_is_in_it(shell):
    lines = [([name], "plan \t") for name in NAMES]

    assert typed(shell, *lines) == [["plan", name] for name in NAMES]
    assert not (shell[1] / "injected").exists()


def test_what_is_typed_so_far_is_completed(shell):
    odd = ["web", "web server", "db 'main'", "x$y"]
    lines = {
        "pl\tweb\\ \t": ["plan", "web server"],
        "plan 'web \t": ["plan", "web server"],
        'plan "web \t': ["plan", "web server"],
        'plan "x\t': ["plan", "x$y"],
        "plan 'x\t": ["plan", "x$y"],
        'plan "db\t': ["plan", "db 'main'"],
        "plan nobody\t": ["plan", "nobody"],
        "show --j\t": ["show", "--json"],
        "sync --dry\tw\t": ["sync", "--dry-run", "web"],  # only web runs
        "sync web w\t": ["sync", "web", "web"],  # as many as are wanted
        "sync b\t": ["sync", "box"],  # a container
        "vl\t--j\t46": ["vlans", "--json", "46"],
        "show w\t": ["show", "w"],  # takes no VM
    }

    assert typed(shell, *((odd, keys) for keys in lines)) == list(lines.values())


def test_a_directory_of_that_name_makes_no_difference(shell):
    (shell[1] / "webdir").mkdir(exist_ok=True)

    assert typed(shell, (["webdir"], "plan web\t")) == [["plan", "webdir"]]


def test_without_libvirt_nothing_is_completed_and_nothing_said(shell):
    (shell[1] / "virsh").rename(shell[1] / "no-virsh")
    try:
        assert typed(shell, ([], "plan web\t")) == [["plan", "web"]]
    finally:
        (shell[1] / "no-virsh").rename(shell[1] / "virsh")
