# SPDX-License-Identifier: MIT
"""What virsh start leaves in /var/backups/libvirt: what virsh define restores exactly; and never in the VM's way."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import LIBVIRT, LOG, MAC, define_network, eventually_settled, nic, undefine_network, virsh

BACKUPS = Path("/var/backups/libvirt")
CONFIGURATION = Path("/etc/libvirt/qemu")
HOOK = Path("/etc/libvirt/hooks/qemu")
SECRET = "<graphics type='vnc' passwd='s3cret' listen='127.0.0.1'/><video><model type='none'/></video>"
LONG = "long" * 50
UUID = "7b8f064f-bc9d-4d00-8cd2-51f033dd32d5"


@pytest.fixture(autouse=True)
def nothing_saved(libvirtd):
    """Begin with neither backups nor a log, whatever the tests before left."""
    shutil.rmtree(BACKUPS, ignore_errors=True)
    LOG.unlink(missing_ok=True)


@pytest.fixture
def new_network(network):
    """Give network br0, defined and started since backups were forgotten."""
    undefine_network()
    shutil.rmtree(BACKUPS, ignore_errors=True)
    define_network()
    return network


def saved(name="web", kind="qemu"):
    """Return what was saved under this name, the oldest first, once nobody saves any more."""
    eventually_settled()
    return sorted(BACKUPS.glob(f"{kind}/{name}.*/*"))


def said():
    """Return the lines in which the qemu hook has spoken of backups, once nobody saves any more."""
    eventually_settled()
    lines = LOG.read_text().splitlines() if LOG.exists() else []
    about = [line.split("]: ", 1)[1] for line in lines if " libvirt-hook-qemu[" in line]
    return [line for line in about if "saved" in line or "backed up" in line]


def restart(vm="web"):
    subprocess.run([*LIBVIRT, "destroy", vm], check=False, capture_output=True)
    virsh("start", "--paused", vm)


def definition(vm="web"):
    return virsh("dumpxml", "--inactive", "--security-info", vm)


def redefine(old, new, vm="web"):
    """Change a VM's definition as `virsh edit` does."""
    xml = definition(vm)
    assert old in xml
    virsh("define", "/dev/stdin", stdin=xml.replace(old, new))


def test_each_change_is_saved_once_and_the_command_in_the_log_takes_it_back(vm):
    vm("web", nic(MAC, "zerotier"), SECRET)
    before = definition()
    assert "s3cret" in before
    (first,) = saved()
    assert said() == [f"web: saved: virsh define {first} restores it"]
    restart()
    assert saved() == [first]
    assert len(said()) == 1

    redefine("<memory unit='KiB'>16384<", "<memory unit='KiB'>32768<")
    redefine("s3cret", "an0ther")
    restart()
    _, second = saved()
    assert said()[1:] == [
        f"web: changed since {first} (devices/graphics, memory), saved as {second}; to go back: virsh define {first}"
    ]
    assert definition() != before

    subprocess.run(said()[-1].rpartition("to go back: ")[2], shell=True, check=True, stdout=subprocess.DEVNULL)
    assert definition() == before
    subprocess.run(["virsh", "define", second], check=True, stdout=subprocess.DEVNULL)
    assert "32768" in definition()
    assert "an0ther" in definition()


def test_only_root_can_read_it(new_network, vm):
    vm("web", SECRET)
    (file,) = saved()

    for directory in (file.parent, BACKUPS / "qemu", BACKUPS / "network", BACKUPS):
        assert (directory.stat().st_mode & 0o777, directory.stat().st_uid) == (0o700, 0)
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, 0)
    assert list(file.parent.iterdir()) == [file]


def test_a_transient_vm_is_saved_as_it_was_created(network):
    """The XML of a running VM has lost its network and portgroup."""
    xml = (
        f"<domain type='qemu'><name>brief</name><uuid>{UUID}</uuid><memory unit='MiB'>16</memory>"
        "<os><type arch='armv7l' machine='virt'>hvm</type></os>"
        f"<devices>{nic(MAC, 'zerotier')}<memballoon model='none'/></devices></domain>"
    )
    virsh("create", "--paused", "/dev/stdin", stdin=xml)
    virsh("destroy", "brief")
    (file,) = saved("brief")
    virsh("define", str(file))
    restored = definition("brief")
    virsh("define", "/dev/stdin", stdin=xml)
    created = definition("brief")
    virsh("undefine", "brief")

    assert "<source network='br0' portgroup='zerotier'/>" in restored
    assert restored == created


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("-rf  Bücherei ☃ $(reboot)", "_rf__Bücherei_____reboot_."),
        (LONG, f"{LONG}."),  # 200 characters
    ],
)
def test_any_name_has_a_directory_of_its_own(libvirtd, name, begins):
    xml = (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
        "<os><type arch='armv7l' machine='virt'>hvm</type></os>"
        "<devices><memballoon model='none'/></devices></domain>"
    )
    virsh("define", "/dev/stdin", stdin=xml)
    (uuid,) = virsh("list", "--all", "--uuid").split()
    try:
        virsh("start", "--paused", uuid)
        was = definition(uuid)
        (file,) = saved("*")
        (line,) = said()
        virsh("destroy", uuid)
        virsh("undefine", uuid)
        command = line.rpartition("saved: ")[2].removesuffix(" restores it")
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
        assert definition(uuid) == was
    finally:
        for words in (["destroy", uuid], ["undefine", uuid]):
            subprocess.run([*LIBVIRT, *words], check=False, capture_output=True)

    assert file.parent == BACKUPS / "qemu" / f"{begins}{uuid}"


