"""How a method looks: by its name alone, apart from the others, its host's hue and a star with RGAL."""

from __future__ import annotations

import pytest

from rgal.methods.registry import methods
from rgal.reporting.figures.looks import COLOURS, KNOWN, KNOWN_REFERENCES, SYMBOLS, look_of


def contrast(one: str, other: str) -> float:
    """Of two colours, by the formula of WCAG 2.2."""

    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    return max(light(one), light(other)) / min(light(one), light(other))


def test_every_known_method_has_a_look_of_its_own() -> None:
    assert set(methods()) <= {*KNOWN, *KNOWN_REFERENCES}
    names = [*KNOWN, *(f"{name}+rgal" for name in KNOWN[:7])]
    assert (
        len({look_of(name) for name in names}) == len(KNOWN) + 6
    )  # `rgal+rgal` is no method: it looks like rgal
    assert len({look_of(name, data_free=False) for name in KNOWN_REFERENCES[:4]}) == 4


def test_a_look_never_changes() -> None:
    assert (look_of("cmi").colour, look_of("cmi").marker) == ("#D55E00", "s")
    assert (look_of("rgal").colour, look_of("rgal").marker) == ("#0072B2", "*")
    strange = look_of("方法 <b>")
    assert strange == look_of("方法 <b>") and strange.colour in COLOURS and strange.marker in SYMBOLS


@pytest.mark.parametrize("host", ["cmi", "fast[k=5]", "of_a_plug_in"])
def test_with_rgal_a_method_has_its_hosts_hue_and_a_star(host: str) -> None:
    alone, with_rgal = look_of(host), look_of(f"{host}+rgal")
    assert alone.colour == with_rgal.colour and alone.marker != with_rgal.marker == "*"


def test_the_colours_can_be_seen_on_white_and_on_the_dark_page() -> None:
    assert min(contrast(colour, back) for colour in COLOURS for back in ("#ffffff", "#15181c")) >= 3


def test_the_page_has_a_word_for_every_look() -> None:
    dashed = look_of("gdfq").on_page()
    assert dashed == {"colour": "#0072B2", "symbol": "square", "dash": "10px,3px"}
    assert look_of("scratch", data_free=False).on_page()["symbol"].endswith("-open")
