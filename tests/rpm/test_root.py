# SPDX-License-Identifier: MIT
"""make rpm, and a life with the RPM in a root directory that has nothing but a busybox and a systemctl.

What is inside: tests/deb/test_contents.py. With a Python: test_upgrade.py.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from releases import LATER, copy, make_rpm

from libvirt_hooks import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
DIRECTORY = Path(os.environ["LAB_RPM"])  # where make rpm has put it
PACKAGE = DIRECTORY / f"libvirt-hooks-{VERSION}-1.noarch.rpm"
SPEC = REPOSITORY / "rpm/libvirt-hooks.spec"
NEXT = LATER[0]
NEWER = DIRECTORY / NEXT / f"libvirt-hooks-{NEXT}-1.noarch.rpm"  # its hooks differ from this one's by a line
HOOKS = "etc/libvirt/hooks"
HOOK = f"{HOOKS}/network.d/50-libvirt-hooks"
COPY = "run/libvirt-hooks.upgrade"
WATCH = "etc/systemd/system/multi-user.target.wants/libvirt-vlan-watch.service"
PRESETS = "usr/lib/systemd/system-preset"
DATABASE = "var/lib/rpm"
KEPT = (
    "libvirt-hooks: running VMs keep their VLANs. VMs that start from now on are in the default VLAN of their bridge."
)
STARTS_WATCH = "It starts with the next boot, or now: systemctl start libvirt-vlan-watch\n"
APPLETS = ("cat", "cp", "grep", "printf", "rm", "sh", "sleep", "touch")  # what the scriptlets and the hooks run
REFUSED = (REPOSITORY / "tests/data/network-port-created-zerotier.xml").read_text()


@pytest.fixture
def root(tmp_path):
    """Give the directory of a / without any package: its shell is busybox, and its systemctl is this machine's."""
    directory = tmp_path / "root"
    for name in ("bin", "dev", "run", "usr/bin", HOOKS, PRESETS):
        (directory / name).mkdir(parents=True)
    (directory / "dev/null").touch()
    shutil.copy("/bin/busybox", directory / "bin")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    systemctl = shutil.which("systemctl")
    libraries = re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", systemctl], text=True))
    for file in (systemctl, *libraries):
        target = directory / file[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (directory / PRESETS / "99-default-disable.preset").write_text("disable *\n")  # as on Fedora
    return directory


def rpm(root, *words):
    """Run rpm with these words on this root, and return what an operator reads."""
    done = subprocess.run(
        ["rpm", "--root", root, "--define", f"_dbpath /{DATABASE}", "--nodeps", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    # Debian's rpm warns that dpkg should be used. On Debian 13, rpm also warns that a root has no private mounts.
    return re.sub(r"(?m)^(?:rpm: |warning: private mounts in chroot).*\n", "", done.stdout)


def refuses(root, name):
    """Return whether this hook does its work: it has no Python here, and so refuses what names a portgroup."""
    done = subprocess.run(
        ["chroot", root, f"/{name}", "br0", "port-created", "begin", "-"],
        input=REFUSED, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) in ((0, ""), (1, "")), done
    return done.returncode == 1


def scriptlets(package):
    """Return the package's scriptlets, by their names in rpm."""
    shown = subprocess.check_output(["rpm", "-qp", "--scripts", package], text=True, stderr=subprocess.DEVNULL)
    parts = re.split(r"(?m)^(\w+) scriptlet \(using /bin/sh\):\n", shown)
    return dict(zip(parts[1::2], parts[2::2]))


def test_rpmlint_finds_nothing():
    done = subprocess.run(
        ["rpmlint", "-c", REPOSITORY / "rpm/rpmlint.toml", PACKAGE, SPEC], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
    assert " 1 packages and 1 specfiles checked; 0 errors, 0 warnings, " in done.stdout
    assert not re.search(r"(?m): [EW]: ", done.stdout), done.stdout


def test_the_same_bytes_are_built_again_elsewhere_later_and_by_a_user_with_another_umask(tmp_path):
    source = copy(tmp_path / "copy")
    for program in [*source.glob("hooks/*"), *source.glob("sbin/*")]:
        program.chmod(0o700)
    umask = os.umask(0o077)
    try:
        again = make_rpm(source, tmp_path)
    finally:
        os.umask(umask)

    assert again.read_bytes() == PACKAGE.read_bytes()


def test_whoever_builds_it_is_its_packager(tmp_path):
    package = make_rpm(REPOSITORY, tmp_path, "MAINTAINER=R&D |1 <hosts@example.net>")
    shown = subprocess.check_output(["rpm", "-qp", "--qf", "%{PACKAGER}\n%{CHANGELOGNAME}\n", package], text=True)

    assert shown == f"R&D |1 <hosts@example.net>\nR&D |1 <hosts@example.net> - {VERSION}-1\n"


def test_its_checksum_is_beside_it():
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=DIRECTORY, check=True, capture_output=True, text=True)

    assert f"{PACKAGE.name}: OK" in done.stdout.splitlines()


def test_it_requires_what_fedora_calls_the_debian_packages_dependencies():
    shown = subprocess.check_output(["rpm", "-qp", "--requires", PACKAGE], text=True, stderr=subprocess.DEVNULL)
    control = (REPOSITORY / "debian/control").read_text()
    debian = re.findall(r"(?m)^ (python3-\w+) \(>= (.*)\),$", control)

    assert len(debian) == 3
    assert {f"{package} >= {version}" for package, version in debian} <= set(shown.splitlines())
    assert {"iproute >= 5.9", "python3 >= 3.9", "/bin/sh"} <= set(shown.splitlines())


def test_fedoras_own_macros_are_used_where_they_are_known():
    known = {"_unitdir": "/units", "systemd_post()": "fedora-post %{*}", "systemd_preun()": "fedora-preun %{*}"}
    known["systemd_postun_with_restart()"] = "fedora-postun %{*}"
    defined = [word for name, body in known.items() for word in ("--define", f"{name} {body}")]
    parsed = subprocess.check_output(["rpmspec", "-P", *defined, SPEC], text=True)

    for scriptlet in ("post", "preun", "postun"):
        assert f"\nfedora-{scriptlet} libvirt-vlan-watch.service libvirt-vlan-check.timer\n" in parsed
    assert "\n/units/libvirt-vlan-*\n" in parsed
    assert "systemctl preset" not in parsed


@pytest.mark.parametrize(
    ("script", "begin", "end", "scriptlet"),
    [
        ("preinst", "    rm -rf /run", "    done\n", "preinstall"),
        ("postinst", "    hooks=\n", '    if [ -z "$2" ]', "postinstall"),
    ],
)
def test_what_it_shares_with_the_debian_package_is_the_same(script, begin, end, scriptlet):
    """How hooks go on during an upgrade, and what is said of hooks by make install."""
    text = (REPOSITORY / "debian" / script).read_text()
    shared = text[text.index(begin) : text.index(end)]
    lines = [line.strip() for line in shared.splitlines() if not line.strip().startswith("#")]
    ours = "\n".join(line.strip() for line in scriptlets(PACKAGE)[scriptlet].splitlines())

    assert len(lines) > 4
    assert "\n".join(lines) in ours.replace(" && touch", "\ntouch")  # preinst has set -e


def test_the_scriptlets_are_plain_shell(tmp_path):
    found = scriptlets(PACKAGE)
    assert sorted(found) == ["postinstall", "postuninstall", "preinstall", "preuninstall"]
    for name, text in found.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
    subprocess.run(["shellcheck", *(tmp_path / name for name in found)], check=True)


def test_installed_it_says_which_daemons_to_restart_and_enables_the_watch_alone(root):
    said = rpm(root, "-i", PACKAGE)

    assert re.search(r"^libvirt-hooks: libvirt looks for hooks when it starts. Now: systemctl restart \w+", said)
    assert said.endswith(STARTS_WATCH)
    assert (root / WATCH).is_symlink()
    assert len(list((root / "etc/systemd/system").rglob("*.*"))) == 2  # that link, in its directory
    assert refuses(root, HOOK)
    assert rpm(root, "-V", "libvirt-hooks") == ""


def test_where_selinux_is_on_it_says_the_two_commands_and_runs_none(root):
    """There is no SELinux here: /bin/selinuxenabled only says that there is. Neither command is in this root."""
    commands = "    setsebool -P virt_hooks_unconfined on; restorecon -R /etc/libvirt/hooks\n"
    assert commands not in rpm(root, "-i", PACKAGE)
    rpm(root, "-e", "libvirt-hooks")
    (root / "bin/selinuxenabled").write_text("#!/bin/sh\n")
    (root / "bin/selinuxenabled").chmod(0o755)
    said = rpm(root, "-i", PACKAGE)

    assert commands in said
    assert "not found" not in said


def test_an_administrators_preset_has_the_last_word(root):
    (root / "etc/systemd/system-preset").mkdir(parents=True)
    (root / "etc/systemd/system-preset/50-site.preset").write_text("disable libvirt-vlan-watch.service\n")
    said = rpm(root, "-i", PACKAGE)

    assert STARTS_WATCH not in said
    assert not (root / WATCH).is_symlink()


def test_over_a_make_install_it_says_what_to_remove(root):
    subprocess.run(["make", "-s", "-C", REPOSITORY, "install", f"DESTDIR={root}"], check=True, capture_output=True)
    said = rpm(root, "-i", PACKAGE)

    assert not refuses(root, HOOK)
    (remove,) = re.findall(r"make install, and are used instead of the package. To remove them:\n +(rm .*)", said)
    subprocess.run(["chroot", root, "sh", "-c", remove], check=True)
    assert [file for file in (root / "usr/local").rglob("*libvirt?vlan*") if file.is_file()] == []
    assert refuses(root, HOOK)


def test_an_upgrade_restarts_nothing_and_leaves_the_watch_as_it_is(root):
    rpm(root, "-i", PACKAGE)
    (root / WATCH).unlink()
    before = (root / HOOK).read_text()
    said = rpm(root, "-U", NEWER)

    assert said == ""
    assert not (root / WATCH).is_symlink()
    assert (root / HOOK).read_text() == before.replace("hook=network\n", f"hook=network\n# {NEXT}\n")
    assert NEXT in (root / "usr/share/libvirt-hooks/lib/libvirt_hooks/__init__.py").read_text()
    # hooks that began in the copy go on there, and no other begins there
    assert NEXT not in (root / COPY / "lib/libvirt_hooks/__init__.py").read_text()
    assert not (root / COPY / "in-use").exists()
    assert rpm(root, "-V", "libvirt-hooks") == ""


def test_an_operators_hook_stays_in_an_upgrade_and_what_lies_beside_it_does_nothing(root):
    rpm(root, "-i", PACKAGE)
    changed = (root / HOOK).read_text() + "# ours\n"
    (root / HOOK).write_text(changed)
    rpm(root, "-U", NEWER)

    assert (root / HOOK).read_text() == changed
    assert f"# {NEXT}\n" in (root / f"{HOOK}.rpmnew").read_text()
    assert (refuses(root, HOOK), refuses(root, f"{HOOK}.rpmnew")) == (True, False)
    assert not (root / f"{HOOKS}/qemu.d/50-libvirt-hooks.rpmnew").exists()


def test_a_hook_that_is_gone_comes_back_as_libvirt_vlan_check_says(root):
    """Its words: rpm -U --replacepkgs libvirt-hooks-VERSION-1.noarch.rpm."""
    rpm(root, "-i", PACKAGE)
    (root / HOOK).unlink()
    rpm(root, "-U", "--replacepkgs", PACKAGE)

    assert refuses(root, HOOK)


def test_removed_it_leaves_nothing_and_says_what_that_means(root):
    rpm(root, "-i", PACKAGE)
    (root / "usr/share/libvirt-hooks/lib/__pycache__").mkdir()  # as Python has there what it compiles
    metrics = root / "var/lib/prometheus/node-exporter/libvirt-vlan.prom"
    metrics.parent.mkdir(parents=True)
    metrics.touch()
    said = rpm(root, "-e", "libvirt-hooks")

    assert said == f"{KEPT}\n"
    assert not metrics.exists()
    names = [str(file.relative_to(root)) for file in root.rglob("*")]
    assert [name for name in names if re.search(r"libvirt[-_](hooks|vlan)|hooks/.*[.]d$", name)] == []


def test_removed_it_keeps_an_operators_hook_which_does_nothing_even_if_installed_again_and_says_where_backups_are(root):
    rpm(root, "-i", PACKAGE)
    with (root / HOOK).open("a") as hook:
        hook.write("# ours\n")
    backup = root / "var/backups/libvirt/qemu/web.xml"
    backup.parent.mkdir(parents=True)
    backup.touch()
    said = rpm(root, "-e", "libvirt-hooks")

    assert "libvirt-hooks: saved definitions stay in /var/backups/libvirt. They can hold passwords.\n" in said
    assert backup.exists()
    assert not (root / HOOK).exists()
    rpm(root, "-i", PACKAGE)
    assert (refuses(root, HOOK), refuses(root, f"{HOOK}.rpmsave")) == (True, False)
