# SPDX-License-Identifier: MIT
"""What the hooks import while libvirtd waits, as a fresh Python itself tells (`-X importtime`), and never at all."""

import re
import shutil
import subprocess

import pytest
from captured import domain
from conftest import MAC, REPOSITORY, UUID, detached, hook, port_created
from iproute import ACCESS, eventually, vlans

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
(RULE,) = re.findall(r"No ((?:`\w+`,?\s+)+and\s+`\w+`|(?:`\w+`,?\s*)+)\.", CONTRIBUTING)
FORBIDDEN = set(re.findall(r"\w+", RULE))
HEAVY = {"sh", "tenacity"}  # those of the detached process
DOMAIN = domain([(MAC, UUID, "vnet0")])


def imported(program, name, operation, xml):
    """Call a hook, return its exit status and the modules that its own process has imported.

    The detached process has no stderr, so what it imports is not among them.
    """
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", "-X", "importtime", REPOSITORY / "hooks" / program, name, operation, "begin", "-"],
        input=xml, capture_output=True, text=True, env={"LC_ALL": "C"}, check=False,
    )  # fmt: skip
    return done.returncode, {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_the_page_names_the_modules():
    assert {"typing", "dataclasses", "json", "logging"} <= FORBIDDEN


@pytest.mark.parametrize("name", ["zerotier", "all", "no-portgroup", "plain-group"])
def test_nothing_heavy_is_imported_while_libvirtd_waits_for_the_network_hook(bridge, name):
    for operation, module in (("port-created", "ports"), ("port-deleted", "ports"), ("updated", "backup")):
        status, modules = imported("network", "br0", operation, port_created(name))

        assert status == 0
        assert f"libvirt_hooks.{module}" in modules
        assert modules & (FORBIDDEN | HEAVY) == set()


def test_nothing_heavy_is_imported_while_libvirtd_waits_for_the_qemu_hook(bridge):
    hook("port-created", port_created())
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == {46: ACCESS} and not detached())
    for operation, module in (("prepare", "backup"), ("start", "guest_start")):
        status, modules = imported("qemu", "web", operation, DOMAIN)

        assert status == 0
        assert f"libvirt_hooks.{module}" in modules
        assert modules & (FORBIDDEN | HEAVY) == set()


@pytest.mark.parametrize(("program", "operation"), [("network", "plugged"), ("qemu", "reconnect"), ("qemu", "started")])
def test_an_operation_that_a_hook_does_not_take_imports_next_to_nothing(bridge, program, operation):
    _, modules = imported(program, "web", operation, DOMAIN)

    ours = {module for module in modules if module.startswith("libvirt_hooks")}
    assert ours == {"libvirt_hooks", f"libvirt_hooks.{program}", "libvirt_hooks.hook", "libvirt_hooks.log"}
    assert modules & (FORBIDDEN | HEAVY | {"xml", "defusedxml"}) == set()


def test_the_hooks_do_without_the_tool(bridge, tmp_path):
    """A whole start: announced, detached, saved, joined; then a start at which the qemu hook does the work."""
    shutil.copytree(REPOSITORY / "lib", tmp_path / "lib")
    shutil.rmtree(tmp_path / "lib/libvirt_hooks/tool")
    network, qemu = (shutil.copy(REPOSITORY / "hooks" / name, tmp_path) for name in ("network", "qemu"))
    assert hook("port-created", port_created(), executable=network).returncode == 0
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == {46: ACCESS} and not detached())
    for operation in ("prepare", "start"):
        assert hook(operation, DOMAIN, executable=qemu, name="web").returncode == 0
    bridge.remove_tap()
    bridge.add_tap()

    assert hook("start", DOMAIN, executable=qemu, name="web").returncode == 0
    assert vlans("vnet0") == {46: ACCESS}


def test_a_tenacity_that_imports_asyncio_for_nothing_does_not(bridge):
    """A third of the time until the detached process can begin; from sh 2 on, sh itself imports asyncio."""
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY / 'lib')!r}); import libvirt_hooks.retries as retries; "
    code += "retries.until_false(lambda: False, lambda: 0.0, print); print('asyncio' in sys.modules)"
    words = ["/usr/bin/python3", "-I", "-c", code]
    release = subprocess.check_output(
        ["/usr/bin/python3", "-I", "-c", "import importlib.metadata as m; print(m.version('tenacity'))"], text=True
    )
    assert (subprocess.check_output(words, text=True) == "False\n") or not release.startswith(("8.2.", "8.3."))
