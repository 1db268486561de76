"""Where a store's files are: a folder, or any URL that an installed fsspec backend opens.

Names are relative, with forward slashes. Files appear whole or not at all; of several writers of
one new file the first wins.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import fsspec

from featviz.errors import NotAvailable
from featviz.files import write_whole

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""What a file system without hard links says."""


class Files(ABC):
    """Whole files by name."""

    @property
    @abstractmethod
    def place(self) -> str:
        """The folder or URL, as people write it."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError, NotAvailable."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Replaces what is there. Raises NotAvailable."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Writes a new file; False, and nothing done, where there is one. Raises NotAvailable."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Nothing happens where there is no such file. Raises NotAvailable."""

    @abstractmethod
    def names(self, folder: str) -> Iterator[str]:
        """All files below a folder, sorted, unfinished ones too. Raises NotAvailable."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file. Raises NotAvailable."""


class Folder(Files):
    """A local folder, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def place(self) -> str:
        return str(self.path)

    def read(self, name: str) -> bytes:
        with _said(f"reading {name!r} of {self.place}"):
            return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        write_whole(self.path / name, content)

    def create(self, name: str, content: bytes) -> bool:
        path = self.path / name
        with _said(f"writing {str(path)!r}"):
            _make_folder(path.parent)
            with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                try:
                    os.link(file.name, path)  # fails where there is one, unlike a rename
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    if path.exists():
                        return False
                    write_whole(path, content)  # of two writers at once the last wins
        return True

    def remove(self, name: str) -> None:
        with _said(f"removing {name!r} of {self.place}"):
            (self.path / name).unlink(missing_ok=True)

    def names(self, folder: str) -> Iterator[str]:
        top = self.path / folder
        with _said(f"listing {str(top)!r}"):
            found = [
                (Path(place) / name).relative_to(self.path).as_posix()
                for place, _, names in os.walk(top)
                for name in names
            ]
        return iter(sorted(found))

    def exists(self, name: str) -> bool:
        return (self.path / name).is_file()


class Remote(Files):
    """A folder of an fsspec file system, whose single writes are whole by themselves."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError, OSError) as error:
            raise NotAvailable(f"the store {url!r}", there=_line(error)) from error

    @property
    def place(self) -> str:
        return self.url

    def read(self, name: str) -> bytes:
        with _said(f"reading {name!r} of {self.url}"):
            return self._system.cat_file(self._path(name))

    def write(self, name: str, content: bytes) -> None:
        self._put(name, content)

    def create(self, name: str, content: bytes) -> bool:
        if self.exists(name):
            return False
        try:
            self._put(name, content, mode="create")
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        with _said(f"removing {name!r} of {self.url}"):
            if self._system.exists(self._path(name)):
                self._system.rm_file(self._path(name))

    def names(self, folder: str) -> Iterator[str]:
        with _said(f"listing {folder!r} of {self.url}"):
            self._system.invalidate_cache()
            found = self._system.find(self._path(folder))
        start = len(self._root.rstrip("/")) + 1
        return iter(sorted(each[start:] for each in found))

    def exists(self, name: str) -> bool:
        with _said(f"looking for {name!r} in {self.url}"):
            return bool(self._system.isfile(self._path(name)))

    def _put(self, name: str, content: bytes, **options: Any) -> None:
        path = self._path(name)
        with _said(f"writing {name!r} of {self.url}"):
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(path, content, **options)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotAvailable(f"the folder {str(path)!r}", there="it is a file") from error


def files_at(place: str | Path) -> Files:
    """The files of a folder or URL. Raises NotAvailable where no backend opens it."""
    if isinstance(place, str) and "://" in place and not place.startswith("file://"):
        return Remote(place)
    return Folder(Path(str(place).removeprefix("file://")))


@contextmanager
def _said(what: str) -> Iterator[None]:
    """What the system refuses, in one line; that a file is not there, or is, the caller handles."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        raise NotAvailable(what, there=_line(error)) from error


def _line(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split())[:160].lower()
