"""What calls give back: images, students, integer models, wider networks; and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import rgal
from rgal.api import results
from rgal.core import cores
from rgal.engine.held_out import HeldOutSpec, held_out_images
from rgal.methods import registry
from rgal.synthesis.pool_files import load_pool
from tests.helpers import small
from tests.helpers.api_builders import SHORT, TwoBranches, network, pixels, teacher

SQUARE: dict[str, Any] = {"image": (1, 8, 8), "classes": 4, "mean": 0.3, "std": 0.4, "flip": False}


def test_images_are_what_they_say(tmp_path: Path) -> None:
    made = rgal.synthesise(teacher(), "deepinversion", SHORT)
    assert made.images.dtype == torch.uint8 and made.images.shape == (16, 1, 8, 8)
    assert made.labels.shape == (16,) and len(made) == 16 and made.left_out == ("adv",)
    assert str(made) == "16 images 1x8x8 of 4 classes by deepinversion, without its terms adv"
    folder = made.save(tmp_path / "new" / "images", ["cat", "dog"])
    images, labels = load_pool(folder, (1, 8, 8), 4)
    assert torch.equal(images, made.images) and labels is not None and torch.equal(labels, made.labels)
    label = int(made.labels[0])
    name = f"{label}-{['cat', 'dog'][label]}" if label < 2 else str(label)
    with Image.open(folder / "pool" / name / "000000.png") as picture:
        assert picture.size == (8, 8)
    made.grid(2).savefig(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 100


def test_images_of_a_method_without_student_terms_are_those_of_its_distillation() -> None:
    """Synthesis does not look at the student, so that the two make the same images."""
    alone = rgal.synthesise(teacher(), "deepinversion[adv=0]", SHORT)
    student = rgal.distill(teacher(), network(width=2), "deepinversion[adv=0]", SHORT)
    assert alone.left_out == ()
    assert _spread(alone.images) == _spread(student.images) == 16


def _spread(images: torch.Tensor) -> int:
    return len({image.numpy().tobytes() for image in images})


def test_with_a_student_the_images_are_those_that_it_was_trained_on() -> None:
    made = rgal.synthesise(teacher(), "rgal", SHORT, student=network(width=2))
    same = rgal.distill(teacher(), network(width=2), "rgal", SHORT)
    assert torch.equal(made.images, same.images) and torch.equal(made.labels, same.labels)


@pytest.mark.parametrize("method", ["dafl", "zskt", "scratch"])
def test_methods_that_make_no_images_alone_are_refused(method: str) -> None:
    with pytest.raises(rgal.UserError, match="give student=|needs real images"):
        rgal.synthesise(teacher(), method, SHORT)


def test_a_result_is_the_network_itself(tmp_path: Path) -> None:
    result = rgal.distill(teacher(), network(width=2), "rgal", SHORT, seed=3)
    assert isinstance(result, nn.Module) and type(result.student) is TwoBranches
    x = small.randn(3, 1, 8, 8)
    assert torch.equal(result(x), result.student(x))
    assert list(result.state_dict()) == list(network().state_dict())
    fresh = TwoBranches(width=2).eval()
    fresh.load_state_dict(result.state_dict())
    assert torch.equal(fresh(x), result(x))
    fresh.load_state_dict(torch.load(_saved(result, tmp_path), weights_only=True))
    from safetensors.torch import load_file

    fresh.load_state_dict(load_file(result.save(tmp_path / "s.safetensors")))
    assert torch.equal(fresh(x), result(x))
    result.load_state_dict(network(width=2).state_dict())
    assert not torch.equal(fresh(x), result(x))
    assert str(result) == "Distilled TwoBranches by rgal on 16 images"
    kinds = [row["kind"] for row in result.history]
    assert kinds == ["synthesis", "student"] * 2 + ["evaluation"] or kinds.count("evaluation") == 2
    assert all("top1" not in row for row in result.history)  # nothing called accuracy


def _saved(result: nn.Module, folder: Path) -> Path:
    torch.save(result.state_dict(), folder / "s.pt")
    return folder / "s.pt"


def test_agreement_is_one_with_the_teacher_itself() -> None:
    made = teacher()
    result = rgal.distill(made, network(), "rgal", {**SHORT, "student_steps": 1, "student_lr": 1e-9})
    agreement = result.agreement(pixels())
    assert agreement.top1 == 100 and 0 <= agreement.kl < 1e-3
    assert result.agreement(pixels().float() / 255).top1 == 100
    other = rgal.distill(made, network(width=2, seed=4), "rgal", SHORT).agreement(pixels())
    assert other.kl > agreement.kl


def test_without_images_it_is_compared_on_held_out_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made from the teacher alone, and are the same for every student."""
    monkeypatch.setattr(results, "HeldOutSpec", lambda: HeldOutSpec(images=12, steps=2, batch=8))
    made = teacher()
    result = rgal.distill(made, network(width=2), "rgal", SHORT)
    held_out, _ = held_out_images(made.problem, HeldOutSpec(images=12, steps=2, batch=8), made.name)
    assert result.agreement() == result.agreement(held_out) != result.agreement(pixels())


