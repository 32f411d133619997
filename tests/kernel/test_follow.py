# SPDX-License-Identifier: MIT
"""docs/how-it-works.md, "Follow one start", names the functions that a start really calls, in their order."""

import re
from pathlib import Path

from captured import domain
from conftest import MAC, REPOSITORY, UUID, detached, hook, logged, port_created
from iproute import ACCESS, eventually, vlans

from libvirt_hooks import VERSION

PAGE = (REPOSITORY / "docs/how-it-works.md").read_text()
SECTION = PAGE.partition("## Follow one start")[2].partition("\n## ")[0]
STEPS = SECTION[SECTION.index("\n1. ") : SECTION.index("```")]
LOG = SECTION.partition("```\n")[2].partition("```")[0].splitlines()
# what notes each call of a function of ours; the detached process inherits it
TRACER = """
def note(frame, event, argument, notes=os.open({notes!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
    path = frame.f_code.co_filename
    if event == "call" and "libvirt_hooks" in path:
        os.write(notes, f"{{os.path.basename(path)[:-3]}}.{{frame.f_code.co_name}}\\n".encode())
sys.setprofile(note)
try:
"""


def traced(name, directory):
    """Return a hook that notes each call of our functions, and the file of its notes."""
    program, notes = directory / name, directory / f"{name}.notes"
    lib = f'places = ("{REPOSITORY}/lib",)'
    text = re.sub(r"places = .*", lib, (REPOSITORY / "hooks" / name).read_text())
    program.write_text(text.replace("\ntry:\n", TRACER.format(notes=str(notes)), 1))
    program.chmod(0o755)
    return program, notes


def test_each_function_is_called_and_in_this_order(bridge, tmp_path):
    (network, before), (qemu, after) = (traced(name, tmp_path) for name in ("network", "qemu"))
    hook("port-created", port_created(), executable=network)
    eventually(lambda: Path(before).read_text().count("try_to_set_vlans"))
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == {46: ACCESS} and not detached())
    assert hook("start", domain([(MAC, UUID, "vnet0")]), executable=qemu, name="web").returncode == 0

    called = iter([*before.read_text().split(), *after.read_text().split()])
    named = re.findall(r"`(\w+\.\w+)`", STEPS)
    assert len(named) > 20
    assert [function for function in named if function not in called] == []  # `in` goes on from where it was


def test_the_log_is_the_one_on_the_page(bridge):
    hook("port-created", port_created())
    bridge.add_tap()
    eventually(lambda: vlans("vnet0") == {46: ACCESS} and not detached())

    ours = [re.sub(r"^port-created: libvirt-hooks .*", f"port-created: libvirt-hooks {VERSION}", line) for line in LOG]
    assert logged(whole=True) == [line.replace("52:54:00:e2:55:89", MAC) for line in ours]
