"""What every method must do that learns classes in phases, with and without RGAL, on images of its own or another's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rgal.core.errors import UserError
from rgal.core.problem import evaluating
from rgal.engine.batches import StudentBatch
from rgal.engine.student import StudentLoop
from rgal.methods.registry import methods
from rgal.suite.plan.expansion import expand_names
from rgal.suite.plan.settings import TeacherRecipe
from rgal.suite.running.teachers import TeacherRun
from rgal.synthesis.pool import ImagePool, to_uint8
from rgal.tasks.class_incremental import run as increments
from rgal.tasks.class_incremental.metrics import summary
from rgal.tasks.class_incremental.run import IncrementalRun
from rgal.tasks.class_incremental.spec import spec_of
from rgal.terms.objective import LossTerm
from tests.helpers import small
from tests.helpers.necil_builders import (
    BASE,
    CLASSES,
    NECIL,
    NET,
    OPTIONS,
    PHASES,
    SHORT,
    STEP,
    TESTED,
    dataset,
    necil_methods,
    plugged,
    recipe,
    replaying_methods,
    sourced,
    sources,
    start,
    without_rgal,
)

NOISE = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@dataclass
class Walk:
    """A run under watch, and what it left: metric rows, and the student at the end of each phase."""

    going: IncrementalRun
    rows: list[dict[str, Any]] = field(default_factory=list)
    students: list[dict[str, Tensor]] = field(default_factory=list)
    old: list[tuple[nn.Module, dict[str, Tensor]]] = field(default_factory=list)  # with what it was
    seeds: set[int] = field(default_factory=set)
    # Of the moment: (phase, labels of real images), and phases.
    pooled: list[tuple[int, list[int]]] = field(default_factory=list)
    learnt: list[tuple[int, list[int]]] = field(default_factory=list)
    scored: list[tuple[int, list[int]]] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)

    def go(self, phases: int = PHASES) -> Walk:
        with pytest.MonkeyPatch.context() as patch:
            self._watch(patch)
            return self._go(phases)

    def _go(self, phases: int) -> Walk:
        going, opening = self.going, self.going._open_phase

        def opened() -> None:
            before = small.snapshot(going.student)
            opening()
            assert going.transfer is not None
            old, images = going.transfer.problem.teacher, going.domain.normalise(NOISE.to(small.DEVICE))
            small.assert_same(small.snapshot(old), before)
            with torch.no_grad(), evaluating(going.student):
                old_logits, grown = old(images), going.student(images)
            assert grown.shape[1] == old_logits.shape[1] + STEP * going.spec.outputs
            assert torch.equal(grown[:, : old_logits.shape[1]], old_logits)  # the moment a phase opens
            self.old.append((old, before))
            self.seeds.add(going.transfer.streams.get("student batches").initial_seed())

        going._open_phase = opened  # type: ignore[method-assign]
        while not going.finished and len(self.students) <= phases:
            self.rows += going.advance()
            if going.transfer is None:
                self.students.append(small.snapshot(going.student))
                self._check_nets()
        return self

    def _watch(self, patch: pytest.MonkeyPatch) -> None:
        """Note where real images go, which phases are opened, and when the test images are looked at."""
        going, train = self.going, dataset().train
        labels = going.protocol.to_label[train.labels].tolist()
        owners = {image.numpy().tobytes(): label for image, label in zip(train.images, labels, strict=True)}
        add, step, hits, phases = ImagePool.add, StudentLoop.step, increments.hits, going.phases
        assert phases is not None
        opening = phases.open

        def real(images: Tensor) -> list[int]:
            """Labels of the training images among these, -1 for any other image."""
            pixels = images if images.dtype == torch.uint8 else to_uint8(images)
            return [owners.get(image.numpy().tobytes(), -1) for image in pixels.cpu()]

        def added(pool: ImagePool, images: Tensor, targets: Tensor, over: Tensor | None = None) -> None:
            self.pooled.append((going.phase, real(images)))
            add(pool, images, targets, over)

        def stepped(loop: StudentLoop, batch: StudentBatch, progress: Any) -> Any:
            labels, count = real(batch.images), batch.groups["real"].stop
            assert labels[:count] == batch.targets[:count].tolist() and set(labels[count:]) <= {-1}
            self.learnt.append((going.phase, labels[:count]))
            return step(loop, batch, progress)

        def scored(net: nn.Module, images: Tensor, targets: Tensor, *more: Any) -> Tensor:
            self.scored.append((going.phase, sorted(set(targets.tolist()))))
            return hits(net, images, targets, *more)

        patch.setattr(ImagePool, "add", added)
        patch.setattr(StudentLoop, "step", stepped)
        patch.setattr(increments, "hits", scored)
        patch.setattr(phases, "open", lambda phase: self.opened.append(phase) or opening(phase))

    def _check_nets(self) -> None:
        """At the end of a phase the old model is as it was, and nothing is left on any network."""
        for old, before in self.old:
            small.assert_same(small.snapshot(old), before)
        for net in (self.going.student, *(old for old, _ in self.old)):
            assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
            assert all(p.grad is None and not p.requires_grad for p in net.parameters())


@cache
def walked(name: str) -> Walk:
    """The whole run of a method, with seed 0."""
    return Walk(start(name)).go()


def first(name: str, seed: int = 0) -> dict[str, Tensor]:
    """What a run of its own has learnt after the first phase."""
    return Walk(start(name, seed)).go(1).students[1]


# abd learns on the images of every method; r_dfcil, which replays in the same way, on those of two.
SOURCED = [
    pytest.param(
        name,
        marks=pytest.mark.slow
        if name.startswith("r_dfcil") and not name.endswith(("=plain]", "=rgal]"))
        else (),
    )
    for name in sourced()
]
REPEATED = ("rgal", "abd+rgal", "pass+rgal", "fetril+rgal")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in plugged() if "rgal" in name and name not in REPEATED])
def test_a_run_repeats_itself(name: str) -> None:
    """As test_method says of REPEATED: a method with RGAL of each kind."""
    small.assert_same(first(name), walked(name).students[1])


@pytest.mark.parametrize("name", [*plugged(), *SOURCED])
def test_method(name: str, tmp_path: Path) -> None:
    """Finite and seeded; budget kept; what is measured is complete; the old model stays as it was."""
    walk = walked(name)
    going, walked_recipe = walk.going, walk.going.recipe
    assert all(torch.isfinite(v).all() for v in walk.students[-1].values())
    rounds, replays = walked_recipe.rounds, walked_recipe.images is not None
    synthesised = PHASES * rounds.count * rounds.synthesis_steps if replays else 0
    learnt = PHASES * rounds.total_student_steps()
    fresh = (
        rounds.batch * learnt
        if walked_recipe.source == "generator"
        else PHASES * rounds.count * rounds.synthesis_batch
    )
    result = going.result()
    assert {k: result[k] for k in ("synthesis_steps", "student_steps", "images")} == {
        "synthesis_steps": synthesised, "student_steps": learnt, "images": fresh if replays else 0,
    }  # fmt: skip
    assert (learnt > 0) == going.spec.learns and (synthesised > 0) == replays
    tested = [[TESTED * n for n in (BASE, STEP, STEP)[: t + 1]] for t in range(PHASES + 1)]
    assert [[total for _, total in row] for row in going.counts] == tested
    assert summary(going.counts).items() <= result.items()
    assert result["protocol"] == "2+2x2" and result["best"] == result["last"]
    assert result["data_free"] == (not going.spec.joint)
    assert {"synthesis_seconds", "student_seconds"} <= set(result)
    kept = sum(value.numel() * value.element_size() for value in going.statistics.tensors().values()) / 1e6
    assert set(going.statistics.tensors()) == set(going.spec.keeps) and result["memory_mb"] == round(kept, 6)
    evaluations = [row for row in walk.rows if row["kind"] == "evaluation"]
    assert [row["phase"] for row in evaluations] == [0, 1, 2]
    assert [row["top1"] for row in evaluations][-1] == result["last"]
    assert len(walk.seeds) == PHASES  # each phase has draws of its own
    if name not in plugged():
        return
    if "rgal" in name:  # which draws all that its host draws
        if name in REPEATED:
            small.assert_same(first(name), walk.students[1])
        return
    _check_files(going, tmp_path)
    if going.spec.learns:  # others draw next to nothing
        other = first(name, seed=1)
        assert any(not torch.equal(other[k], v) for k, v in walk.students[1].items())


def _check_files(going: IncrementalRun, folder: Path) -> None:
    going.save(folder)
    going.illustrate(folder)
    small.assert_same(load_file(folder / "student.safetensors"), small.snapshot(going.student))
    stored = json.loads((folder / "phases.json").read_text())
    assert sorted(stored["order"]) == list(range(CLASSES))
    assert [phase["classes"] for phase in stored["phases"]] == [2, 4, 6]
    assert [[tuple(pair) for pair in phase["tasks"]] for phase in stored["phases"]] == going.counts
    assert (folder / "samples.png").exists() == (going.recipe.images is not None)


@pytest.mark.parametrize("name", [*plugged(), *SOURCED])
def test_firewall(name: str) -> None:
    """Phases come in order, real images are of the open phase alone, and test images are scored once a phase."""
    walk = walked(name)
    joint = walk.going.spec.joint
    assert walk.opened == sorted(walk.opened) and {1, 2} <= set(walk.opened)
    assert bool(walk.learnt) == walk.going.spec.learns
    for phase, labels in [*walk.pooled, *walk.learnt]:
        allowed = range(BASE + STEP * phase) if joint else walk.going.protocol.labels(phase)
        assert {label for label in labels if label >= 0} <= set(allowed)
    assert walk.scored == [(phase, list(range(BASE + STEP * phase))) for phase in range(PHASES + 1)]
    assert walk.going.job.real is None


def first_phases() -> list[str]:
    """One method of each kind of first phase: those of one `base_name` share the model."""
    return list({spec_of(recipe(name)).base_name: name for name in reversed(necil_methods())}.values())


def first_phase(name: str) -> TeacherRun:
    """The training of the method's first phase, on noise."""
    data, options = dataset(), NECIL.options.model_validate(OPTIONS)
    purpose = NECIL.pretraining(data, recipe(name), 0, options)
    domain, steps = purpose.domain(data.spec.domain), TeacherRecipe(steps=3, batch=8)
    return TeacherRun(NET, purpose.part(data), domain, steps, "fp32", small.DEVICE, purpose)


