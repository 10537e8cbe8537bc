"""What a page loads: nothing may come from a server."""

from __future__ import annotations

from html.parser import HTMLParser

_FROM_A_SERVER = "https://unpkg.com/iframe-worker/shim"
_OWN = "assets/worker.js"
_FOLLOWED_BY_HAND = ("a", "area")  # of elements with an address: a reader clicks on these
_ADDRESSES = ("src", "href", "srcset", "poster", "data", "action")


def loads_own(page: str, place: str) -> str:
    """Put docs/assets/worker.js, by which the search works in files, in place of the theme's own from a server.

    Args:
        page: HTML.
        place: of the page in the site, such as `results/index.html`.
    """
    return page.replace(_FROM_A_SERVER, "../" * place.count("/") + _OWN)


def loads_from_elsewhere(page: str) -> list[str]:
    """List the addresses on servers that a browser would load to show the page.

    >>> loads_from_elsewhere('<a href="https://a.org">a</a> <img src="b.png"> <script src="//c.org/c.js"></script>')
    ['//c.org/c.js']
    """
    parser = _Loads()
    parser.feed(page)
    return parser.found


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FOLLOWED_BY_HAND:
            return
        addresses = [value or "" for name, value in attrs if name in _ADDRESSES]
        self.found += [address for address in addresses if address.startswith(("http:", "https:", "//"))]
