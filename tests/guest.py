# SPDX-License-Identifier: MIT
"""What a guest on a tap would send, and which VLANs of the bridge that reaches.

A tap's frames come through the file descriptor that QEMU has of it, before that libvirtd; so a copy of that descriptor
sends exactly what a guest that is quick enough could.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
import time
from pathlib import Path

from frames import BROADCAST, ETH_P_ALL, ETHERTYPE
from iproute import bridge, ip

PIDFD_GETFD = 438  # source: linux, include/uapi/asm-generic/unistd.h
TUNGETIFF, TUNGETVNETHDRSZ, IFF_VNET_HDR = 0x800454D2, 0x800454D7, 0x4000  # source: linux/if_tun.h
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 0x10  # source: linux/if_packet.h
AUXDATA = struct.Struct("IIIHHHH")  # struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid
SO_RCVBUFFORCE = 33  # source: asm-generic/socket.h
NOW = struct.Struct("d")
FIND_EVERY_SECONDS, SEND_EVERY_SECONDS = 0.01, 0.001


def descriptor_of(process, tap="vnet"):
    """Given a process id and how a tap's name begins, return a copy of the process's descriptor of it, or None."""
    try:
        for info in Path(f"/proc/{process}/fdinfo").iterdir():
            if f"iff:\t{tap}" in info.read_text():
                process_descriptor = os.pidfd_open(int(process))
                copy = ctypes.CDLL(None).syscall(PIDFD_GETFD, process_descriptor, int(info.name), 0)
                os.close(process_descriptor)
                return copy if copy >= 0 else None
    except OSError:  # it is gone
        pass
    return None


def tap_of_qemu(words=b""):
    """Given words of a QEMU's command line, return a copy of its descriptor of its tap, None if there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_qemu = "qemu-system" in str((process / "exe").readlink())
            if is_qemu and words in (process / "cmdline").read_bytes():
                return descriptor_of(process.name)
    return None


@contextlib.contextmanager
def sending(find, mac):
    """Given a function that returns a tap's descriptor or None and a MAC address, send from the first descriptor on.

    Gives a function that returns how many frames it has sent.
    """
    sent, done = 0, threading.Event()

    def send():
        nonlocal sent
        while (descriptor := find()) is None:
            if done.wait(FIND_EVERY_SECONDS):
                return
        flags = struct.unpack_from("H", fcntl.ioctl(descriptor, TUNGETIFF, bytes(40)), 16)[0]
        size = struct.unpack("I", fcntl.ioctl(descriptor, TUNGETVNETHDRSZ, bytes(4)))[0] if flags & IFF_VNET_HDR else 0
        header = bytes(size) + bytes.fromhex((BROADCAST + mac).replace(":", "")) + ETHERTYPE.to_bytes(2, "big")
        while not done.wait(SEND_EVERY_SECONDS):
            with contextlib.suppress(OSError):  # the tap is not up yet
                os.write(descriptor, (header + NOW.pack(time.monotonic())).ljust(size + 60, b"\0"))
                sent += 1
        os.close(descriptor)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lambda: sent
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def listening_in_every_vlan(bridge_name):
    """Given a bridge, give a function that returns what has come since the last time, as {vid: [when sent, ...]}."""
    with listening_behind("every") as heard:
        ip("link", "set", "every", "master", bridge_name)
        bridge("vlan", "del", "dev", "every", "vid", "1")
        bridge("vlan", "add", "dev", "every", "vid", "1-4094")
        yield heard


@contextlib.contextmanager
def listening_behind(uplink):
    """Given a name, make an interface of that name, for a bridge, and give the same function for what comes out there.

    The VID of what comes untagged is 0.
    """
    ip("link", "add", uplink, "type", "veth", "peer", "name", "listener")
    ip("link", "set", uplink, "up")
    ip("link", "set", "listener", "up")
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as listener:
            listener.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)  # a minute's frames
            listener.bind(("listener", ETH_P_ALL))
            listener.setblocking(False)
            yield lambda: _received(listener)
    finally:
        ip("link", "del", uplink)


def _received(listener):
    came = {}
    with contextlib.suppress(BlockingIOError):
        while True:
            frame, ancillary, _, _ = listener.recvmsg(2048, 256)
            if frame[12:14] != ETHERTYPE.to_bytes(2, "big"):
                continue
            ((status, *_, tag, _),) = (AUXDATA.unpack(data) for _, kind, data in ancillary if kind == PACKET_AUXDATA)
            vid = tag & 0xFFF if status & TP_STATUS_VLAN_VALID else 0
            came.setdefault(vid, []).append(NOW.unpack_from(frame, 14)[0])
    return came