@pytest.mark.parametrize("name", first_phases())
def test_first_phase(name: str) -> None:
    """The method's own terms are finite and logged there, reach every layer, and go on after a stop as without."""
    run, stopped, rows = first_phase(name), first_phase(name), []
    while not run.finished:
        rows += run.advance()
    assert {term.name for term in run.purpose.terms} <= set().union(*rows)
    assert all(torch.isfinite(value).all() for value in small.snapshot(run.net).values())
    layers = [(key, p.grad) for key, p in run.net.named_parameters() if p.ndim > 1]
    still = [key for key, grad in layers if grad is None or not grad.any()]
    assert not still, f"no gradient reaches {still[:3]} in the first phase"
    assert 0 <= run.measure() <= 100
    stopped.advance()
    taken_up = first_phase(name)
    taken_up.load_state_dict(small.reloaded(stopped.state_dict()))
    while not taken_up.finished:
        taken_up.advance()
    small.assert_same(small.snapshot(taken_up.net), small.snapshot(run.net))


def test_refining_leaves_the_extractor_alone() -> None:
    """After `refine` of a phase's steps nothing before the classifier moves, batch norm statistics included."""
    going = start(
        "r_dfcil[refine=0.6]",
        schedule=SHORT.model_copy(update={"rounds": 1, "warmup": 0, "student_steps": 5}),
    )
    nets: list[dict[str, Tensor]] = []
    while not going.finished:
        going.advance()
        if going.transfer is not None and going.transfer.mode == "student":
            nets.append(small.snapshot(going.student))
    for steps in (nets[:6], nets[6:]):  # of a phase; before the first, and after each
        moved = [
            {k for k in a if not torch.equal(a[k], b[k])} for a, b in zip(steps, steps[1:], strict=False)
        ]
        everything, head = set(steps[0]), {k for k in steps[0] if k.startswith("fc.")}
        assert moved[:3] == 3 * [everything] and moved[3:] == 2 * [head]