def test_the_same_seed_gives_the_same_student_and_another_one_another() -> None:
    one, same, other = (rgal.distill(teacher(), "resnet8", "cmi", SHORT, seed=seed) for seed in (0, 0, 1))
    small.assert_same(small.snapshot(one), small.snapshot(same))
    assert not torch.equal(one.student.fc.weight, other.student.fc.weight)


def test_bf16_is_another_precision_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one = rgal.distill(teacher(), network(width=2), "rgal", SHORT)
    monkeypatch.setattr(cores, "computes_bf16", lambda: True)
    low = rgal.distill(teacher(), network(width=2), "rgal", SHORT, precision="bf16")
    assert not torch.equal(one.student.fc.weight, low.student.fc.weight)
    assert low.student.fc.weight.dtype == torch.float32
    monkeypatch.setattr(cores, "computes_bf16", lambda: False)
    with pytest.warns(UserWarning, match="no instructions for bf16, which would be slower: fp32 instead"):
        fallen = rgal.distill(teacher(), network(width=2), "rgal", SHORT, precision="bf16")
    assert torch.equal(one.student.fc.weight, fallen.student.fc.weight)


def test_quantization_says_what_it_did() -> None:
    result = rgal.quantize(teacher(), "w4a8", "rgal", SHORT, activation_range="minmax")
    assert result.bits == "w4a8" and result.coverage.left_float == ()
    kinds = {(row["kind"], row["bits"]) for row in result.layers}
    assert kinds == {("weight", 4), ("activation", 8)}
    assert {"left.0", "right.0", "top.0", "fc"} == {
        r["layer"] for r in result.layers if r["kind"] == "weight"
    }
    assert result(small.randn(2, 1, 8, 8)).shape == (2, 4)
    assert result.agreement(pixels()).top1 > 50
    assert str(result).startswith("Quantized QuantizedNet by rgal on 16 images")


def test_a_few_real_images_set_the_ranges(tmp_path: Path) -> None:
    """From a folder of files or a tensor; training is on synthesised images still, and the history says how alike they
    answer on the real ones."""
    real = pixels(10, seed=5) // 2
    (tmp_path / "cal" / "deep").mkdir(parents=True)
    for number, image in enumerate(real):
        Image.fromarray(image[0].numpy()).save(tmp_path / "cal" / "deep" / f"{number}.png")
    one = rgal.quantize(teacher(), "w8a8", "rgal", SHORT, calibration=tmp_path / "cal")
    same = rgal.quantize(teacher(), "w8a8", "rgal", SHORT, calibration=real)
    without = rgal.quantize(teacher(), "w8a8", "rgal", SHORT)
    small.assert_same(small.snapshot(one), small.snapshot(same))
    image = next(row for row in one.layers if row["kind"] == "activation")
    assert image["high"] == pytest.approx((float(real.max()) / 255 - 0.3) / 0.4, abs=0.05)
    assert [row["high"] for row in one.layers] != [row["high"] for row in without.layers]
    assert torch.equal(one.images, without.images) and "real_agreement" in one.history[-1]
    alone = rgal.quantize(teacher(), "w8a8", "calibration", SHORT, calibration=tmp_path / "cal")
    assert alone.history[-1]["student_steps"] == 0 and not len(alone.images) and alone.layers
    assert one.agreement(tmp_path / "cal") == one.agreement(real)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    for call in (
        lambda: rgal.quantize(teacher(), "w8a8", "rgal", SHORT, calibration=tmp_path),
        lambda: rgal.quantize(teacher(), "w8a8", "naive", SHORT).agreement(tmp_path),
    ):
        with pytest.raises(rgal.UserError, match="images .*found 1 .txt; expected images"):
            call()
    with pytest.raises(rgal.UserError, match="method 'calibration' needs real images"):
        rgal.quantize(teacher(), "w8a8", "calibration", SHORT)


