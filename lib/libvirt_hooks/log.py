# SPDX-License-Identifier: MIT
"""One line to the system's log: one for each decision, one for each command that changes something.

syslog(3), which the journal reads too; where there is no /dev/log, a file. The standard library's `syslog` rather than
`logging`: libvirtd waits while it is imported.
"""

from __future__ import annotations

import os
import sys
import syslog
import time

SYSLOG_SOCKET = "/dev/log"
FILE = "/var/log/libvirt/hooks.log"
FILE_MAX_BYTES = 1 << 20  # some ten thousand lines; as much again is in FILE.1

_ident = "libvirt-hook"
_said: set[str] = set()


def start(ident: str) -> None:
    """Given the name that every line is to carry, be ready to log."""
    global _ident
    _ident = ident
    syslog.openlog(ident, syslog.LOG_PID, syslog.LOG_DAEMON)


def nic(vm: str, mac: str, tap: str, group: str) -> str:
    """Given a NIC's VM, MAC address, tap and portgroup ("" for none), return what its log lines begin with."""
    return f"{vm} {mac} {tap or '-'} {group or '-'}"


def one_line(text: str) -> str:
    """Given text from anywhere, return it with every character that could forge or hide a line written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def described(error: BaseException) -> str:
    """Given an exception that nobody expected, return where it came from and what it says."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{place}: {type(error).__name__}: {error}"


def debug(message: str) -> None:
    """Given what was read, log it: `journalctl -p debug` shows it."""
    _write(syslog.LOG_DEBUG, message)


def info(*messages: str) -> None:
    """Given decisions or commands that change something, log each in a line of its own."""
    _write(syslog.LOG_INFO, *messages)


def warning(message: str) -> None:
    """Given something that went wrong and is tried again, log it."""
    _write(syslog.LOG_WARNING, message)


def warning_once(message: str) -> None:
    """Given something that lasts, log it the first time that this process meets it."""
    if message not in _said:
        _said.add(message)
        warning(message)


def error(message: str) -> None:
    """Given what the operator must know, log it."""
    _write(syslog.LOG_ERR, message)


def _write(priority: int, *messages: str) -> None:
    texts = [one_line(message) for message in messages]
    if os.path.exists(SYSLOG_SOCKET):
        for text in texts:
            syslog.syslog(priority, text)
        return
    begin = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {_ident}[{os.getpid()}]: "
    try:
        descriptor = _open_file()
        try:
            os.write(descriptor, "".join(f"{begin}{text}\n" for text in texts).encode())
        finally:
            os.close(descriptor)
    except OSError as failure:  # no place left to say it but here; a log that fails must not fail a VM's start
        for text in texts:
            print(f"{FILE}: {failure}: {text}", file=sys.stderr)


def _open_file() -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        if os.stat(FILE).st_size >= FILE_MAX_BYTES:
            os.replace(FILE, f"{FILE}.1")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(FILE), mode=0o755, exist_ok=True)
    return os.open(FILE, flags, 0o600)
