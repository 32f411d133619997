# SPDX-License-Identifier: MIT
"""Hooks that libvirt can call, and nobody else can change."""

import os
import shlex
import shutil
from pathlib import Path

import pytest

from libvirt_hooks import VERSION
from libvirt_hooks.tool import installation, virsh

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    """All hooks and lib as `make install` leaves them, for whoever runs this."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of root's")
    monkeypatch.setattr(installation, "HOOKS", tmp_path)
    monkeypatch.setattr(installation, "PROC", tmp_path / "no-proc")
    monkeypatch.setattr(installation, "OFF", str(tmp_path / "off"))
    monkeypatch.setattr(installation, "SYSTEMD", tmp_path / "no-systemd")
    monkeypatch.setattr(installation, "OF_DPKG", tmp_path / "libvirt-hooks.list")
    (tmp_path / "lib").mkdir()
    for hook in ("network", "qemu", "lxc"):
        (tmp_path / hook).write_text(f"from libvirt_hooks.{hook} import main\n")
        (tmp_path / hook).chmod(0o755)
    tmp_path.chmod(0o755)
    return tmp_path


def test_hooks_as_installed_are_right(hooks):
    assert installation.problems() == []


def test_a_hook_beside_anothers_is_right(hooks):
    (hooks / "network.d").mkdir()
    (hooks / "network").rename(hooks / "network.d/50-vlan")
    (hooks / "network").write_text("#!/bin/sh\n")

    assert installation.problems() == []


def test_the_debian_packages_hook_beside_anothers_is_right(hooks):
    packaged(hooks, "network")
    (hooks / "network").write_text("#!/bin/sh\n")

    assert installation.problems() == []


@pytest.mark.parametrize(
    ("tool", "file", "command"),
    [
        ("/usr/share/libvirt-hooks/lib/libvirt_hooks/tool", "qemu.d/50-libvirt-hooks",
         f"dpkg -i --force-confmiss libvirt-hooks_{VERSION}_all.deb"),
        ("/usr/share/libvirt-hooks/lib/libvirt_hooks/tool", "qemu.d/50-libvirt-hooks",
         f"rpm -U --replacepkgs libvirt-hooks-{VERSION}-1.noarch.rpm"),
        ("/usr/local/sbin/libvirt-vlan/libvirt_hooks/tool", "qemu", "install -m 755 dist/qemu {hooks}/"),  # one file
    ],
)  # fmt: skip
def test_a_missing_hook_is_installed_as_the_tool_was(hooks, monkeypatch, tool, file, command):
    if command.startswith("dpkg"):
        installation.OF_DPKG.touch()
    monkeypatch.setattr(installation, "TOOL", hooks / "package" if "share" in tool else Path(tool))
    if "share" in tool:
        (hooks / "package").mkdir()
        monkeypatch.setattr(installation, "PACKAGE", hooks)
    (hooks / "qemu").unlink()
    (found,) = installation.problems()

    assert (found.code, found.command) == ("hook-missing", command.format(hooks=hooks))
    assert found.line.startswith(f"{hooks / file} does not exist, or belongs to another tool: ")


@pytest.mark.parametrize("end", [".dpkg-new", ".dpkg-dist", ".rpmnew", ".rpmsave", ".rpmorig", ";6920fb3a"])
def test_another_version_of_the_packages_hook_is_none(hooks, end):
    (hooks / "qemu").unlink()
    packaged(hooks, "qemu")
    shutil.copy2(hooks / "qemu.d/50-libvirt-hooks", hooks / f"qemu.d/50-libvirt-hooks{end}")

    assert installation.problems() == []


def packaged(hooks, hook):
    """Have the package's file of a hook there, too."""
    file = hooks / f"{hook}.d/50-libvirt-hooks"
    file.parent.mkdir(exist_ok=True)
    file.write_text((REPOSITORY / "debian/hook").read_text().replace("@HOOK@", hook))
    file.chmod(0o755)


@pytest.mark.parametrize(("of_dpkg", "remove"), [(True, "apt purge"), (False, "dnf remove")])
def test_hooks_by_make_install_and_by_the_package_are_found(hooks, of_dpkg, remove):
    packaged(hooks, "network")
    if of_dpkg:
        installation.OF_DPKG.touch()
    (found,) = installation.problems()

    assert (found.code, found.command) == ("installed-twice", "make uninstall")
    assert found.line == (
        f"{hooks}/network is used instead of {hooks}/network.d/50-libvirt-hooks, so an upgrade of the package "
        f"libvirt-hooks changes nothing: remove one of the two with make uninstall or with {remove} libvirt-hooks"
    )


def test_hooks_that_libvirt_runs_twice_are_found(hooks):
    for name in ("a b", "c"):
        (hooks / "qemu.d").mkdir(exist_ok=True)
        shutil.copy2(hooks / "qemu", hooks / "qemu.d" / name)
    (found,) = installation.problems()

    assert (found.code, found.command) == ("installed-twice", f"rm '{hooks}/qemu.d/a b' {hooks}/qemu.d/c")
    assert found.line.startswith(f"{hooks}/qemu and {hooks}/qemu.d/a b and {hooks}/qemu.d/c are the same hook, and ")
    for file in shlex.split(found.command)[1:]:
        Path(file).unlink()
    assert installation.problems() == []


