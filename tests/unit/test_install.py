# SPDX-License-Identifier: MIT
"""make install and make uninstall, into a directory that stands for /."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULES = list(REPOSITORY.glob("lib/libvirt_hooks/**/*.py"))
UNITS = sorted(REPOSITORY.glob("systemd/*"))
FOREIGN = "#!/bin/sh\nexit 0\n"
# Each of our hooks has a line that imports its main program. Shell, make and Python search for that line, and cannot
# share the search: so each of these files has a pattern of its own.
IS_OURS = {
    "Makefile": r"from libvirt_hooks\.$(1) import main",
    "debian/hook": r"from libvirt_hooks\.$hook import main",
    "debian/postinst": r"from libvirt_hooks\.$hook import main",
    "debian/postrm": r"from libvirt_hooks\.$hook import main",
    "rpm/libvirt-hooks.spec": r"from libvirt_hooks\.$hook import main",
    "lib/libvirt_hooks/tool/installation.py": "from libvirt_hooks.{hook} import main",
    "ansible/roles/libvirt_hooks/library/libvirt_hooks_files.py": "from libvirt_hooks.{HOOK_FILES[path]} import main",
}
COMPLETION = ("bash-completion/completions/libvirt-vlan", "zsh/site-functions/_libvirt-vlan")


@pytest.fixture
def hooks(tmp_path):
    """Give the hooks' directory below tmp_path, as a distribution ships it: there, and empty."""
    directory = tmp_path / "etc/libvirt/hooks"
    directory.mkdir(parents=True)
    return directory


