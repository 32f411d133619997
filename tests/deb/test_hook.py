# SPDX-License-Identifier: MIT
"""debian/hook, which libvirt runs, where Python or lib is missing or broken: the script's text, in a plain shell."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "tests/data"
BROKEN = {
    "absent": None,
    "not executable": (0o644, "#!/bin/sh\n"),
    "without an interpreter": (0o755, "#!/no/such/loader\n"),
    "without its library": (0o755, "#!/bin/sh\necho 'Fatal Python error: init_fs_encoding' >&2\nexit 1\n"),
    "killed": (0o755, "#!/bin/sh\nkill -SEGV $$\n"),
}
SENTENCE = "{python} is missing or broken, and the {hook} hook needs Python: repair python3, and try again\n"
MAC, UUID = "52:54:00:00:00:01", "c0ffee00-1111-2222-3333-444444444444"
PLAIN = (DATA / "qemu-start.xml").read_text().replace("portgroup=", "p=")


@pytest.fixture
def host(tmp_path):
    """Give the directory of a host whose hooks have no lib, so that these themselves refuse what names a portgroup."""
    (tmp_path / "code").mkdir()
    for hook in (REPOSITORY / "hooks").iterdir():
        (tmp_path / "code" / hook.name).write_text(hook.read_text().replace("/run/libvirt-hooks", f"{tmp_path}/run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "python3").symlink_to(sys.executable)
    return tmp_path


def call(host, hook, operation, xml, name="50-libvirt-hooks"):
    """Return the exit status of the hook, called by this name, and what it has said on stdout and stderr."""
    places = {"/usr/share/libvirt-hooks": "code", "/run/libvirt-hooks": "run", "/usr/bin/python3": "python3"}
    places["/etc/libvirt"] = "etc"
    script = (REPOSITORY / "debian/hook").read_text().replace("@HOOK@", hook)
    for place, here in places.items():
        script = script.replace(place, str(host / here))
    done = subprocess.run(
        ["sh", "-c", script, f"/etc/libvirt/hooks/{hook}.d/{name}", "web", operation, "begin", "-"],
        input=xml, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def data(name):
    return (DATA / f"{name}.xml").read_text()


def break_python(host, how):
    (host / "python3").unlink()
    if BROKEN[how]:
        mode, text = BROKEN[how]
        (host / "python3").write_text(text)
        (host / "python3").chmod(mode)


@pytest.fixture(params=["Python", "lib"])
def incomplete(host, request):
    """Give a host that lacks Python, and one that has Python, and lacks only lib."""
    if request.param == "Python":
        break_python(host, "absent")
    return host


STOPPED = [
    ("network", "port-created", data("network-port-created-zerotier")),
    ("network", "port-created", "<networkport/><network><portgroup name='server-3' default='yes'/></network>"),
    ("qemu", "start", data("qemu-start")),
    ("lxc", "start", data("lxc-start")),
]
PASSED = [
    ("network", "start", data("network-start")),
    ("network", "started", data("network-started")),
    ("network", "port-created", data("network-port-created-no-portgroup").replace("default='yes'", "")),
    ("network", "port-deleted", data("network-port-deleted")),
    ("qemu", "prepare", data("qemu-prepare")),
    ("qemu", "start", PLAIN),
    ("qemu", "release", data("qemu-release")),
    ("qemu", "reconnect", data("qemu-reconnect")),
    ("lxc", "reconnect", data("lxc-reconnect")),
]


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize(("hook", "operation", "xml"), STOPPED)
def test_without_python_what_names_a_portgroup_is_refused_in_one_sentence(host, how, hook, operation, xml):
    break_python(host, how)

    assert call(host, hook, operation, xml) == (1, "", SENTENCE.format(python=host / "python3", hook=hook))
    (host / "run.off").touch()
    assert call(host, hook, operation, xml) == (0, "", "")


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize(("hook", "operation", "xml"), PASSED)
def test_without_python_everything_else_passes(host, how, hook, operation, xml):
    break_python(host, how)

    assert call(host, hook, operation, xml) == (0, "", "")


@pytest.mark.parametrize(
    ("hook", "ticket", "xml"),
    [
        ("qemu", f"{MAC}.{UUID}", f"<source portid='{UUID}'/>"),
        ("lxc", f"veth-{MAC}.{UUID}", f"<mac address='{MAC}'/>"),
    ],
)
def test_without_python_or_lib_a_ticket_counts_as_a_portgroup(incomplete, hook, ticket, xml):
    assert call(incomplete, hook, "start", xml)[0] == 0
    (incomplete / "run" / ticket).touch()

    assert call(incomplete, hook, "start", xml)[0] == 1
    assert call(incomplete, hook, "start", "<domain/>")[0] == 0


@pytest.mark.parametrize("note", ["uplinks.br0", f"refused.{UUID}", f"starting.{UUID}", "lock"])
def test_without_python_or_lib_what_is_no_ticket_stops_no_vm(incomplete, note):
    """`check` and the hooks remember uplinks and refused starts beside the tickets."""
    (incomplete / "run" / note).touch()

    assert call(incomplete, "qemu", "start", f"<domain><uuid>{UUID}</uuid><source bridge='br0'/></domain>")[0] == 0


@pytest.mark.parametrize(("hook", "operation", "xml"), STOPPED)
def test_where_python_works_the_hook_itself_has_the_last_word(host, hook, operation, xml):
    status, out, error = call(host, hook, operation, xml)

    assert (status, out) == (1, "")
    assert error.endswith("is missing or not complete: install the hooks again\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize("end", [".dpkg-new", ".dpkg-old", ".rpmnew", ".rpmsave", ".rpmorig", ";6920fb3a"])
def test_another_version_that_dpkg_or_rpm_puts_beside_the_hook_does_nothing(host, end):
    hook, operation, xml = STOPPED[0]
    break_python(host, "absent")

    assert call(host, hook, operation, xml, f"50-libvirt-hooks{end}") == (0, "", "")
