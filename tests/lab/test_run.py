# SPDX-License-Identifier: MIT
"""The lab itself, from outside: exit statuses, its processor, and a second boot only for a kernel that has died."""

import importlib.machinery
import importlib.util
import os
import signal
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run")
PANIC = "echo c >/proc/sysrq-trigger; sleep 60"
AGAIN = "booting again, and running the command again, once"


@pytest.fixture
def lab(tmp_path):
    """Give lab(shell, *options), which runs shell commands in the lab; the file `runs` there gets a line each time."""

    def run(shell, *options):
        command = ["sh", "-c", f"echo >>{tmp_path}/runs; sync; {shell}"]
        done = subprocess.run(
            [RUN, "--memory", "256M", "--share", tmp_path, *options, "--", *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done, len((tmp_path / "runs").read_text())

    return run


@pytest.fixture(scope="module")
def module():
    """Give tests/lab/run as a module."""
    loader = importlib.machinery.SourceFileLoader("lab", str(RUN))
    run = importlib.util.module_from_spec(importlib.util.spec_from_loader("lab", loader))
    loader.exec_module(run)
    return run


@pytest.mark.parametrize("status", [0, 1, 5, 125])
def test_a_command_runs_once_and_its_status_comes_out(lab, status):
    done, runs = lab(f"echo out; exit {status}")

    assert (done.returncode, done.stdout, done.stderr, runs) == (status, "out\n", "", 1)


def test_a_kernel_that_dies_is_booted_again_and_the_command_run_again(lab, tmp_path):
    done, runs = lab(f"[ $(wc -l <{tmp_path}/runs) = 2 ] || {{ {PANIC}; }}; exit 7")

    assert (done.returncode, runs) == (7, 2)
    assert done.stderr.count(AGAIN) == 1
    assert "panic" in done.stderr


def test_a_kernel_that_dies_twice_is_the_labs_failure(lab):
    done, runs = lab(PANIC)

    assert (done.returncode, runs) == (125, 2)
    assert done.stderr.count(AGAIN) == 1


def test_a_command_that_takes_too_long_is_not_run_again(lab):
    done, runs = lab("sleep 60", "--timeout", "8")

    assert (done.returncode, runs) == (125, 1)
    assert done.stderr == "lab: the command took longer than --timeout allows, and was ended\n"


def test_a_lab_takes_the_better_seat_that_another_leaves(module):
    first, second, third = (module.Seat({1001, 1002}) for _ in range(3))  # this machine has no such processors
    assert [seat.better() for seat in (first, second, third)] == [1001, 1002, 1001]
    assert (third.better(), third.row) == (None, 1)

    second.claim.close()

    assert (third.better(), third.row, third.better(), first.better()) == (1002, 0, None, None)
    for seat in (first, third):
        seat.claim.close()


def test_a_lab_that_moves_takes_all_of_its_processes_along(module):
    (processor, *_) = sorted(os.sched_getaffinity(0))
    shell = "sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        child = int(parent.stdout.readline())
        module.move(parent.pid, processor)
        stay = [os.sched_getaffinity(process) for process in (parent.pid, child)]
        os.killpg(parent.pid, signal.SIGKILL)

    assert stay == [{processor}] * 2
    assert os.sched_getaffinity(0) != {processor} or os.cpu_count() == 1


def test_at_most_three_labs_stay_on_a_processor(module):
    """Labs that find three on each processor stay on none. Other labs can run meanwhile."""
    processors = os.sched_getaffinity(0)
    all_run = threading.Barrier(3 * len(processors) + 1)

    def stay(_number):  # what a thread stays on is its own
        with module.one_processor():
            all_run.wait(timeout=10)
            during = os.sched_getaffinity(0)
            all_run.wait(timeout=10)
        return during, os.sched_getaffinity(0)

    with ThreadPoolExecutor(all_run.parties) as executor:
        stays = list(executor.map(stay, range(all_run.parties)))
    ones = [during for during, _ in stays if during != processors]
    assert all(len(during) == 1 for during in ones)
    assert len(ones) < len(stays)
    assert max(Counter(processor for during in ones for processor in during).values(), default=0) <= 3
    assert [after for _, after in stays] == [processors] * len(stays)