def make(target, root, shtab_python="/usr/bin/python3 -S"):
    """Return what make says. Without its site directories, Python has no shtab, whether it is installed or not."""
    command = ["make", "-C", REPOSITORY, target, f"DESTDIR={root}", f"SHTAB_PYTHON={shtab_python}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def below(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize(("file", "asks"), IS_OURS.items(), ids=IS_OURS)
def test_whoever_asks_whether_a_hook_is_ours_asks_for_a_line_that_it_has(file, asks):
    line = re.sub(r"\$\(1\)|\$hook|{.*}", "%s", asks.replace("\\.", "."))
    assert asks in (REPOSITORY / file).read_text()
    for hook in (REPOSITORY / "hooks").iterdir():
        assert f"{line % hook.name}\n" in hook.read_text()


def test_the_hooks_their_lib_the_tool_and_its_man_page_are_installed(tmp_path, hooks):
    said = make("install", tmp_path)

    ours = "lib/libvirt_hooks-1/libvirt_hooks"
    modules = [file.relative_to(REPOSITORY / "lib/libvirt_hooks") for file in MODULES]
    directories = ["lib", "lib/libvirt_hooks", "lib/libvirt_hooks-1", ours, f"{ours}/tool"]
    assert below(hooks) == sorted([*directories, *(f"{ours}/{name}" for name in modules), "lxc", "network", "qemu"])
    assert all((hooks / "lib/libvirt_hooks" / name).is_file() for name in modules)
    assert below(tmp_path / "usr") == [
        "local", "local/lib", "local/lib/systemd", "local/lib/systemd/system",
        *(f"local/lib/systemd/system/{unit.name}" for unit in UNITS), "local/sbin", "local/sbin/libvirt-vlan",
        "local/share", "local/share/man", "local/share/man/man8", "local/share/man/man8/libvirt-vlan.8",
    ]  # fmt: skip
    assert "systemctl restart " in said


def test_what_is_installed_is_the_installers_and_nobody_elses_to_write(tmp_path, hooks):
    umask = os.umask(0)
    try:
        make("install", tmp_path)
    finally:
        os.umask(umask)

    for path in [*hooks.rglob("*"), tmp_path / "usr/local/sbin/libvirt-vlan"]:
        assert path.stat().st_uid == os.getuid()
        assert path.stat().st_mode & 0o022 == 0, path
    for hook in ("network", "qemu", "lxc"):
        assert (hooks / hook).stat().st_mode & 0o777 == 0o755


def test_uninstalling_leaves_everything_as_it_was(tmp_path, hooks):
    (hooks / "daemon").write_text(FOREIGN)
    make("install", tmp_path)
    metrics = tmp_path / "var/lib/prometheus/node-exporter/libvirt-vlan.prom"
    metrics.parent.mkdir(parents=True)
    metrics.touch()
    make("uninstall", tmp_path)

    assert below(hooks) == ["daemon"]
    assert [path for path in (tmp_path / "usr").rglob("*") if path.is_file()] == []
    assert not metrics.exists()


def test_another_tools_hook_of_that_name_stays(tmp_path, hooks):
    (hooks / "network").write_text(FOREIGN)
    said = make("install", tmp_path)

    assert (hooks / "network").read_text() == FOREIGN
    assert (hooks / "network.d/50-vlan").read_text() == (REPOSITORY / "hooks/network").read_text()
    assert "network belongs to another tool and stays: installed as " in said
    assert (hooks / "qemu").read_text() == (REPOSITORY / "hooks/qemu").read_text()

    make("uninstall", tmp_path)
    assert below(hooks) == ["network"]
    assert (hooks / "network").read_text() == FOREIGN


def test_once_the_other_tools_hook_is_gone_ours_is_installed_once(tmp_path, hooks):
    (hooks / "network").write_text(FOREIGN)
    make("install", tmp_path)
    (hooks / "network").unlink()
    make("install", tmp_path)

    assert (hooks / "network").exists()
    assert not (hooks / "network.d/50-vlan").exists()


def test_another_tools_scripts_in_the_directory_stay(tmp_path, hooks):
    (hooks / "network.d").mkdir()
    (hooks / "network.d/10-firewall").write_text(FOREIGN)
    make("install", tmp_path)
    make("uninstall", tmp_path)

    assert below(hooks) == ["network.d", "network.d/10-firewall"]


def test_an_upgrade_leaves_no_module_of_the_older_release(tmp_path, hooks):
    make("install", tmp_path)
    (hooks / "lib/libvirt_hooks/old.py").write_text("raise SystemExit\n")
    make("install", tmp_path)

    assert not (hooks / "lib/libvirt_hooks/old.py").exists()


def test_what_a_hook_has_found_stays_until_the_next_install_but_one(tmp_path, hooks):
    make("install", tmp_path)
    found = (hooks / "lib/libvirt_hooks").resolve()
    (found / "old.py").touch()
    make("install", tmp_path)
    assert (found / "old.py").exists()
    make("install", tmp_path)

    assert not (found / "old.py").exists()
    assert len(list((hooks / "lib").iterdir())) == 3  # the link, and one directory for each of two installs


def test_a_copy_by_hand_is_upgraded_and_goes_with_the_next_install(tmp_path, hooks):
    shutil.copytree(REPOSITORY / "lib", hooks / "lib")
    (hooks / "lib/libvirt_hooks/old.py").touch()
    (hooks / "lib/others.py").touch()
    make("install", tmp_path)
    assert (hooks / "lib/libvirt_hooks").is_symlink()
    assert not (hooks / "lib/libvirt_hooks/old.py").exists()
    assert len(list((hooks / "lib").rglob("old.py"))) == 1
    make("install", tmp_path)
    assert list((hooks / "lib").rglob("old.py")) == []
    make("uninstall", tmp_path)

    assert below(hooks) == ["lib", "lib/others.py"]


def test_without_shtab_there_is_no_completion_and_what_is_missing_is_said(tmp_path, hooks):
    said = make("install", tmp_path)

    assert "No completion for bash and zsh: No module named 'shtab': apt install python3-shtab, then again" in said


def test_completion_is_installed_where_the_shells_look_and_removed_again(tmp_path, hooks):
    pytest.importorskip("shtab")
    said = make("install", tmp_path, sys.executable)

    files = [tmp_path / "usr/local/share" / name for name in COMPLETION]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o644, 0o644]
    assert "No completion" not in said
    make("uninstall", tmp_path)
    assert not any(file.exists() for file in files)


def test_what_uninstalling_leaves_is_said(tmp_path, hooks):
    make("install", tmp_path)
    (tmp_path / "var/log/libvirt").mkdir(parents=True)
    (tmp_path / "var/log/libvirt/hooks.log").touch()
    said = make("uninstall", tmp_path)

    assert f"The log stays: {tmp_path}/var/log/libvirt/hooks.log\n" in said
    assert "Running VMs keep their VLANs. What is in /run/libvirt-hooks is gone after the next boot.\n" in said
    assert "/var/backups/libvirt" in said
    assert "systemctl restart " in said


def test_that_the_package_is_there_too_is_said(tmp_path, hooks):
    assert "apt purge" not in make("install", tmp_path)
    (tmp_path / "usr/share/libvirt-hooks").mkdir(parents=True)
    (tmp_path / "usr/share/libvirt-hooks/network").touch()

    assert "To remove it: apt purge libvirt-hooks, or dnf remove libvirt-hooks\n" in make("install", tmp_path)