def weights(terms: tuple[LossTerm, ...]) -> dict[str, float]:
    """Of the terms that are not off."""
    return {w.name: w.weight for w in terms if w.weight}


@pytest.mark.parametrize("name", [name for name in necil_methods() if name not in without_rgal()])
def test_rgal_adds_its_terms(name: str) -> None:
    """Gather to what learns, spread to what synthesises, noisy means to what keeps them, and the choice of donors."""
    host, with_it = recipe(name), recipe(f"{name}+rgal")
    spec = spec_of(host)
    added = {"gather": 0.1} | ({"prototype_gather": 0.1} if "radius" in spec.keeps else {})
    assert weights(with_it.transfer) == weights(host.transfer) | added
    spread = {"spread": 0.1} if host.images is not None else {}
    assert weights(with_it.synthesis) == weights(host.synthesis) | spread
    assert spec_of(with_it).source_class == ("spread" if spec.translates else "nearest")
    assert with_it.per_class == 4 and not with_it.pairs
    logged = set().union(*walked(f"{name}+rgal").rows)
    learns = spec.learns
    assert ({"gather", "gather_new_fallback"} <= logged) == learns
    assert ({"gather_fallback", "spread", "spread_fallback"} <= logged) == (host.images is not None)
    assert ("prototype_gather" in logged) == ("radius" in spec.keeps)


