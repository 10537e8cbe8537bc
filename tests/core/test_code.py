"""Which code a definition uses, and what of it counts."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from rgal.core.code import CodeGraph, code_hash


def graph(folder: Path, **modules: str) -> CodeGraph:
    """Modules of a package `p`, named by their paths in it without the suffix."""
    for name, text in {"__init__": "", **modules}.items():
        path = folder / "p" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def file_of(module: str) -> Path | None:
        top, *rest = module.split(".")
        path = (folder / "p").joinpath(*rest)
        files = (path / "__init__.py", path.with_suffix(".py"))
        return next((file for file in files if top == "p" and file.is_file()), None)

    return CodeGraph(file_of)


def names(code_graph: CodeGraph, *entries: tuple[str, str]) -> set[str]:
    return {f"{module}.{name}" for module, name in code_graph.reach(entries) if name not in ("", "*")}


LOSS = """
    import torch
    SCALE = 2.0

    def loss(x: float) -> float:
        "Scale."
        # twice
        if x < 0:
            raise ValueError(f"{x} is negative")
        return SCALE * torch.relu(x)

    def other(): return 1
"""


def print_of(folder: Path, text: str) -> str:
    folder.mkdir()
    return graph(folder, loss=text).fingerprint([("p.loss", "loss")])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"Scale."', '"Scale it."'),
        ('"Scale."\n', "\n"),
        ("# twice", "# once"),
        ("SCALE * torch.relu(x)", "(SCALE\n            *   torch.relu(x))"),
        ("is negative", "is below 0"),
        ("return 1", "return 2"),
        ("x: float", 'x: Annotated[float, "a number"]'),
        ("SCALE = 2.0", 'SCALE = 2.0\n    "What it is multiplied by."'),
    ],
)
def test_what_changes_no_number(old: str, new: str, tmp_path: Path) -> None:
    text = LOSS.replace(old, new)
    assert text != LOSS and print_of(tmp_path / "b", text) == print_of(tmp_path / "a", LOSS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0", "SCALE = 2.5"),
        ("SCALE * torch", "-SCALE * torch"),
        ("x < 0", "x < 1"),
        ("ValueError", "KeyError"),
        ("import torch\n", "import torch\n    torch.set_grad_enabled(False)\n"),
    ],
)
def test_what_may_change_a_number(old: str, new: str, tmp_path: Path) -> None:
    text = LOSS.replace(old, new)
    assert text != LOSS and print_of(tmp_path / "b", text) != print_of(tmp_path / "a", LOSS)


def test_names_are_followed_wherever_they_come_from(tmp_path: Path) -> None:
    code_graph = graph(
        tmp_path,
        a="""
            from p.b import one as first
            from .c import shown
            import p.d as d
            import p.sub.e
            from p import sub

            def start():
                from p.b import late
                late(), first(), shown(), d.two(), p.sub.e.three(), sub.four()
        """,
        b="def one(): ...\ndef late(): ...\ndef unused(): ...",
        c="from p.b import unused as shown",
        d="class Base:\n    x = 1\nclass two(Base): ...\ndef unused(): ...",
        **{
            "sub/__init__": "from p.sub.e import five as four\n",
            "sub/e": "def three(): return five()\ndef five(): ...\ndef six(): ...",
        },
    )
    assert names(code_graph, ("p.a", "start")) == {
        "p.a.start", "p.b.one", "p.b.late", "p.b.unused", "p.d.two", "p.d.Base", "p.sub.e.three", "p.sub.e.five",
    }  # fmt: skip


def test_what_only_readers_and_type_checkers_see_is_not_followed(tmp_path: Path) -> None:
    code_graph = graph(
        tmp_path,
        a="""
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                from p.b import One
            from p.b import Two, complain

            def start(x: Two) -> Two:
                y: Two = x
                if y is None:
                    raise ValueError(complain())
                return y
        """,
        b="class One: ...\nclass Two: ...\ndef complain(): ...",
    )
    assert names(code_graph, ("p.a", "start")) == {"p.a.start"}


def test_a_module_handed_on_counts_as_a_whole(tmp_path: Path) -> None:
    code_graph = graph(
        tmp_path,
        a="from p import b\ndef start(): return vars(b)",
        b="def one(): ...\nX = 1\nif X:\n    Y = 2",
    )
    assert names(code_graph, ("p.a", "start")) == {"p.a.start", "p.b.one", "p.b.X", "p.b.Y"}


def test_one_function_of_a_class(tmp_path: Path) -> None:
    code_graph = graph(
        tmp_path,
        a="""
            class A:
                def one(self): return first()
                async def two(self): return second()
            def first(): ...
            def second(): ...
        """,
    )
    assert names(code_graph, ("p.a", "A.one")) == {"p.a.A.one", "p.a.first"}
    assert code_graph.fingerprint([("p.a", "A.one")]) != code_graph.fingerprint([("p.a", "A.two")])


def test_functions_may_move(tmp_path: Path) -> None:
    one = "def one(): return two()"
    two = "def two(): return 2"
    together = graph(tmp_path / "a", a=f"{one}\n{two}")
    apart = graph(tmp_path / "b", a=f"from p.b import two\n{one}", b=two)
    assert together.fingerprint([("p.a", "one")]) == apart.fingerprint([("p.a", "one")])


@pytest.mark.parametrize("entry", [("p.a", "gone"), ("p.a", "A.gone"), ("p.gone", "one"), ("torch", "relu")])
def test_an_entry_that_is_gone_is_an_error(entry: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        graph(tmp_path, a="class A: ...").fingerprint([entry])


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    before = graph(tmp_path, a="def one(): return 1").fingerprint([("p.a", "one")])
    assert graph(tmp_path, a="def one(): return 2  ").fingerprint([("p.a", "one")]) != before


def test_code_hash_sees_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert code_hash("no_such_module") == code_hash("sys") == ""
    assert len(code_hash("rgal.core.files")) == 12
    assert code_hash("rgal.core.files", "rgal.core.errors") != code_hash("rgal.core.files")
    hashes = []
    for number, text in enumerate(["x = 1", "'''A module.'''\nx  =  1  # one", "x = 2"]):
        (tmp_path / f"hashed{number}.py").write_text(text)
        __import__(f"hashed{number}")
        hashes.append(code_hash(f"hashed{number}"))
    assert hashes[0] == hashes[1] != hashes[2]
