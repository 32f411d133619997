#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An Ansible module: the hooks, their modules, the tool, its man page and units, as `make install` or `make uninstall`.

Not a `copy` for each file: that takes many seconds, and a VM that starts meanwhile would meet half of two releases.
"""

import glob
import os
import shutil
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: libvirt_hooks_files
short_description: Install or remove the files of libvirt-hooks
description:
  - Does what C(make install) or C(make uninstall) would do in a checkout on the host.
  - If the host has the Python package shtab, that includes the completion of C(libvirt-vlan) for bash and zsh.
  - Another tool's hook stays. Ours is then installed beside it, for example as C(network.d/50-vlan).
options:
  state:
    description: Whether the files are to be there.
    choices: [present, absent]
    default: present
  files:
    description: The contents of the files, by their paths in a checkout.
    type: dict
    required: true
"""
RETURN = """
restart:
  description: Whether a file that libvirt calls was changed. A daemon looks for those when it starts.
  type: bool
units:
  description: The systemd units of ours that are there now.
  type: list
  elements: str
"""

HOOKS_DIR = "/etc/libvirt/hooks"
LIB = f"{HOOKS_DIR}/lib/libvirt_hooks"
TURNS = (f"{LIB}-1", f"{LIB}-2")  # LIB is a link into one of them; what a hook has found there stays for one more run
TOOL, MAN_PAGE = "/usr/local/sbin/libvirt-vlan", "/usr/local/share/man/man8/libvirt-vlan.8"
UNITS = "/usr/local/lib/systemd/system"
# Where the shells look for what completion/build.py makes, and its name for that.
COMPLETIONS = {
    "/usr/local/share/bash-completion/completions/libvirt-vlan": "libvirt-vlan",
    "/usr/local/share/zsh/site-functions/_libvirt-vlan": "_libvirt-vlan",
}
DROP_IN = "/etc/systemd/system/libvirt-vlan-check.service.d/ansible.conf"
# Where the files of a checkout's directories go, and their mode.
PLACES = {
    "hooks": (HOOKS_DIR, 0o755),
    "lib/libvirt_hooks": (LIB, 0o644),
    "lib/libvirt_hooks/tool": (f"{LIB}/tool", 0o644),
    "sbin": (os.path.dirname(TOOL), 0o755),
    "man": (os.path.dirname(MAN_PAGE), 0o644),
    "systemd": (UNITS, 0o644),
    "libvirt-vlan-check.service.d": (os.path.dirname(DROP_IN), 0o644),  # which no checkout has
}
# What libvirt calls, and for which hook.
HOOK_FILES = {f"{HOOKS_DIR}/{hook}{place}": hook for hook in ("network", "qemu", "lxc") for place in ("", ".d/50-vlan")}
PYTHON = "/usr/bin/python3"  # the hooks' own
ROOT = (0, 0)


