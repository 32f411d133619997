# SPDX-License-Identifier: MIT
"""Current and wanted VLANs of a bridge port, and the commands that lead from one to the other. Pure: runs nothing.

VLANs are a dictionary from VID to its flags, in the words in which `bridge vlan add` takes them:
{46: "pvid untagged"} is an access port, {10: "pvid untagged", 20: "", 30: ""} a trunk with native VLAN 10.
"""

from __future__ import annotations

from . import HookError

VID_MIN, VID_MAX = 1, 4094  # source: IEEE 802.1Q, table 9-2: 0 is a priority tag, 4095 reserved
ACCESS = "pvid untagged"
FLAGS = {
    "pvid": "PVID",
    "untagged": "Egress Untagged",
}  # in the words of `bridge vlan add`, and of `bridge -j vlan show`

Vlans = dict[int, str]


def access(vid: int) -> Vlans:
    """Given a VID, return the VLANs of an access port."""
    return {vid: ACCESS}


def of_new_bridge_port(default_pvid: int) -> Vlans:
    """Given a bridge's default PVID (0: none), return the VLANs of a port that has just joined the bridge."""
    return access(default_pvid) if default_pvid else {}


def every(default_pvid: int) -> Vlans:
    """Given a bridge's default PVID (0: none), return the VLANs of a trunk of every VID, the default PVID native."""
    return {vid: ACCESS if vid == default_pvid else "" for vid in range(VID_MIN, VID_MAX + 1)}


def is_every(vlans: Vlans | None) -> bool:
    """Given VLANs, return whether they are all that there are."""
    return vlans is not None and len(vlans) >= VID_MAX


def checked_vid(text: str) -> int:
    """Given what should be a VID, return it; raise HookError unless it is a number from 1 to 4094.

    `bridge` itself reads VIDs with atoi(): to it, "5x" is 5 and "abc" is 0.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and VID_MIN <= int(text) <= VID_MAX):
        raise HookError(f"'{text}' is not a VID: a VID is a number from {VID_MIN} to {VID_MAX}")
    return int(text)


def from_bridge(shown: object) -> Vlans:
    """Given the parsed answer of `bridge -j vlan show dev TAP`, return the tap's VLANs, none if the answer lacks it.

    Raises HookError if the answer is not a list of VLANs.
    """
    vlans: Vlans = {}
    try:
        if not isinstance(shown, list):  # {} would be no VLANs at all
            raise TypeError
        for bridge_port in shown:
            for entry in bridge_port["vlans"]:
                words = [word for word, flag in FLAGS.items() if flag in entry.get("flags", ())]
                for vid in range(entry["vlan"], entry.get("vlanEnd", entry["vlan"]) + 1):
                    vlans[vid] = " ".join(words)
    except (TypeError, KeyError, AttributeError) as error:
        raise HookError(
            f"bridge -j vlan show printed {shown!r}, which is not a list of VLANs: run it in a shell, and update "
            "iproute2 if it prints the same there"
        ) from error
    return vlans


def changes(tap: str, current: Vlans, wanted: Vlans) -> list[list[str]]:
    """Given a tap, its current and its wanted VLANs, return the `bridge` commands that lead from one to the other.

    Deletes come first: whatever ends half way leaves the tap in no VLAN rather than in a wrong one.
    """
    surplus = {vid: "" for vid in current if vid not in wanted}
    missing = {vid: flags for vid, flags in wanted.items() if current.get(vid) != flags}
    # the PVID last: until then the bridge drops what the guest sends untagged
    missing_in_order = sorted(ranges(missing), key=lambda entry: "pvid" in entry[1])
    return [["bridge", "vlan", "del", "dev", tap, "vid", vids, "master"] for vids, _ in ranges(surplus)] + [
        ["bridge", "vlan", "add", "dev", tap, "vid", vids, *flags.split(), "master"] for vids, flags in missing_in_order
    ]


def to_text(vlans: Vlans) -> str:
    """Given VLANs, return them in one line, as in "10 pvid untagged, 20, 30-40"; "none" if there are none."""
    return ", ".join(f"{vids} {flags}".rstrip() for vids, flags in ranges(vlans)) or "none"


def instead(current: Vlans, wanted: Vlans) -> str:
    """Given current and wanted VLANs, which differ, return the words about that: "1 pvid untagged instead of 20"."""
    return f"{to_text(current)} instead of {to_text(wanted)}"


def from_text(text: str) -> Vlans:
    """Given what to_text() returned, return the VLANs; raise HookError if the text is anything else."""
    vlans: Vlans = {}
    for entry in text.split(", ") if text != "none" else ():
        vids, _, flags = entry.partition(" ")
        first, _, last = vids.partition("-")
        if flags not in ("", "pvid", "untagged", ACCESS):
            raise HookError(f"'{flags}' are not flags of a VLAN")
        for vid in range(checked_vid(first), checked_vid(last or first) + 1):
            vlans[vid] = flags
    return vlans


def ranges(vlans: Vlans) -> list[tuple[str, str]]:
    """Given VLANs, return (VIDs, flags) in order, neighbours of equal flags as "2-4094".

    `bridge` refuses a range of one ("5-5"), and one with pvid: a port has one PVID, so that is always on its own.
    """
    runs: list[list[int]] = []
    for vid in sorted(vlans):
        if runs and runs[-1][-1] == vid - 1 and vlans[vid] == vlans[vid - 1]:
            runs[-1].append(vid)
        else:
            runs.append([vid])
    return [(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}", vlans[run[0]]) for run in runs]