def test_a_renamed_vm_can_be_traced_by_its_uuid(vm):
    vm("web")
    uuid = virsh("domuuid", "web")
    virsh("destroy", "web")
    virsh("domrename", "web", "www")
    virsh("start", "--paused", "www")
    virsh("destroy", "www")
    virsh("domrename", "www", "web")

    assert [directory.name for directory in sorted(BACKUPS.glob(f"qemu/*.{uuid}"))] == [f"web.{uuid}", f"www.{uuid}"]
    assert "<name>www</name>" in saved("www")[0].read_text()


# Never in the way


@contextlib.contextmanager
def mounted(*options):
    """Have a file system of four pages in place of the backups."""
    BACKUPS.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(("size=16k", *options)), "tmpfs", BACKUPS], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", BACKUPS], check=True)


@contextlib.contextmanager
def read_only():
    with mounted("ro"):
        yield


@contextlib.contextmanager
def a_file_in_its_place():
    shutil.rmtree(BACKUPS, ignore_errors=True)
    BACKUPS.write_text("a file where the directory should be")
    try:
        yield
    finally:
        BACKUPS.unlink()


@contextlib.contextmanager
def unreadable_configuration():
    """Root can read any file, but no directory as if it were one."""
    file = CONFIGURATION / "web.xml"
    file.rename(f"{file}.away")
    file.mkdir()
    try:
        yield
    finally:
        file.rmdir()
        Path(f"{file}.away").rename(file)


@contextlib.contextmanager
def damaged_configuration():
    file = CONFIGURATION / "web.xml"
    whole = file.read_text()
    file.write_text(whole[:100])
    try:
        yield
    finally:
        file.write_text(whole)


def test_what_cannot_be_saved_is_one_line_and_the_vm_starts(vm):
    """libvirt refuses the start if `prepare` fails: in the first state libvirt calls it, in the others we do."""
    vm("web", start=False)
    prepare = [HOOK, "web", "prepare", "begin", "-"]
    states = [
        (read_only, f"{BACKUPS}/qemu: Read-only file system"),
        (a_file_in_its_place, "Not a directory"),
        (unreadable_configuration, "/etc/libvirt/qemu/web.xml: Is a directory"),
        (damaged_configuration, "/etc/libvirt/qemu/web.xml is damaged"),
    ]
    xml = definition()
    for number, (state, says) in enumerate(states):
        with state():
            if number == 0:
                virsh("start", "--paused", "web")
                virsh("destroy", "web")
            else:
                subprocess.run(prepare, input=xml, text=True, env={"LC_ALL": "C"}, check=True)
            assert len(said()) == number + 1
            assert said()[-1].startswith("web: not backed up: ")
            assert says in said()[-1]
    virsh("start", "--paused", "web")
    assert len(saved()) == 1  # mended


def test_a_full_disk_keeps_what_was_saved_and_the_vm_starts(vm):
    vm("web", start=False)
    with mounted():
        virsh("start", "--paused", "web")
        (first,) = saved()
        content = first.read_bytes()
        redefine("<memory unit='KiB'>16384<", "<memory unit='KiB'>32768<")
        with contextlib.suppress(OSError), open(BACKUPS / "filler", "wb", buffering=0) as filler:
            while filler.write(b"x"):
                pass
        restart()

        assert said()[1:] == [f"web: not backed up: {BACKUPS}: No space left on device"]
        assert [file for file in saved() if file.name != ".new"] == [first]
        assert first.read_bytes() == content
        (BACKUPS / "filler").unlink()
        restart()
        assert saved()[0] == first
        assert "32768" in saved()[1].read_text()
        assert len(saved()) == 2


# Networks


def test_a_network_is_saved_when_it_starts_and_when_it_changes(new_network):
    (first,) = saved(new_network, "network")
    before = virsh("net-dumpxml", "--inactive", new_network)
    virsh("net-destroy", new_network)
    virsh("net-start", new_network)
    assert saved(new_network, "network") == [first]

    virsh("net-update", new_network, "add", "portgroup", "<portgroup name='dmz-4'/>", "--live", "--config")
    _, second = saved(new_network, "network")
    assert "dmz-4" in second.read_text()
    line = LOG.read_text().splitlines()[-1]
    assert f" br0: changed since {first} (portgroup), saved as {second}; to go back: virsh net-define {first}" in line

    subprocess.run(line.rpartition("to go back: ")[2], shell=True, check=True, stdout=subprocess.DEVNULL)
    assert virsh("net-dumpxml", "--inactive", new_network) == before


def test_a_change_of_the_running_network_alone_is_not_saved(new_network):
    """`virsh net-define` restores what is to be after the next start, and that has not changed."""
    virsh("net-update", new_network, "add", "portgroup", "<portgroup name='dmz-4'/>", "--live")

    assert len(saved(new_network, "network")) == 1
