"""The folder of a site: what we wrote there is known by a manifest, and nothing else is touched."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from featviz.errors import DoesNotFit, NotAvailable
from featviz.files import check_writable, write_whole

MANIFEST = "featviz-site.json"
FORMAT = 1
WAITING_BYTES = 2**24
WRITERS = 8
"""Threads, which mostly wait for the disk."""
_OURS = re.compile(
    r"(index|report)\.html|(static|data|sheets)/[\w-]+\.(js|css|svg|webp)"
    r"|pictures/[0-9a-f]{2}/[0-9a-f]+-\d+\.(png|webp)|exemplars/[0-9a-f]{2}/[0-9a-f]+\.webp"
)
"""Names that a site may have; whatever a manifest says, no other is removed."""


class SiteFolder:
    """Files of one build of a site. Each is named in the manifest before it is written.

    Raises DoesNotFit where a file that is not ours is in the way, NotAvailable where nothing can
    be written.
    """

    def __init__(self, path: Path) -> None:
        check_writable(path)
        self.path = path
        self._before = _listed(path / MANIFEST)
        self._waiting: dict[str, bytes] = {}
        self._written: set[str] = set()
        self.size = 0
        """Bytes of this build's files."""

    @property
    def count(self) -> int:
        """Files of this build."""
        return len(self._written) + len(self._waiting)

    def put(self, name: str, content: bytes) -> None:
        """Writes a file, soon; one that is there with the same content stays."""
        assert _OURS.fullmatch(name), name
        if name in self._waiting or name in self._written:
            return
        self.size += len(content)
        self._waiting[name] = content
        if sum(map(len, self._waiting.values())) > WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes all that waits."""
        for name in self._waiting.keys() - self._before - self._written:
            if (self.path / name).exists():
                raise DoesNotFit(
                    f"the folder {str(self.path)!r}",
                    got=f"{name}, which no site of ours left there",
                    expected="a new folder",
                    hint="choose another --out",
                )
        self._written |= self._waiting.keys()
        self._list(self._before | self._written)
        with ThreadPoolExecutor(max_workers=WRITERS) as writers:
            for _ in writers.map(self._write, self._waiting.items()):
                pass
        self._waiting = {}

    def _write(self, file: tuple[str, bytes]) -> None:
        name, content = file
        if not _holds(self.path / name, content):
            write_whole(self.path / name, content)

    def finish(self) -> None:
        """Writes what waits, then removes what earlier builds left and this one has not."""
        self.flush()
        for name in sorted(self._before - self._written):
            if _OURS.fullmatch(name):
                _remove(self.path / name, self.path)
        self._list(self._written)

    def _list(self, names: set[str]) -> None:
        text = json.dumps({"format": FORMAT, "files": sorted(names)}, indent=0)
        write_whole(self.path / MANIFEST, f"{text}\n".encode())


def site_in(folder: Path) -> Path:
    """The site that is in a folder, or in that of a store. Raises NotAvailable."""
    for path in (folder, folder / "site"):
        if (path / MANIFEST).is_file() and (path / "index.html").is_file():
            return path
    there = "there is no such folder" if not folder.is_dir() else "make it with `featviz site`"
    raise NotAvailable(f"a site in {str(folder)!r}", there=there)


def _listed(manifest: Path) -> set[str]:
    """The files of earlier builds; none where there is no manifest that can be read."""
    try:
        names = json.loads(manifest.read_bytes())["files"]
        return {name for name in names if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _remove(path: Path, top: Path) -> None:
    """Removes a file, and the folder that it leaves empty."""
    try:
        path.unlink(missing_ok=True)
        if path.parent != top and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        there = (error.strerror or str(error)).lower()
        raise NotAvailable(f"removing {str(path)!r}", there=there) from error
