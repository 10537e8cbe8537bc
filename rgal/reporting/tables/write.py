"""All tables of a results frame, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from rgal.core.files import write_atomically
from rgal.reporting.published import NO_REFERENCE, Reference
from rgal.reporting.results import ResultGroup, groups
from rgal.reporting.tables.accuracy import accuracy_table
from rgal.reporting.tables.diversity import diversity_table
from rgal.reporting.tables.export import export_table
from rgal.reporting.tables.notes import image_notes
from rgal.reporting.tables.overview import overview_table, overviews
from rgal.reporting.tables.plugin import plugin_table
from rgal.reporting.tables.table import FORMATS, Table


def group_tables(results: pd.DataFrame, reference: Reference = NO_REFERENCE) -> list[Table]:
    """Return the tables of one (task, setting, budget): results; and where there are any, pairs of a method without
    and with RGAL, exported models, the diversity of kept images.
    """
    group = ResultGroup(results)
    more = (plugin_table(group), export_table(group), diversity_table(group))
    tables = [accuracy_table(group, reference), *(table for table in more if table.rows)]
    images = image_notes(group)
    return [replace(table, notes=[*table.notes, *images]) for table in tables]


def all_tables(results: pd.DataFrame, reference: Reference = NO_REFERENCE) -> dict[str, list[Table]]:
    """Map file stems to the tables of each (task, setting, budget), and where one data set has several settings, the
    table across them.
    """
    own = {stem: group_tables(group, reference) for stem, group in groups(results).items()}
    return own | {stem: [overview_table(rows)] for stem, rows in overviews(results).items()}


def save_tables(tables: Mapping[str, Sequence[Table]], folder: str | Path) -> list[Path]:
    """Write each table as <stem><suffix>.{md,csv,tex}; `tables` has those of each group by its stem. A table of results
    also as <stem>_compact.tex, for one column of a paper.
    """
    paths = []
    for stem, group in tables.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        for table in group:
            for fmt in FORMATS:
                path = Path(folder) / f"{stem}{table.suffix}.{fmt}"
                paths.append(write_atomically(path, table.text(fmt).encode("utf-8")))
            if compact := table.compact():
                path = Path(folder) / f"{stem}{table.suffix}_compact.tex"
                paths.append(write_atomically(path, compact.encode("utf-8")))
    return paths