@pytest.mark.parametrize("name", [name for name in without_rgal() if name != "rgal"])
def test_rgal_is_refused_where_nothing_is_trained(name: str) -> None:
    with pytest.raises(
        UserError, match="its extractor is frozen .* nothing that RGAL could train"
    ) as refused:
        recipe(f"{name}+rgal")
    assert "\n" not in str(refused.value)
    assert f"{name}+rgal" not in expand_names(["all+rgal"], NECIL)
    assert "lwf+rgal" in expand_names(["all+rgal"], NECIL)


def test_a_method_of_distillation_is_a_source_of_abd() -> None:
    """`rgal` is abd[source=plain]+rgal, `cmi` is abd[source=cmi], term by term and bit for bit. abd[source=rgal] has
    the same images, and learns without RGAL."""
    images = recipe("abd[source=rgal]")
    assert weights(images.synthesis) == weights(recipe("rgal").synthesis)
    assert images.per_class == recipe("rgal").per_class and "gather" not in weights(images.transfer)
    for name, same in (("rgal", "abd[source=plain]+rgal"), ("cmi", "abd[source=cmi]")):
        one, other = recipe(name), recipe(same)
        assert weights(one.transfer) == weights(other.transfer)
        assert weights(one.synthesis) == weights(other.synthesis)
        assert (one.rounds, one.student, one.optimiser) == (other.rounds, other.student, other.optimiser)
        small.assert_same(
            walked(name).students[1], walked(same).students[1] if same in sourced() else first(same)
        )


def test_what_is_given_to_rgal_arrives() -> None:
    values = "spread=0.3,gather=0.2,cd=0.4,gram=0.5,mixed=0.5"
    one, other = (f"{name}[{values}]" for name in ("rgal", "abd[source=plain]+rgal"))
    assert weights(recipe(one).transfer) == weights(recipe(other).transfer)
    assert weights(recipe(one).transfer).items() >= {"gather": 0.2, "cd": 0.4, "gram": 0.5}.items()
    assert weights(recipe(one).synthesis) == weights(recipe(other).synthesis)
    small.assert_same(first(one), first(other))


def test_rgal_without_its_terms_is_plain() -> None:
    off, plain = Walk(start("rgal[spread=0,gather=0,cd=0,per_class=0]")).go(), walked("plain")
    small.assert_same(off.students, plain.students)
    assert off.going.counts == plain.going.counts


def test_sources_are_found() -> None:
    """Every method that synthesises into a pool; all others are refused in one line that says why."""
    assert set(replaying_methods()) >= {"abd", "r_dfcil"}
    assert set(sources()) >= {"plain", "rgal", "cmi", "deepinversion"}
    for host in replaying_methods():
        for name, method in methods().items():
            if method.tasks[0] == "dfq" or name in sources():
                continue
            with pytest.raises(UserError, match=f"source={name}: a source of replayed images") as refused:
                NECIL.recipe(f"{host}[source={name}]", SHORT)
            assert "\n" not in str(refused.value)
