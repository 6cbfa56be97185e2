import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from sfumato.errors import DiskFull
from sfumato.files import write_atomic


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_folders_are_made(tmp_path):
    write_atomic(tmp_path / "a" / "b.txt", b"x")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"x"
    assert names(tmp_path / "a") == ["b.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, code):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail(handle):
        raise OSError(code, "no room")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFull, match=r"write a\.txt"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_other_errors_leave_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomic(tmp_path / "folder", b"x")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
def test_names_that_are_taken_are_kept(tmp_path, monkeypatch, links):
    if not links:

        def refuse(source, target):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.txt"
    write_atomic(path, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_atomic(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["a.txt"]


def test_a_name_is_given_once(tmp_path):
    def attempt(index):
        try:
            write_atomic(tmp_path / "a.txt", bytes([index]), replace=False)
        except FileExistsError:
            return None
        return index

    with ThreadPoolExecutor(8) as pool:
        winners = [index for index in pool.map(attempt, range(24)) if index is not None]
    assert len(winners) == 1
    assert (tmp_path / "a.txt").read_bytes() == bytes(winners)
    assert names(tmp_path) == ["a.txt"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def refused(file, mode):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(PermissionError) as caught:
        write_atomic(tmp_path / "picture.png", b"x")
    assert caught.value.filename == str(tmp_path / "picture.png")