def test_a_quantized_network_is_exported_and_answers_the_same(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    import onnxruntime

    result = rgal.quantize(teacher(), "w8a8", "naive", SHORT)
    info = result.export(tmp_path / "model.onnx")
    assert info.path.stat().st_size == round(1e6 * info.megabytes)
    images = pixels(20).float() / 255
    (logits,) = onnxruntime.InferenceSession(str(info.path)).run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours = result((images - 0.3) / 0.4)
    assert (torch.from_numpy(logits).argmax(1) == ours.argmax(1)).float().mean() > 0.9
    student = rgal.distill(teacher(), network(width=2), "rgal", SHORT)
    student.export(tmp_path / "float.onnx")
    (logits,) = onnxruntime.InferenceSession(str(tmp_path / "float.onnx")).run(
        None, {"images": images.numpy()}
    )
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(logits), student((images - 0.3) / 0.4), rtol=1e-3, atol=1e-4
        )
    with pytest.raises(rgal.UserError, match="its folder does not exist"):
        result.export(tmp_path / "no" / "model.onnx")


def test_a_distilled_student_can_be_quantized() -> None:
    student = rgal.distill(teacher(), network(width=2), "rgal", SHORT)
    result = rgal.quantize(student.as_teacher("small"), "w8a8", "naive", SHORT)
    assert "Teacher small" in str(student.as_teacher("small"))
    assert result(small.randn(2, 1, 8, 8)).shape == (2, 4)


def test_new_classes_are_learnt_beside_the_old_ones() -> None:
    """Bright and dark images are easy to tell apart; the classifier is one linear layer again."""
    images = torch.cat([pixels(24) // 8, 224 + pixels(24, seed=1) // 8])
    labels = torch.arange(48) // 24 + 4
    budget = {**SHORT, "student_steps": 40, "batch": 16}
    wider = rgal.extend(teacher(), images, labels, "lwf", budget)
    assert isinstance(wider.student.fc, nn.Linear) and wider.student.fc.out_features == 6
    assert wider.domain.classes == 6 and type(wider.student) is TwoBranches
    with torch.no_grad():
        logits = wider((images.float() / 255 - 0.3) / 0.4)
    assert (logits[:, 4:].argmax(1) + 4 == labels).float().mean() > 0.9
    replayed = rgal.extend(teacher(), images, labels, "rgal", SHORT)
    assert len(replayed.images) and int(replayed.labels.max()) < 4
    assert 0 <= replayed.agreement(pixels()).top1 <= 100


def test_a_wider_network_takes_on_further_classes() -> None:
    wider = rgal.extend(teacher(), pixels(), torch.full((12,), 4), "finetune", SHORT)
    widest = rgal.extend(wider.as_teacher(), pixels(), torch.full((12,), 5), "finetune", SHORT)
    assert widest(small.randn(2, 1, 8, 8)).shape == (2, 6)


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (torch.arange(12) % 2, "new ones are 4, 5"),
        (torch.arange(12) % 2 + 5, "new ones are 4, 5"),
        (torch.arange(12) % 2 * 2 + 4, "without a gap"),
        (torch.full((12,), 4.0), "expected whole numbers (12,)"),
        (torch.arange(3), "expected whole numbers (12,)"),
    ],
)
def test_labels_of_new_classes_follow_the_old_ones(labels: torch.Tensor, line: str) -> None:
    with pytest.raises(rgal.UserError) as error:
        rgal.extend(teacher(), pixels(), labels, "lwf", SHORT)
    assert line in str(error.value)


