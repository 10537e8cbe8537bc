"""Every parameter of our methods says what it means, in its annotation or in the list of meanings."""

from __future__ import annotations

from rgal.methods import meanings
from rgal.methods.meanings import meaning_of
from rgal.methods.parameters import Parameter
from rgal.methods.registry import methods


def test_every_parameter_has_a_meaning() -> None:
    """One without is given it by `Annotated[float, Meaning("...")]`, or a line in rgal/methods/meanings.py."""
    ours = [method for method in methods().values() if method.module.startswith("rgal.")]
    mute = [(m.name, p.name) for m in ours for p in m.parameters.values() if not meaning_of(m.name, p)]
    assert len(ours) > 40 and not mute


def test_no_meaning_is_left_over() -> None:
    parameters = {name: method.parameters for name, method in methods().items()}
    written = [(method, name) for method, names in meanings._OF_METHOD.items() for name in names]
    assert not [(m, name) for m, name in written if m not in parameters or name not in parameters[m]]
    everywhere = {name for names in parameters.values() for name, one in names.items() if not one.meaning}
    assert not set(meanings._EVERYWHERE) - everywhere


def test_an_annotation_goes_before_the_list() -> None:
    own = Parameter("temperature", float, 1.0, meaning="of mine")
    assert meaning_of("cmi", own) == "of mine" and "contrast" in meaning_of(
        "mine", Parameter("temperature", float, 1.0)
    )
