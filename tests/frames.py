# SPDX-License-Identifier: MIT
"""Frames sent and received, to see what reaches whom."""

import contextlib
import socket
import time

ETH_P_ALL = 3  # source: linux/if_ether.h
ETHERTYPE = 0x88B5  # IEEE 802 local experimental: nothing else on a test's network uses it
BROADCAST = "ff:ff:ff:ff:ff:ff"


def send(interface, source="02:00:00:00:00:01", content=b"hello", destination=BROADCAST):
    """Given an interface, send one untagged frame through it, to everybody if nothing else is said."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        header = bytes.fromhex((destination + source).replace(":", "")) + ETHERTYPE.to_bytes(2, "big")
        sender.send((header + content).ljust(60, b"\0"))


@contextlib.contextmanager
def listening(*interfaces):
    """Given interfaces, listen there; give a function that returns those that a frame has come to since."""
    with contextlib.ExitStack() as stack:
        listeners = {}
        for interface in interfaces:
            listener = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)))
            listener.bind((interface, ETHERTYPE))
            listener.setblocking(False)
            listeners[interface] = listener

        def reached(within_seconds=0.5):
            time.sleep(within_seconds)
            return {interface for interface, listener in listeners.items() if _count(listener)}

        yield reached


@contextlib.contextmanager
def bridged_to(tap):
    """Given a tap, give a function that returns how many frames of tests the bridge has sent there since."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as listener:
        listener.bind((tap, ETH_P_ALL))  # only who listens to all protocols hears what is sent
        listener.setblocking(False)

        def heard():
            count = 0
            while True:
                try:
                    count += listener.recv(2048)[12:14] == ETHERTYPE.to_bytes(2, "big")
                except BlockingIOError:
                    return count
                except OSError:  # once after the tap was down
                    continue

        yield heard


def _count(listener):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            _, (_, _, kind, _, _) = listener.recvfrom(2048)
            count += kind != socket.PACKET_OUTGOING  # what this end sent itself
    return count
