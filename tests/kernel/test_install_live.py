# SPDX-License-Identifier: MIT
"""make install while libvirt calls the hooks: each call, and each process that waits, is of one release throughout."""

import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import MAC, REPOSITORY, TAP_MAC, detached, hook, logged, port_created
from iproute import ACCESS, eventually, vlans
from releases import MIXTURES, WATCH

HOOKS = Path("/etc/libvirt/hooks")
INSTALLED = HOOKS / "network"


@pytest.fixture
def release(tmp_path):
    """Give release(number), which installs a release whose modules all say so; nothing of it stays."""

    def install(number):
        checkout = tmp_path / str(number)
        for part in ("hooks", "lib", "sbin", "man", "systemd"):
            shutil.copytree(REPOSITORY / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "Makefile", checkout)
        for module in checkout.glob("lib/libvirt_hooks/**/*.py"):
            module.write_text(f"{module.read_text()}\nRELEASE = {number}\n")
        init = checkout / "lib/libvirt_hooks/__init__.py"
        init.write_text(init.read_text() + WATCH)
        make("install", checkout)

    MIXTURES.unlink(missing_ok=True)
    yield install
    make("uninstall", REPOSITORY)


def make(target, checkout):
    subprocess.run(["make", "-s", "-C", checkout, target], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def in_use():
    """Return the release whose modules a hook finds now."""
    return (HOOKS / "lib/libvirt_hooks/vlans.py").read_text().split()[-1]


def created(number):
    """Return the XML of a port of its own for each number below 256."""
    mac = f"{MAC[:-2]}{number:02x}"
    return port_created(uuid=f"00000000-0000-0000-0000-{number:012}", mac=(MAC, mac)), f"{TAP_MAC[:-2]}{number:02x}"


def test_hooks_that_start_during_upgrades_are_of_one_release(bridge, release):
    release(1)
    upgrades = threading.Thread(target=lambda: [release(number) for number in (2, 3)])
    upgrades.start()
    taps, (nobodys, _) = [], created(255)
    while upgrades.is_alive():
        xml, address = created(len(taps) + 1)
        done = hook("port-created", xml, executable=INSTALLED)
        assert (done.returncode, done.stderr) == (0, "")
        taps.append(bridge.add_tap(f"vnet{len(taps)}", address))
        for operation in ("plugged", "port-deleted"):
            done = hook(operation, nobodys, executable=INSTALLED)
            assert (done.returncode, done.stderr) == (0, "")
    upgrades.join()

    assert in_use() == "3"
    assert len(taps) > 3
    for tap in taps:
        eventually(lambda tap=tap: vlans(tap) == {46: ACCESS})
    eventually(lambda: not detached())
    assert not MIXTURES.exists()
    assert [line for line in logged() if "unexpected" in line or "cannot be imported" in line] == []


def test_a_process_that_waits_for_its_tap_goes_on_as_the_release_that_it_was(bridge, release):
    release(1)
    done = hook("port-created", port_created(), executable=INSTALLED)
    assert (done.returncode, done.stderr) == (0, "")
    release(2)
    assert detached()
    tap = bridge.add_tap()

    eventually(lambda: vlans(tap) == {46: ACCESS})
    eventually(lambda: not detached())
    assert not MIXTURES.exists()


def test_a_mixture_is_seen(bridge, release):
    """So that the tests above are known to look."""
    release(1)
    for module in (HOOKS / "lib").glob("**/hookdata.py"):
        module.write_text(f"{module.read_text()}\nRELEASE = 9\n")
    hook("port-created", port_created(), executable=INSTALLED)

    eventually(MIXTURES.exists)
