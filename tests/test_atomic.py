"""Files that are whole or not at all."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from lab.atomic import write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and permissions of POSIX")


@posix
def test_a_link_stays_one_and_leads_to_what_was_written(tmp_path):
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_text("old")
    link.symlink_to(there)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert there.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "later")
    write_atomically(dangling, "made")
    assert (tmp_path / "later").read_text() == "made"


@posix
def test_a_pipe_is_written_into(tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    write_atomically(pipe, "a page")
    reader.join(10)
    assert heard == ["a page"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@posix
def test_who_may_read_it_is_as_for_any_file(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", "mine")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_what_cannot_be_moved_into_place_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr("lab.atomic.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
