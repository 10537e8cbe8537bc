"""Hide the digits from a run, and look afterwards what it could not know: `python -m rgal.benchmarks.hidden_data`.

A teacher is trained on the digits. Ten trials then distil it with `--dataset none`: they are given its weights and the
description of its images, and nothing else. When they are done, their students' top-1 on the 500 test scans is measured
outside, and written beside the agreement on held-out synthesised images that the run reported: a table in Markdown and
CSV, and the rank correlation of the two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch

from rgal.core.problem import Domain
from rgal.data import ImageSet, load
from rgal.engine.evaluation import agreement, logits_of, top1
from rgal.nets.checkpoint import load_weights
from rgal.suite.plan.settings import TeacherRecipe
from rgal.suite.pretraining import Pretraining
from rgal.suite.running.teachers import TeacherSpec, build_net, stored_teacher, teacher_files, train_teacher

TEACHER, STUDENT = "wrn16_1", "wrn10_1"
METHODS = ("plain", "dafl", "deepinversion", "cmi", "rgal")
SEEDS = ("0", "1")
RECIPE = TeacherRecipe(steps=300, batch=128, lr_warmup=0.2, weight_decay=0.003)
SHORT = (
    "rounds=3",
    "synthesis_steps=60",
    "student_steps=80",
    "synthesis_batch=64",
    "batch=64",
    "synthesis_lr=0.01",
)
HELD_OUT = "held_out={images: 512, steps: 150, batch: 128}"


def trained_teacher(folder: Path) -> Path:
    """Train the teacher on the digits, and return the file of its weights."""
    dataset = load("digits")
    spec = TeacherSpec(
        folder,
        TEACHER,
        "hidden",
        dataset,
        dataset.spec.domain,
        RECIPE,
        "fp32",
        torch.device("cpu"),
        Pretraining(),
        "",
    )
    weights, _, _ = teacher_files(folder, TEACHER, "digits", "hidden")
    if not weights.exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        train_teacher(spec, lambda message: None, lambda: False)
    return weights


def run_without_data(folder: Path, weights: Path, domain: Domain) -> None:
    """Run the trials on a network that is described, and on no image."""
    numbers = [f"{value:g}" for value in (*domain.mean, *domain.std)]
    described = ["--classes", str(domain.classes), "--image", "x".join(map(str, domain.shape)), "--no-flip"]
    described += ["--mean", numbers[0], "--std", numbers[1], "--teacher-weights", str(weights)]
    named = ["--teacher", TEACHER, "--student", STUDENT, "--methods", *METHODS, "--seeds", *SEEDS]
    settings = ["--set", *SHORT, "generator_width=32", HELD_OUT, "--results", str(folder)]
    command = [sys.executable, "-m", "rgal.cli", "--dataset", "none", *described, *named, *settings]
    subprocess.run(command, check=True)


def measured(trial: Path, domain: Domain, test: ImageSet, teacher: torch.Tensor) -> dict[str, object]:
    """Return what a trial reported of itself, and beside it what the test scans say of its student."""
    settings = json.loads((trial / "trial.json").read_text())["settings"]
    reported = json.loads((trial / "result.json").read_text())
    student = build_net(STUDENT, domain, torch.device("cpu"), 0)
    load_weights(student, trial / "student.safetensors", domain.classes)
    alike = agreement(logits_of(student, test.images, domain), teacher)
    return {
        "Method": settings["method"],
        "Seed": settings["seed"],
        "Agreement, held-out (%)": reported["agreement"],
        "KL, held-out (nats)": reported["kl"],
        "Agreement, test scans (%)": alike.top1,
        "True test top-1 (%)": top1(student, test.images, test.labels, domain),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("results/hidden_data"))
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/hidden_data"), help="where teacher and trials are kept"
    )
    options = parser.parse_args()
    digits = load("digits")
    domain, weights = digits.spec.domain, trained_teacher(options.work / "teacher")
    run_without_data(options.work / "runs", weights, domain)
    teacher, _ = stored_teacher(
        options.work / "teacher", TEACHER, "digits", domain, "hidden", torch.device("cpu")
    )
    answers = logits_of(teacher, digits.test.images, domain)
    trials = sorted((options.work / "runs" / "trials").iterdir())
    table = pd.DataFrame([measured(trial, domain, digits.test, answers) for trial in trials])
    table = table.sort_values(["Agreement, held-out (%)", "Method", "Seed"], ascending=[False, True, True])
    write(table, top1(teacher, digits.test.images, digits.test.labels, domain), options.results)


def write(table: pd.DataFrame, teacher: float, folder: Path) -> None:
    """Write the table as Markdown, with what it says, and as CSV."""
    ranks = table[["Agreement, held-out (%)", "KL, held-out (nats)", "True test top-1 (%)"]].rank().corr()
    by_agreement, by_kl = (
        float(ranks["True test top-1 (%)"][name])
        for name in ("Agreement, held-out (%)", "KL, held-out (nats)")
    )
    gap = (table["Agreement, held-out (%)"] - table["True test top-1 (%)"]).mean()
    lines = [
        table.to_markdown(index=False, floatfmt=("", "", ".2f", ".3f", ".2f", ".2f")),
        "",
        f"{len(table)} trials, teacher {teacher:.2f} % top-1. Rank correlation (Spearman) with the true top-1: "
        f"agreement {by_agreement:+.2f}, KL {by_kl:+.2f}. On average, agreement is {gap:+.1f} points from true top-1.",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table.to_csv(folder / "table.csv", index=False, float_format="%.6g", lineterminator="\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
