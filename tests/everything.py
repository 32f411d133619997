# SPDX-License-Identifier: MIT
"""Run tox's environments side by side, and tell how far that is: for tests/check.

    tests/everything.py TOX MINUTES ENVIRONMENT...

At first how long it takes; a line when each environment begins and ends, and each minute; the whole output of one that
fails; at the end the ten slowest tests, and one line that says whether all have passed.
"""

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

AT_ONCE = 5  # a lab has one processor, and sleeps half of its time: five of them keep two processors busy
LONGEST, NICENESS = 2, "3"  # the first of the list take the longest: one on each processor goes ahead of the others
SLOWEST = 10
MINUTE_SECONDS = 60  # between two lines that say how far it is


def run(tox, environment, place, progress):
    """Given tox, an environment and its place in the list, run it; return whether it has passed, and its output."""
    progress(f"{environment} begins")
    began = time.monotonic()
    done = subprocess.run(
        ["nice", "-n", "0" if place < LONGEST else NICENESS, tox, "run", "-e", environment],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    counts = ", ".join(re.findall(r"(?m)^=+ (.*(?:passed|failed|error).*) in [\d.]+s", done.stdout)) or "no tests"
    word = "FAILED" if done.returncode else "passed"
    if done.returncode:
        say(done.stdout)
    progress(f"{environment} {word} after {clock(time.monotonic() - began)}: {counts}", ends=True)
    return done.returncode == 0, done.stdout


def clock(seconds):
    """Given seconds, return them as in "3:05" minutes."""
    return "{}:{:02}".format(*divmod(round(seconds), 60))


def slowest(outputs):
    """Given outputs of pytest, return the lines about the slowest tests, those first."""
    lines = {line for output in outputs for line in re.findall(r"(?m)^[\d.]+s (?:call|setup|teardown) .*", output)}
    return sorted(lines, key=lambda line: -float(line.partition("s ")[0]))[:SLOWEST]


def total(verdict, outputs):
    """Given "passed" or "failed" and outputs of pytest, return how many tests are that."""
    summaries = [line for output in outputs for line in re.findall(r"(?m)^=+ .* in [\d.]+s.*", output)]
    return sum(int(count) for line in summaries for count in re.findall(rf"(\d+) {verdict}", line))


def say(text):
    """Print a text at once: what runs side by side must not share a line."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def main():
    """Run all that the command line names; return 1 if one has failed."""
    tox, minutes, *environments = sys.argv[1:]
    began, ended, lock = time.monotonic(), [], threading.Lock()

    def progress(text, ends=False):
        with lock:
            ended.extend([text] if ends else [])
            far = f"{clock(time.monotonic() - began)} of about {minutes}:00, {len(ended)} of {len(environments)} done"
            say(f"[{far}] {text}")

    say(
        f"This takes about {minutes} minutes on two processors that do nothing else, and some more the first time. "
        f"{len(environments)} environments, {AT_ONCE} at once:"
    )
    with ThreadPoolExecutor(AT_ONCE) as executor:
        runs = [executor.submit(run, tox, name, place, progress) for place, name in enumerate(environments)]
        while wait(runs, timeout=MINUTE_SECONDS).not_done:
            running = [name for name, one in zip(environments, runs) if one.running()]
            progress(f"running: {', '.join(running)}")
        results = [one.result() for one in runs]
    outputs = [output for _, output in results]
    say("\n".join(["the slowest tests:", *slowest(outputs)]))
    failed = [name for name, (passed, _) in zip(environments, results) if not passed]
    took = clock(time.monotonic() - began)
    if failed:
        again = f"sh tests/check -e {failed[0]}"
        say(f"Tests FAILED, after {took} minutes, in {', '.join(failed)}: see above. To repeat one: {again}")
    else:
        say(f"All tests have passed, in {took} minutes: nothing is wrong with this code here.")
    say(f"{total('passed', outputs)} passed, {total('failed', outputs)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
