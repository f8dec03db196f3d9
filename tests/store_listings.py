"""Listings that lag behind: answers to ListObjectsV2 without the keys that were written a moment ago."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from yarl import URL

WRITES = ("PutObject", "CopyObject", "CompleteMultipartUpload")
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
MOST_KEYS = 1000


def unlimited(raw_path: str) -> str:
    """A listing's path without its limit: of the first n keys all may be hidden, and later ones not."""
    url = URL(raw_path, encoded=True)
    return str(url.update_query({"max-keys": str(MOST_KEYS)}))


class Written:
    """When every key that came through the proxy was written: "bucket/key" -> seconds."""

    def __init__(self) -> None:
        self.since_s: dict[str, float] = {}

    def note(self, operation: str, key: str, status: int) -> None:
        """Writes down a write that succeeded; one over a key that is listed already does not hide it."""
        if operation in WRITES and status == 200:
            self.since_s.setdefault(key, time.monotonic())
        elif operation == "DeleteObject":
            self.since_s.pop(key, None)

    def without_new(self, content: bytes, bucket: str, query: Mapping[str, str], lag_s: float) -> tuple[bytes, int]:
        """A listing without keys younger than `lag_s`, and how many were left out.

        A common prefix is left out when every key below it that came through the proxy is that young.
        """
        ET.register_namespace("", NAMESPACE)
        root, hidden = ET.fromstring(content), 0
        limit = int(query.get("max-keys", MOST_KEYS))
        young = {key for key, since_s in self.since_s.items() if time.monotonic() - since_s < lag_s}
        for entry in root.findall(f"{{{NAMESPACE}}}Contents"):
            if f"{bucket}/{entry.findtext(f'{{{NAMESPACE}}}Key')}" in young:
                root.remove(entry)
                hidden += 1
        for entry in root.findall(f"{{{NAMESPACE}}}CommonPrefixes"):
            below = f"{bucket}/{entry.findtext(f'{{{NAMESPACE}}}Prefix')}"
            known = [key for key in self.since_s if key.startswith(below)]
            if known and young.issuperset(known):
                root.remove(entry)
                hidden += 1
        kept = [entry for entry in root if entry.tag.endswith(("}Contents", "}CommonPrefixes"))]
        for entry in kept[limit:]:
            root.remove(entry)
        count = root.find(f"{{{NAMESPACE}}}KeyCount")
        if count is not None:
            count.text = str(min(len(kept), limit))
        return ET.tostring(root, encoding="utf-8", xml_declaration=True), hidden
