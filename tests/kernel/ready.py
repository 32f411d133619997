# SPDX-License-Identifier: MIT
"""The hooks' own main(), called hundreds of times: in children of a process that has imported everything already.

Python's start and the imports take seconds in the lab, and change nothing on a bridge. All else is as libvirt has it:
the system's Python, pipes as stdin, stdout and stderr, libvirt's environment, and the call ends once nobody holds
stdout and stderr any more. The detached process is a real one, to be killed like any other.

    /usr/bin/python3 -I ready.py LIB [MODULE.CONSTANT=NUMBER ...]

A constant, for example lifecycle.LIVE_GRACE_SECONDS, can be made smaller: the code that heeds it is the same.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

LIB = Path(__file__).resolve().parents[2] / "lib"


class Ready:
    """A process that is ready to be the network hook or the qemu hook, again and again."""

    def __init__(self, **constants):
        """Given constants, for example lifecycle__LIVE_GRACE_SECONDS=1, be ready, with these instead of ours."""
        words = [f"{name.replace('__', '.')}={value}" for name, value in constants.items()]
        self._process = subprocess.Popen(
            ["/usr/bin/python3", "-I", __file__, LIB, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, program, name, operation, xml, path=None):
        """Call a hook as libvirt does, return when libvirt would go on: its exit status and stderr."""
        environment = {"LC_ALL": "C", **({"PATH": path} if path else {})}
        status, stdout, stderr = self._ask([program, [name, operation, "begin", "-"], xml, environment])
        assert stdout == ""
        return SimpleNamespace(returncode=status, stderr=stderr)

    def network(self, operation, xml, path=None):
        """Call the network hook for the network br0."""
        return self.call("network", "br0", operation, xml, path)

    def qemu(self, vm, xml, path=None):
        """Call the qemu hook as `virsh start` does before QEMU runs."""
        return self.call("qemu", vm, "start", xml, path)

    def follow(self, address, live=False, path="/usr/sbin:/usr/bin:/bin"):
        """Have a detached process make br0's port of that address right, as after port-created; return its id."""
        return self._ask(["follow", ["br0", address, live], "", {"LC_ALL": "C", "PATH": path}])

    def watch(self, path="/usr/sbin:/usr/bin:/bin"):
        """Have a detached process be `libvirt-vlan watch`; return its id."""
        return self._ask(["watch", [], "", {"LC_ALL": "C", "PATH": path}])

    def detached(self):
        """Return the ids of the processes that the hooks have left behind."""
        from processes import command_lines  # not where this file is a program: that finds no modules beside it

        ours = [process for process, words in command_lines() if words[2:3] == [__file__.encode()]]
        return [process for process in ours if process != self._process.pid]

    def kill(self, *processes):
        """Given the ids of detached processes, or none for all of them, kill them and return once they are gone."""
        for process in processes or self.detached():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while set(self.detached()) & set(processes or self.detached()):
            time.sleep(0.01)

    def close(self):
        """End all of it."""
        self._process.stdin.close()
        self._process.wait()
        self.kill()

    def _ask(self, request):
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def _serve(lib, constants):
    sys.path.insert(0, lib)
    from libvirt_hooks import (  # noqa: F401
        backup,
        bridge,
        guest_start,
        lifecycle,
        locks,
        network,
        ports,
        qemu,
        setter,
        tickets,
        waiting,
    )
    from libvirt_hooks.tool import watch

    for word in constants:
        name, _, number = word.partition("=")
        module, _, constant = name.partition(".")
        assert isinstance(getattr(locals()[module], constant), int)
        setattr(locals()[module], constant, json.loads(number))
    mains = {"network": network.main, "qemu": qemu.main}
    for line in sys.stdin:
        program, arguments, xml, environment = json.loads(line)
        if program == "watch":
            answer = _detached(lambda: watch.watch(dry_run=False), environment)
        elif program == "follow":
            answer = _detached(lambda arguments=arguments: _follow((locks, tickets, waiting), *arguments), environment)
        else:
            answer = _called(mains[program], arguments, xml.encode(), environment)
        print(json.dumps(answer), flush=True)


def _may_stop(operation, xml):
    """Return what the hooks' own files say, as far as these tests need it."""
    return operation in ("port-created", "start") and (b"<group>" in xml or b"portgroup=" in xml)


def _follow(modules, bridge, key, live):
    """Be the detached process for the newest ticket of that key."""
    locks, tickets, waiting = modules
    ticket = tickets.of(bridge, key)[-1]
    began = ticket.created + live  # older than the process, and written again: its tap was there before
    waiting.serve(ticket, locks.take_guests(ticket.vm_uuid), began)


def _detached(work, environment):
    """Given some work, have a process of its own do it, whose parent is none of ours; return its id."""
    pid_out, pid_in = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild:
            os.write(pid_in, str(grandchild).encode())
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, pid_in + 1)
        os.environ.clear()
        os.environ.update(environment)
        work()
        os._exit(0)
    os.waitpid(child, 0)
    process = int(os.read(pid_out, 20))
    os.close(pid_out)
    os.close(pid_in)
    return process


def _called(main, arguments, xml, environment):
    """Given a hook's main() and what libvirt calls it with, return its exit status, stdout and stderr."""
    (xml_out, xml_in), (stdout_out, stdout_in), (stderr_out, stderr_in) = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        for place, descriptor in enumerate((xml_out, stdout_in, stderr_in)):
            os.dup2(descriptor, place)
        os.closerange(3, stderr_in + 1)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir("/")
        status = main(arguments, _may_stop)
        sys.stderr.flush()
        os._exit(status)
    for descriptor in (xml_out, stdout_in, stderr_in):
        os.close(descriptor)
    with open(xml_in, "wb") as file:
        file.write(xml)
    with open(stdout_out, encoding="utf-8") as stdout, open(stderr_out, encoding="utf-8") as stderr:
        said = stdout.read(), stderr.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *said


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
