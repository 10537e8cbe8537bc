"""The budgets called `paper` hold the authors' numbers, and say from which script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rgal import benchmarks
from rgal.core.errors import UserError
from rgal.core.optimiser import SGD
from rgal.data import load
from rgal.data.dataset import Dataset, DataSpec, ImageSet
from rgal.methods.recipe import Recipe
from rgal.suite.plan.expansion import expand
from rgal.suite.plan.settings import Epochs, Schedule, TeacherTraining, in_steps, load_suite
from rgal.suite.plan.trial import Trial
from rgal.suite.plan.weights import weights_of
from rgal.suite.task import tasks, trial_recipe
from tests.helpers.suites import SUITE, suite

FOLDER = Path(benchmarks.__file__).parent
SCRIPT = re.compile(r"unknown|script|README|\.(sh|py|hocon|yaml)\b")


def labelled(name: str, classes: int, each: int) -> Dataset:
    """A data set of one pixel an image, with as many images of each class as the real one trains on."""
    train, test = torch.arange(classes).repeat_interleave(each), torch.arange(classes)
    sets = [
        ImageSet(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), labels) for labels in (train, test)
    ]
    grey = (0.5, 0.5, 0.5)
    names = tuple(map(str, range(classes)))
    return Dataset(DataSpec(name, classes, (3, 1, 1), grey, grey, True, 0, names, "made here", "png"), *sets)


def paper(name: str, dataset: Dataset, *methods: str) -> list[Trial]:
    """The first seed's trials of a suite that ships, at its `paper` budget."""
    loaded = load_suite(FOLDER / f"{name}.yaml", {"budget": "paper", "methods": list(methods), "seeds": [0]})
    return expand(loaded, tasks()[loaded.task], dataset, "cpu")


def recipes(name: str, *methods: str) -> list[Recipe]:
    """As `paper`, on digits, whose number of images does not matter here."""
    loaded = load_suite(FOLDER / f"{name}.yaml", {"budget": "paper", "methods": list(methods), "seeds": [0]})
    loaded = loaded.model_copy(update={"dataset": "digits", "image_size": None})
    return [trial_recipe(trial) for trial in expand(loaded, tasks()[loaded.task], load("digits"), "cpu")]


@pytest.mark.parametrize(
    ("name", "method", "steps"),
    [
        ("necil_cifar100", "pass", 7_979),
        ("necil_cifar100_10", "pass", 4_040),
        ("necil_cifar100_20", "pass", 2_424),
        ("necil_cifar100_equal5", "abd", 19_500),
        ("necil_cifar100_equal10", "abd", 9_750),
        ("necil_cifar100_equal20", "abd", 4_750),
        ("necil_cifar100", "finetune", 9_750),
        ("necil_cifar100", "r_dfcil", 7_800),
        ("necil_tiny_imagenet", "pass", 15_857),
        ("necil_tiny_imagenet", "abd", 19_500),
    ],
)
def test_steps_follow_the_images_of_a_phase(name: str, method: str, steps: int) -> None:
    """A trial's schedule has the number; rounding is each author's loader's."""
    dataset = labelled(name, 200 if "tiny" in name else 100, 500)
    (trial,) = paper(name, dataset, method)
    assert trial.schedule["student_steps"] == steps
    assert trial_recipe(trial).rounds.student_steps == steps


