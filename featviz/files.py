"""Files that appear whole or not at all, and names that are safe in any file system."""

import os
import re
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile

from featviz.errors import NotAvailable
from featviz.interrupts import uninterrupted


@uninterrupted()
def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all. Raises NotAvailable when it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise NotAvailable(f"writing {str(path)!r}", there=_reason(error)) from error


def check_writable(folder: Path) -> None:
    """Raises NotAvailable when no file can be written into `folder`, which need not exist."""
    nearest = folder.absolute()
    try:
        while not nearest.exists():
            nearest = nearest.parent
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        is_file = nearest.is_file()
        there = "is a file" if is_file else f"cannot be written to: {_reason(error)}"
        raise NotAvailable(
            f"the folder {str(folder)!r}", there=f"{str(nearest)!r} {there}"
        ) from error


def file_name(text: str) -> str:
    """`text` in letters, digits and ". _ - @ ,"; a sign in front becomes "minus"."""
    signed = re.sub(r"^-", "minus-", text).replace(", ", ",")
    return re.sub(r"[^\w.@,]+", "-", signed).strip("-")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
