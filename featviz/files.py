"""Files that appear whole or not at all, and names that are safe in any file system."""

import os
import re
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile

from featviz.errors import NotAvailable


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
        raise NotAvailable(
            f"writing {str(path)!r}", there=(error.strerror or str(error)).lower()
        ) from error


def check_writable(path: Path) -> None:
    """Raises NotAvailable when `path`, a file or folder that need not exist, cannot be written."""
    if path.suffix and path.is_dir():
        raise NotAvailable(f"writing {str(path)!r}", there="it is a folder")
    folder = path.parent if path.suffix else path
    if folder.exists() and not folder.is_dir():
        raise NotAvailable(f"writing into {str(folder)!r}", there="it is a file")
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    try:
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise NotAvailable(
            f"writing {str(path)!r}", there=f"{str(nearest)!r} cannot be written to"
        ) from error


def file_name(text: str) -> str:
    """`text` with everything but letters, digits and ". _ - @ ," replaced by "-"."""
    return re.sub(r"[^\w.@,-]+", "-", text).strip("-")
