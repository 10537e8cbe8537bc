"""A page as a reader without a browser sees it: balanced tags, ids, tables and links."""

from __future__ import annotations

import base64
import gzip
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Raises AssertionError where a tag is not closed in its turn. tags: (name, attributes) of each; tables: by id of
    the caption, the rows as lists of texts; text: all of it, apart from style and script."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.bold: list[str] = []
        self.text = ""
        self.data = ""  # what the script reads
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(source)
        self.close()
        assert self._open == []
        self.data = gzip.decompress(base64.b64decode(self.data)).decode() if self.data else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "caption":
            self._rows = self.tables.setdefault(attributes["id"], [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("style", "script"):
            self.data += data if self.tags[-1][1].get("id") == "data" else ""
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data
        if self._open and self._open[-1] == "strong":
            self.bold.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def values(self, attribute: str) -> list[str]:
        """What this attribute is, wherever it occurs."""
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]
