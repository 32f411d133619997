# SPDX-License-Identifier: MIT
"""Notes of starts that the hooks have refused."""

import os

import pytest

from libvirt_hooks import refusals, tickets

WEB, DB = "14c6f67e-7f4a-4044-b0ed-336b9ee62273", "00000000-0000-0000-0000-000000000001"


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(tickets, "DIRECTORY", str(tmp_path / "run"))
    return tmp_path / "run"


def test_a_refused_start_is_noted_until_the_guest_starts():
    refusals.note(WEB, "web", "VM web: no")
    refusals.note(DB, "a\nb", "first")
    refusals.note(DB, "a\nb", "x\ny")
    first, second = refusals.noted()
    assert (first.vm_uuid, first.vm, first.sentence) == (DB, r"a\nb", r"x\ny")
    assert (second.vm_uuid, second.vm, second.sentence) == (WEB, "web", "VM web: no")
    assert second.seconds > 1_700_000_000
    refusals.forget(DB)
    refusals.forget(DB)
    assert [one.vm for one in refusals.noted()] == ["web"]


def test_what_cannot_be_written_or_read_is_no_matter(directory):
    assert refusals.noted() == []
    directory.write_text("no directory")
    refusals.note(WEB, "web", "no")
    refusals.forget(WEB)
    assert refusals.noted() == []
    directory.unlink()
    refusals.note(WEB, "web", "no")
    for name, text in (("refused.x", "1\na\nb\n"), (f"refused.{DB}", "1\na\n"), (f"refused.{DB}.new", "")):
        (directory / name).write_text(text)
    assert [one.vm for one in refusals.noted()] == ["web"]
    assert os.listdir(directory).count(f"refused.{WEB}.new") == 0
