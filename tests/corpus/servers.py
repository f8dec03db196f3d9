"""Web servers on loopback that serve a folder, with parts of files or without."""

import contextlib
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    """Python's own server, which answers with whole files only."""

    def log_message(self, *_):
        """Says nothing."""


class InParts(Quiet):
    """One that answers requests for a range of bytes."""

    def do_HEAD(self):
        """Size, and that parts can be had."""
        self.answer(is_wanted=False)

    def do_GET(self):
        """A file, or a part of it."""
        self.answer(is_wanted=True)

    def answer(self, is_wanted):
        """Header and content."""
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        stop = min(int(asked[2]) + 1 if asked and asked[2] else len(content), len(content))
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{hash(content)}"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if is_wanted:
            self.wfile.write(content[start:stop])


@contextlib.contextmanager
def serving(folder: Path, kind: type[Quiet] = InParts) -> Iterator[str]:
    """The URL under which a folder is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(kind, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