def switch_off(hooks):
    (hooks / "off").touch()


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda hooks: (hooks / "qemu").unlink(), "hook-missing",
         "qemu does not exist, or belongs to another tool: install the hooks with make install, or with the Ansible "),
        (lambda hooks: (hooks / "qemu").write_text("#!/bin/sh\n"), "hook-missing", "qemu does not exist, or belongs"),
        (lambda hooks: (hooks / "qemu").chmod(0o644), "hook-not-executable",
         "qemu is not executable, so libvirt ignores it: chmod 755 "),
        (lambda hooks: (hooks / "qemu").chmod(0o775), "writable-by-others",
         "qemu runs as root, and others can change it: chown root:root "),
        (lambda hooks: os.chown(hooks / "qemu", 1, 1), "writable-by-others", "qemu runs as root, and others "),
        (lambda hooks: (hooks / "lib").chmod(0o777), "writable-by-others", "lib runs as root, and others can "),
        (switch_off, "switched-off", "the hooks are switched off: libvirt-vlan on switches them on again"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_hooks_is_found(hooks, spoil, code, says):
    spoil(hooks)

    (found,) = installation.problems()
    assert (found.code, found.is_note) == (code, False)
    assert says in found.line
    assert found.command in found.line


@pytest.mark.parametrize("place", ["lib64", "lib/x86_64-linux-gnu"])
def test_a_missing_lxc_hook_matters_only_where_libvirt_runs_containers(hooks, tmp_path, monkeypatch, place):
    monkeypatch.setattr(virsh, "DRIVERS", tmp_path / "usr")
    (hooks / "lxc").unlink()
    assert installation.problems() == []
    driver = tmp_path / "usr" / place / "libvirt/connection-driver/libvirt_driver_lxc.so"
    driver.parent.mkdir(parents=True)
    driver.touch()

    assert [(found.code, found.line.partition(" ")[0]) for found in installation.problems()] == [
        ("hook-missing", f"{hooks}/lxc")
    ]


def test_a_daemon_that_started_before_a_hook_may_not_know_it(hooks, monkeypatch):
    monkeypatch.setattr(installation, "_started", lambda daemon: [0.0] if daemon == "libvirtd" else [])

    found = installation.problems()

    assert [(one.code, one.command) for one in found] == [("hook-newer-than-daemon", "systemctl restart libvirtd")] * 3
    assert found[0].line.endswith(" started, so libvirtd may not have noticed it: systemctl restart libvirtd")


@pytest.mark.parametrize(
    ("enabled", "active", "is_found"),
    [
        (True, False, True),  # it has failed, or nobody has started it
        (True, True, False),
        (False, False, False),  # who does not want it
        (False, True, False),  # started by hand
    ],
)
def test_a_watch_that_is_enabled_and_does_not_run_is_found(hooks, monkeypatch, enabled, active, is_found):
    """There is no systemd in the lab: systemctl is a program that answers as its does, by its exit status."""
    systemctl = hooks / "bin/systemctl"
    systemctl.parent.mkdir()
    answers = {"is-enabled": enabled, "is-active": active}
    cases = "".join(f'"-q {word} libvirt-vlan-watch") exit {int(not yes)};;' for word, yes in answers.items())
    systemctl.write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\nexit 9\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    assert installation.problems() == []  # without systemd
    monkeypatch.setattr(installation, "SYSTEMD", hooks)

    found = installation.problems()

    assert [one.code for one in found] == (["watch-not-running"] if is_found else [])
    assert all(one.line.endswith("enabled but not running: systemctl start libvirt-vlan-watch") for one in found)


def program(hooks, monkeypatch, name, lines):
    """Have a program of this name, with these lines of sh, be the first in PATH."""
    file = hooks / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{lines}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")


def test_a_watch_that_does_not_run_is_noted_with_what_starts_it(hooks, monkeypatch):
    (found,) = installation.notes()
    assert (found.code, found.command) == ("watch-not-enabled", "libvirt-vlan watch")  # without systemd
    monkeypatch.setattr(installation, "SYSTEMD", hooks)
    program(hooks, monkeypatch, "systemctl", "exit 1")
    (found,) = installation.notes()
    assert found.command == "systemctl enable --now libvirt-vlan-watch"
    program(hooks, monkeypatch, "systemctl", '[ "$2" = is-enabled ]')
    assert installation.notes() == []  # enabled, and does not run: that is a problem
    monkeypatch.setattr(installation, "watch_runs", lambda: True)
    assert installation.notes() == []


@pytest.mark.parametrize(
    ("sees", "policy", "is_found"),
    [("1", "DROP", True), ("1", "ACCEPT", False), ("0", "DROP", False), (None, "DROP", False)],
)
def test_a_firewall_that_sees_frames_between_vms_and_drops_them_is_noted(hooks, monkeypatch, sees, policy, is_found):
    monkeypatch.setattr(installation, "watch_runs", lambda: True)
    if sees is not None:
        switch = hooks / "no-proc/sys/net/bridge/bridge-nf-call-iptables"
        switch.parent.mkdir(parents=True)
        switch.write_text(f"{sees}\n")
    program(hooks, monkeypatch, "iptables", f'[ "$*" = "-S FORWARD" ] && echo "-P FORWARD {policy}"')

    found = installation.notes()

    assert [one.code for one in found] == (["firewall-sees-frames"] if is_found else [])
    assert all(one.command == "sysctl net.bridge.bridge-nf-call-iptables=0" for one in found)