@pytest.mark.parametrize("method", ["joint", "pass", "fetril", "pass+rgal"])
def test_methods_that_need_images_of_old_classes_are_refused(method: str) -> None:
    with pytest.raises(rgal.UserError) as error:
        rgal.extend(teacher(), pixels(), torch.full((12,), 4), method, SHORT)
    assert "needs images of old classes" in str(error.value) and "abd, " in str(error.value)
    assert "joint" not in str(error.value).partition("without:")[2]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda t: rgal.distill(t, network(), "real_kd"),
            "method 'real_kd' needs real images; without: adaptive",
        ),
        (lambda t: rgal.distill(t, network(), "rgall"), "did you mean 'rgal'"),
        (lambda t: rgal.distill(t, network(), "fast[q=10]"), "q"),
        (lambda t: rgal.distill(t, network(), "gdfq"), "is not for task 'kd'"),
        (lambda t: rgal.distill(t, network(), 3), "method is a int"),
        (lambda t: rgal.distill(t, network(), budget="tiny"), "valid: paper, small, smoke"),
        (lambda t: rgal.distill(t, network(), budget={"rouns": 3}), "did you mean 'rounds'"),
        (lambda t: rgal.distill(t, network(), budget={"rounds": 0}), "rounds"),
        (lambda t: rgal.distill(t, network(), budget={"rounds": network}), "budget"),
        (lambda t: rgal.distill(t, network(), budget=3), "expected a name"),
        (lambda t: rgal.distill(t, TwoBranches(5)), "expected logits (2, 4)"),
        (lambda t: rgal.distill(t, TwoBranches), "is a class"),
        (lambda t: rgal.distill(t, "resnet7"), "resnet8"),
        (
            lambda t: rgal.distill(t, network().requires_grad_(False)),
            "none of its parameters requires a gradient",
        ),
        (lambda t: rgal.distill(network(), network()), "expected rgal.Teacher"),
        (lambda t: rgal.quantize(t, "w9a8"), "widths are 2 to 8"),
        (lambda t: rgal.quantize(t, ["w8a8"]), "expected one width"),
        (lambda t: rgal.quantize(t, "w8a8", placement="here"), "placement"),
        (lambda t: rgal.quantize(t, "w8a8", percentil=3), "did you mean 'percentile'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(call: Any, line: str) -> None:
    with pytest.raises(rgal.UserError) as error:
        call(teacher())
    assert line in str(error.value) and "\n" not in str(error.value)


def test_a_method_that_the_network_cannot_have_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(rgal.UserError, match="batch norm statistics, but .* no BatchNorm2d"):
        rgal.distill(teacher(net), network(), "rgal", SHORT)
    assert rgal.distill(teacher(net), network(width=2), "dafl", SHORT).finished


def test_a_function_of_the_user_is_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_METHODS", dict(registry.methods()))

    @rgal.method("mine", reference="a test")
    def mine(bn: float = 1.0) -> rgal.Recipe:
        from rgal.baselines.plain import plain

        return plain(bn=bn)

    one = rgal.distill(teacher(), network(width=2), "mine[bn=2]+rgal", SHORT)
    assert one.method == "mine[bn=2]+rgal"
    same = rgal.distill(teacher(), network(width=2), "plain[bn=2]+rgal", SHORT)
    small.assert_same(small.snapshot(one), small.snapshot(same))


def test_budgets_are_those_of_the_suites() -> None:
    smoke = rgal.distill(teacher(), network(width=2), "rgal", "smoke").history[-1]
    assert (smoke["synthesis_steps"], smoke["student_steps"]) == (6, 8)
    longer = rgal.distill(teacher(), network(width=2), "rgal", {"budget": "smoke", "rounds": 3}).history[-1]
    assert (longer["synthesis_steps"], longer["student_steps"]) == (9, 12)
