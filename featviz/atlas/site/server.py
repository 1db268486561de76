"""A small server for one site: its files and nothing else, with headers that keep pages at home."""

import re
import socketserver
import sys
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any
from urllib.parse import unquote, urlsplit

from featviz.errors import NotAvailable

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".png": "image/png",
}
"""Of the files that a site has; no other is served."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
IDLE_TIMEOUT_S = 30
_HASHED = re.compile(r"(static|data|sheets)/[\w-]+-[0-9a-f]{10}\.\w+")


class SiteServer(ThreadingHTTPServer):
    """Serves a folder until it is shut down. Raises NotAvailable where the address is taken."""

    daemon_threads = True

    def __init__(self, folder: Path, *, host: str, port: int) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        try:
            super().__init__((host, port), partial(_Handler, folder=folder.resolve()))
        except (OSError, OverflowError) as error:
            there = (getattr(error, "strerror", None) or str(error)).lower()
            raise NotAvailable(
                f"port {port} of {host!r}", there=f"{there}; choose another --port or --host"
            ) from error

    def server_bind(self) -> None:
        """Binds without asking a name server for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that went away before its answer was whole."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "featviz"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S

    def __init__(self, *arguments: Any, folder: Path) -> None:
        self.folder = folder
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def _refuse_method(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method

    def _answer(self, *, has_body: bool) -> None:
        found = file_of(self.folder, self.path)
        try:
            content = None if found is None else found.read_bytes()
            known = None if found is None else found.stat()
        except OSError:
            content = known = None
        if found is None or content is None or known is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        tag = f'"{known.st_size:x}-{known.st_mtime_ns:x}"'
        is_known = self.headers.get("If-None-Match") == tag
        self.send_response(HTTPStatus.NOT_MODIFIED if is_known else HTTPStatus.OK)
        name = found.relative_to(self.folder).as_posix()
        is_fixed = _HASHED.fullmatch(name) is not None
        cached = "public, max-age=31536000, immutable" if is_fixed else "no-cache"
        self.send_header("Cache-Control", cached)
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", formatdate(known.st_mtime, usegmt=True))
        if not is_known:
            self.send_header("Content-Type", TYPES[found.suffix])
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if has_body and not is_known:
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A line of plain text; the connection ends, as what else was sent is not read."""
        del message, explain  # what the parser says of a bad request is not repeated
        status = HTTPStatus(code)
        content = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def end_headers(self) -> None:
        """With the headers that every answer has."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: stderr is for errors."""


def file_of(folder: Path, target: str) -> Path | None:
    """The file that a request names; None unless it is one of the folder's own to be shown.

    `folder` has no symbolic links in it. Refused are other folders, by any spelling or link, names
    that begin with a dot, folders themselves and files of a type that no site has.
    """
    try:
        path = unquote(urlsplit(target).path, errors="strict")
    except ValueError:
        return None
    if not path.startswith("/") or path.startswith("//") or "\\" in path or "\0" in path:
        return None
    names = ["index.html"] if path == "/" else path[1:].split("/")
    if any(not name or name.startswith(".") for name in names):
        return None
    try:
        found = folder.joinpath(*names).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return None
    is_ours = found.is_relative_to(folder) and found.is_file() and found.suffix in TYPES
    is_hidden = (
        any(name.startswith(".") for name in found.relative_to(folder).parts) if is_ours else True
    )
    return None if is_hidden else found