def main():
    """Compare what is there with what is to be, and change it, unless this is check mode."""
    module = AnsibleModule(
        {
            "state": {"choices": ["present", "absent"], "default": "present"},
            "files": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    present = module.params["state"] == "present"
    os.umask(0o022)
    try:
        files = module.params["files"]
        wanted = {**wanted_files(files), **completions(module, files)} if present else {}
        found = {path: read(path) for path in sorted({*wanted, *ours()})}
        changes = {path: wanted.get(path) for path in found if found[path] != wanted.get(path)}
        unsafe = unsafe_directories() if present else []
        if not module.check_mode:
            if not present:
                stop_units(module)
            for directory in unsafe:
                make_safe(directory)
            steps = [lambda: exchange_modules(module, wanted, changes), lambda: change_others(changes)]
            for step in steps if present else reversed(steps):  # never a hook without its modules
                step()
        there = [os.path.basename(path) for path in our_units()]
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    restart = any(path in HOOK_FILES for path in changes)
    result = {"changed": bool(changes or unsafe), "restart": restart, "units": there}
    if module._diff:
        result["diff"] = [diff(path, found[path], new) for path, new in changes.items()]
        result["diff"] += [diff_of_directory(directory) for directory in unsafe]
    # without the contents of the files, which Ansible would show with -vvv
    module.exit_json(**result, invocation={"module_args": {"state": module.params["state"]}})


def wanted_files(files):
    """Given contents by path in a checkout, return (content, mode, owner) by path on the host."""
    wanted = {}
    for source, content in files.items():
        directory, name = os.path.split(source)
        if directory == "completion":
            continue
        target, mode = PLACES[directory]
        path = f"{target}/{name}"
        if path in HOOK_FILES and os.path.exists(path) and not is_ours(path):
            path += ".d/50-vlan"
        wanted[path] = (content, mode, ROOT)
    return wanted


def completions(module, files):
    """Given contents by path in a checkout, return the completions of the tool as wanted_files() does.

    They are made here, of the tool's parser by shtab, as make install does it; none are without shtab.
    """
    with tempfile.TemporaryDirectory() as directory:
        for source, content in files.items():
            if source.startswith(("lib/", "completion/")):
                os.makedirs(os.path.dirname(f"{directory}/{source}"), exist_ok=True)
                with open(f"{directory}/{source}", "w", encoding="utf-8") as out:
                    out.write(content)
        status, _, _ = module.run_command([PYTHON, "-IB", f"{directory}/completion/build.py", directory])
        if status != 0:
            return {}
        return {path: (read(f"{directory}/{name}")[0], 0o644, ROOT) for path, name in COMPLETIONS.items()}


def ours():
    """Return the paths of the files of ours that are there, an older release's modules too."""
    paths = [path for path in HOOK_FILES if is_ours(path)]
    paths += [path for path in (TOOL, MAN_PAGE, DROP_IN, *COMPLETIONS, *our_units()) if os.path.lexists(path)]
    for directory, below, names in os.walk(LIB):
        below[:] = [name for name in below if name != "__pycache__"]
        paths += [f"{directory}/{name}" for name in names]
    return paths


def our_units():
    """Return the paths of the units of ours that are there."""
    return sorted(glob.glob(f"{UNITS}/libvirt-vlan-*"))


def stop_units(module):
    """Have systemd, if it is there, stop and forget the units of ours, whose files then can go."""
    units = [os.path.basename(path) for path in our_units()]
    if units and module.get_bin_path("systemctl"):
        module.run_command(["systemctl", "disable", "--now", *units])


def is_ours(path):
    """Given where a hook can be, return whether it is ours: it imports our main program."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return f"from libvirt_hooks.{HOOK_FILES[path]} import main".encode() in file.read()


def read(path):
    """Given a path, return (content, mode, owner) of what is there, None if nothing is."""
    if not os.path.lexists(path):
        return None
    status = os.lstat(path)  # a symbolic link is not what is wanted, whatever it leads to
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read()
    except FileNotFoundError:
        content = ""
    return content, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)


def exchange_modules(module, wanted, changes):
    """Given what is wanted and what of it changes, have all modules be the wanted ones, at once."""
    if not any(path.startswith(LIB) for path in changes):
        return
    modules = {path: file for path, file in wanted.items() if path.startswith(LIB)}
    if not modules:
        for path in (LIB, *TURNS):
            remove_tree(path)
        remove_if_empty(os.path.dirname(LIB))
        return
    new, old = TURNS
    if os.path.realpath(LIB).startswith(f"{os.path.realpath(new)}/"):
        new, old = old, new
    remove_tree(new)
    package = f"{new}/{os.path.basename(LIB)}"
    for path, file in modules.items():
        write(f"{package}{path[len(LIB) :]}", file)
    module.run_command([PYTHON, "-m", "compileall", "-q", "-d", LIB, package], check_rc=True)
    link = f"{LIB}.new"
    remove_tree(link)
    os.symlink(os.path.relpath(package, os.path.dirname(LIB)), link)
    if os.path.isdir(LIB) and not os.path.islink(LIB):  # copied by hand
        remove_tree(old)
        os.rename(LIB, old)
    os.replace(link, LIB)


def remove_tree(path):
    """Given the path of a directory or a link, remove it if it is there."""
    if os.path.islink(path):
        os.unlink(path)
    shutil.rmtree(path, ignore_errors=True)


def change_others(changes):
    """Given what changes, write and remove all but the modules."""
    for path, file in changes.items():
        if path.startswith(LIB):
            continue
        if file:
            write(path, file)
        else:
            os.unlink(path)
            if path.endswith(".d/50-vlan") or path in (MAN_PAGE, DROP_IN, *COMPLETIONS):
                remove_if_empty(os.path.dirname(path))
            if path.startswith(UNITS) and not our_units():
                remove_if_empty(UNITS)
                remove_if_empty(os.path.dirname(UNITS))


def write(path, file):
    """Given a path and (content, mode, owner), have that there, whole or not at all."""
    content, mode, owner = file
    directory, name = os.path.split(path)
    os.makedirs(directory, exist_ok=True)
    # beside NAME.d, not in it: libvirt runs all that is there
    new = f"{HOOKS_DIR}/.{name}.new" if path in HOOK_FILES else f"{directory}/.{name}.new"
    with open(new, "w", encoding="utf-8") as out:
        out.write(content)
    os.chown(new, *owner)
    os.chmod(new, mode)
    os.replace(new, path)


def remove_if_empty(directory):
    """Given a directory, remove it unless there is something in it."""
    if os.path.isdir(directory) and not os.listdir(directory):
        os.rmdir(directory)


def unsafe_directories():
    """Return the directories of the hooks that others than root can write."""
    directories = [HOOKS_DIR, os.path.dirname(LIB), LIB, *TURNS, *(os.path.dirname(path) for path in HOOK_FILES)]
    there = [directory for directory in sorted(set(directories)) if os.path.isdir(directory)]
    return [directory for directory in there if os.stat(directory).st_uid != 0 or os.stat(directory).st_mode & 0o022]


def make_safe(directory):
    """Given a directory, let nobody but root write to it."""
    os.chown(directory, *ROOT)
    os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) & ~0o022)


def diff(path, old, new):
    """Given a path and (content, mode, owner) before and after, None for nothing, return what --diff shows."""
    texts = [file[0] if file else "" for file in (old, new)]
    if old and new and old[0] == new[0]:
        texts = [f"mode {mode:04o}, owner {uid}:{gid}\n" for _, mode, (uid, gid) in (old, new)]
    headers = [path if file else "/dev/null" for file in (old, new)]
    return dict(zip(("before_header", "after_header", "before", "after"), headers + texts))


def diff_of_directory(directory):
    """Given a directory that others can write, return what --diff shows of it."""
    before, after = "others than root can write to it\n", "only root can write to it\n"
    return {"before_header": directory, "after_header": directory, "before": before, "after": after}


if __name__ == "__main__":
    main()
