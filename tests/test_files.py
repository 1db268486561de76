"""Files appear whole or not at all; names are safe; what cannot be written is said early."""

import errno
import os
import signal
from pathlib import Path

import pytest

from featviz.errors import NotAvailable
from featviz.files import check_writable, file_name, write_whole


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "some" / "folder" / "file.bin"
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failing_write_leaves_what_was_there(
    step: str, failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.bin"
    write_whole(path, b"old")

    def fail(*arguments: object) -> None:
        raise failure

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    expected = NotAvailable if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_whole(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_an_interruption_waits_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file.bin", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "file.bin"]


def test_the_reason_of_a_failing_write_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotAvailable, match=r"writing '.*folder' is not available; is a directory"):
        write_whole(tmp_path / "folder", b"content")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_can_be_made_is_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "one.two" / "three")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("file", "file' is a file"),
        ("file/below", "file' is a file"),
        ("/dev/null/x", "'/dev/null' cannot be written to: not a directory"),
        ("/proc/x", "'/proc' cannot be written to"),
    ],
)
def test_what_cannot_be_written_is_named(name: str, there: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(NotAvailable) as caught:
        check_writable(tmp_path / name)
    assert f"the folder {str(tmp_path / name)!r}" in str(caught.value)
    assert there in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("blocks.4:17@7,7", "blocks.4-17@7,7"),
        ("-curve:3", "minus-curve-3"),
        ("curve/pre:3", "curve-pre-3"),
        ("channel(a, 3) - 0.5 * l1()", "channel-a,3-0.5-l1"),
        ("../../etc/passwd", "..-..-etc-passwd"),
    ],
)
def test_names_of_files_have_no_separators(text: str, name: str) -> None:
    assert file_name(text) == name