def test_formulas_of_steps(tmp_path: Path) -> None:
    assert Epochs(epochs=2).steps(5, 4) == 4 and Epochs(epochs=2, drop_last=True).steps(5, 4) == 2
    assert Epochs(epochs=3, drop_last=True).steps(2, 4) == 3  # a phase is never without a step
    assert in_steps(7, 5, 4) == 7
    training = TeacherTraining(steps=Epochs(epochs=200, drop_last=True), batch=128)
    assert training.recipe(25_000).steps == 39_000  # what the suites had as a number
    text = SUITE.replace("student_steps: 1", "student_steps: {epochs: 2, drop_last: true}")
    loaded = suite(tmp_path, text)
    (trial,) = expand(loaded, tasks()["kd"], load("digits"), "cpu")
    assert trial.schedule["student_steps"] == 2 * (len(load("digits").train.labels) // 8)
    for wrong, expected in (
        ("{epochs: 1, epoch: 2}", "unknown key 'epoch', did you mean 'epochs'?; valid: drop_last, epochs"),
        ("{epochs: 0}", "student_steps.epochs: Input should be greater than or equal to 1, found 0"),
        ("many", "student_steps: Input should be a valid integer, found 'many'"),
        ("0", "student_steps: Input should be greater than or equal to 1, found 0"),
    ):
        with pytest.raises(UserError) as caught:
            suite(tmp_path, SUITE.replace("student_steps: 1", f"student_steps: {wrong}"))
        assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_quantization_on_imagenet() -> None:
    bits, pairs = 4, 3
    gdfq, qimera, intraq, zeroq = (
        recipes("dfq_imagenet", name) for name in ("gdfq", "qimera", "intraq", "zeroq")
    )
    assert len(gdfq) == bits * pairs
    for recipe in (*gdfq, *qimera):
        rounds = recipe.rounds
        assert (rounds.warmup, rounds.count, rounds.batch, rounds.synthesis_batch) == (50, 400, 16, 16)
        assert recipe.student.lr == 1e-6
    mixed: list[Any] = [recipe.images for recipe in qimera[::bits]]
    assert [(one.latent, one.mixed, one.probability) for one in mixed] == [
        (512, 500, 0.4),
        (2048, 500, 0.7),
        (1280, 100, 0.4),
    ]
    assert (intraq[0].rounds.count, intraq[0].rounds.synthesis_batch, intraq[0].rounds.batch) == (20, 256, 16)
    assert (zeroq[0].rounds.synthesis_batch, zeroq[0].optimiser.lr) == (64, 0.5)


def parameters(name: str, method: str, dataset: Dataset) -> dict[str, Any]:
    return dict(paper(name, dataset, method)[0].schedule.get("parameters", {}))


def test_quantization_and_distillation_on_cifar100_and_tiny_imagenet() -> None:
    cifar, tiny = labelled("cifar100", 100, 1), labelled("tiny_imagenet", 200, 1)
    assert parameters("dfq_cifar100", "qimera", cifar) == {"labels": 10}
    assert parameters("dfq_cifar100", "intraq", cifar) == {"low": 0.6, "lower": 0.02, "upper": 1.0}
    for name in ("kd_cifar100", "kd_cifar100_pairs"):
        assert paper(name, cifar, "nayer")[0].schedule["synthesis_steps"] == 40
    rounds = trial_recipe(paper("kd_tiny_imagenet", tiny, "nayer")[0]).rounds
    assert (rounds.synthesis_steps, rounds.synthesis_batch, rounds.batch) == (60, 200, 256)
    assert rounds.warmup == 20 * 20 and rounds.total_student_steps() == 100 * 1000


def test_class_incremental_optimisers() -> None:
    tiny, subset = labelled("tiny_imagenet", 200, 5), labelled("imagenet_subset", 100, 13)
    (trial,) = paper("necil_tiny_imagenet", tiny, "r_dfcil")
    assert trial_recipe(trial).student.weight_decay == 2e-4
    r_dfcil, abd, turned = (
        trial_recipe(paper("necil_imagenet_subset", subset, name)[0]) for name in ("r_dfcil", "abd", "pass")
    )
    assert r_dfcil.student == SGD(0.1, 1e-4, schedule="steps", drops=((0.25, 0.1), (0.5, 0.01), (0.75, 0.05)))
    assert (r_dfcil.rounds.batch, r_dfcil.rounds.synthesis_steps) == (64, 10_000)
    assert (abd.rounds.batch, abd.rounds.synthesis_steps, abd.student.weight_decay) == (256, 50_000, 1e-4)
    assert abd.student.drops[-1] == (0.9, 1e-4) and turned.student.weight_decay == 2e-4


def test_drops_are_for_rates_that_fall_in_steps() -> None:
    drops = Schedule(student_drops=((0.5, 0.1),))
    cosine, steps = tasks()["kd"].recipe("plain", drops), tasks()["necil"].recipe("abd", drops)
    assert cosine.recipe.student.drops == () and steps.recipe.student.drops == ((0.5, 0.1),)


def entries(path: Path) -> dict[str, str]:
    """What stands in comments above and beside the `paper` budget of a suite file and each of its methods."""
    text = path.read_text(encoding="utf-8")
    lines, root, places = text.splitlines(), yaml.compose(text), {}

    def children(node: yaml.Node | None) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        return {key.value: (key, value) for key, value in pairs}

    def note(name: str, first: int, last: int) -> None:
        while lines[first - 1].strip().startswith("#"):
            first -= 1
        places[name] = " ".join(line.partition("#")[2] for line in lines[first : last + 1])

    _, budgets = children(root).get("budgets", (None, None))
    if "paper" not in children(budgets):
        return {}
    key, budget = children(budgets)["paper"]
    note("paper", key.start_mark.line, key.start_mark.line)
    _, exceptions = children(budget).get("methods", (None, None))
    for name, (key, value) in children(exceptions).items():
        note(
            name,
            key.start_mark.line,
            max(key.start_mark.line, value.end_mark.line - (value.end_mark.column == 0)),
        )
    return places


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_every_entry_of_a_paper_budget_names_its_source(path: Path) -> None:
    for name, comment in entries(path).items():
        assert SCRIPT.search(comment), f"{path.name}: {name}: {comment!r}"


def test_intervals_have_three_seeds_and_imagenet_has_three_bits() -> None:
    for name in ("dfq_cifar10", "dfq_cifar100", "dfq_imagenet", "kd_cifar10", "necil_cifar100_equal5"):
        assert len(load_suite(FOLDER / f"{name}.yaml", {}).seeds) >= 3
    assert "w3a3" in load_suite(FOLDER / "dfq_imagenet.yaml", {}).options["bits"]


def test_budgets_of_other_names_are_kept_when_a_file_extends_another() -> None:
    base, child = (load_suite(FOLDER / f"{name}.yaml", {}).budgets for name in ("kd_cifar10", "kd_cifar100"))
    assert set(child) == set(base) and child["small"] == base["small"] and child["paper"] != base["paper"]


def test_a_folder_has_the_weights_of_all_networks(tmp_path: Path) -> None:
    for name in ("resnet18-f37072fd.pth", "resnet50.safetensors", "resnet50.txt", "mobilenet_v2.pth"):
        (tmp_path / name).touch()
    assert weights_of(str(tmp_path), "torchvision:resnet18").name == "resnet18-f37072fd.pth"
    assert weights_of(str(tmp_path), "resnet50").name == "resnet50.safetensors"
    assert weights_of("one.pth", "resnet50") == Path("one.pth")
    with pytest.raises(UserError, match="expected one file of network 'wrn16_1', .* found none"):
        weights_of(str(tmp_path), "wrn16_1")
    loaded = load_suite(FOLDER / "dfq_imagenet.yaml", {"teacher_weights": str(tmp_path)})
    assert len(loaded.networks) == 3
