"""Keep the records of a study, and make its page in docs/results/ from them.

    python -m rgal.reporting.studies keep NAME RESULTS    # records of a run into results/reference/NAME
    python -m rgal.reporting.studies                      # the pages of all studies, from their records

`docs/results/studies.yaml` says what a study asks and what its tables carry. Kept of a trial are its settings, its
result, its metrics and the diversity of its images; no weights, no images. A study that is `of` others has no records
of its own: its page asks of theirs whether RGAL helps.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rgal.core.errors import UserError, nearest
from rgal.reporting.gains import gains, gains_table, gains_verdict
from rgal.reporting.published import REFERENCE, load_reference
from rgal.reporting.tables.table import markdown_text
from rgal.reporting.tables.write import all_tables
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import load_records, newest_results
from rgal.suite.store.records import Record

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("trial.json", "result.json", "metrics.jsonl", "diversity.json", "layers.json", "phases.json")
_MEANING = """\
- gain: the measure with RGAL minus that of the host, mean over the n seeds (each with its own teacher) that both have
  finished; in brackets its 95 % t interval; bold: p < 0.05 in a paired t test from five seeds on, after Holm's
  correction for all rows of this page. AIA: the mean over all phases of the accuracy on all classes so far.
- same label, different label: by how much RGAL changes the distances (0 to 2, of the teacher's penultimate features) of
  the kept images. RGAL means to raise the first and to lower the second.
- fallback: anchors of the kept images without a negative in the focal band: theirs is drawn among all other labels."""
_CPU_SECONDS = ("synthesis_cpu_seconds", "student_cpu_seconds")


@dataclass(frozen=True)
class Study:
    """A question, the command that was run to answer it, and what its tables carry.

    Attributes:
        name: of its page and of the folder of its records.
        title: the heading of its page.
        question: what was asked.
        command: what made the records; "" for a study of other studies.
        finding: what the tables carry, in words; "" until somebody has looked.
        pictures: the files of the run's plots/ that the page shows.
        of: the studies whose records it reads, where it has none of its own.
    """

    name: str
    title: str
    question: str
    command: str = ""
    finding: str = ""
    pictures: Sequence[str] = ()
    of: Sequence[str] = ()

    @property
    def records(self) -> Path:
        """The folder of its records."""
        return ROOT / "results" / "reference" / self.name

    @property
    def page(self) -> Path:
        """Where its page is."""
        return ROOT / "docs" / "results" / f"{self.name}.md"

    def kept(self, picture: str) -> Path:
        """Where a picture of the page is."""
        return self.page.with_name("images") / f"{self.name}_{picture}"


def studies() -> dict[str, Study]:
    """Read all studies, by name."""
    path = ROOT / "docs" / "results" / "studies.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run it in a clone of the repository")
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Study(name, **entries) for name, entries in listed.items()}


def keep(results: Path, study: Study) -> int:
    """Copy the records of the finished trials of a run, and its pictures, in place of those that were kept before.

    Args:
        results: the results directory of the run.
        study: what they belong to.

    Returns:
        How many trials there are.

    Raises:
        UserError: no trial of the run is finished.
    """
    finished = [record for record in load_records(Store(results)) if record.status == "finished"]
    if not finished:
        raise UserError(f"results directory {results}: no finished trial in it")
    if missing := [picture for picture in study.pictures if not (results / "plots" / picture).is_file()]:
        raise UserError(f"results directory {results}: no plots/{missing[0]} in it")
    shutil.rmtree(study.records, ignore_errors=True)
    for picture in study.pictures:
        study.kept(picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(results / "plots" / picture, study.kept(picture))
    for record in finished:
        folder = study.records / "trials" / record.folder.name
        folder.mkdir(parents=True)
        for name in KEPT:
            if (record.folder / name).is_file():
                shutil.copyfile(record.folder / name, folder / name)
    return len(finished)


def page_of(study: Study) -> str:
    """Write the page of a study: question, command, every table with its verdict, what they carry, what they cost."""
    if study.of:
        return _page_of_gains(study)
    records = load_records(Store(study.records))
    tables = all_tables(newest_results(records), load_reference(REFERENCE))
    parts = [
        f"# {study.title}",
        study.question,
        f"    {study.command}",
        *([study.finding.strip()] if study.finding else []),
        *(table.text("md").rstrip() for group in tables.values() for table in group),
        *(f"![{picture}](images/{study.kept(picture).name})" for picture in study.pictures),
        _cost(records),
        "Made by `python -m rgal.reporting.studies` from the records in "
        f"[results/reference/{study.name}](../../results/reference/{study.name}).",
    ]
    return "\n\n".join(parts) + "\n"


def _page_of_gains(study: Study) -> str:
    """Write the page of a study of others: question, what can be said, the gain of RGAL in every pair of theirs."""
    known = studies()
    records = {name: load_records(Store(known[name].records)) for name in study.of}
    rows = gains({name: newest_results(part) for name, part in records.items()})
    parts = [
        f"# {study.title}",
        study.question,
        f"**{markdown_text(gains_verdict(rows))}**",
        *([study.finding.strip()] if study.finding else []),
        gains_table(rows),
        _MEANING,
        _cost([record for part in records.values() for record in part]),
        "Made by `python -m rgal.reporting.studies` from the records of these pages.",
    ]
    return "\n\n".join(parts) + "\n"


def _cost(records: Sequence[Record]) -> str:
    """Say what the trials cost, and which versions of the code and which machines made them."""
    hours = sum(float(record.result.get(name) or 0) for record in records for name in _CPU_SECONDS) / 3600
    made = {name: _listed(records, name) for name in ("revision", "processor", "torch", "threads")}
    return (
        f"{len(records)} trials, {hours:.1f} processor hours of their steps. Commit {made['revision']}; "
        f"{made['processor']}, torch {made['torch']}, threads a trial: {made['threads']}."
    )


def _listed(records: Sequence[Record], name: str) -> str:
    return ", ".join(sorted({str(_of(record.environment, name)) for record in records}))


def _of(environment: Mapping[str, Any], name: str) -> object:
    return environment.get(name, "unknown")


def main(arguments: Sequence[str]) -> int:
    """Keep the records of a run, or write the pages."""
    parser = argparse.ArgumentParser(
        prog="python -m rgal.reporting.studies", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command")
    kept = commands.add_parser("keep", help="copy the records of a run")
    kept.add_argument("name", help="of the study")
    kept.add_argument("results", type=Path, help="the results directory of its run")
    options = parser.parse_args(arguments)
    try:
        known = studies()
        if options.command == "keep":
            if options.name not in known:
                raise UserError(f"study '{options.name}': {nearest(options.name, known)}; see studies.yaml")
            study = known[options.name]
            if study.of:
                raise UserError(f"study '{study.name}': it has no records of its own; valid: one that has")
            print(f"{keep(options.results, study)} trials kept in {study.records}")
            return 0
        for study in known.values():
            study.page.write_text(page_of(study), encoding="utf-8")
            print(study.page)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
