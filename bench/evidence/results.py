"""From the answers to what is committed: rows, paired differences, the layer profile, plots."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import profile_plot
from aircache_ext.evaluate import Record, plot, report, summary, table
from aircache_ext.evaluate.variants import FULL_CACHE, METHODS, NO_VISUAL
from lineup import ABLATIONS, FORESIGHT, NAMES, WIDER, Variant
from store import Store

MAIN = (FULL_CACHE, NO_VISUAL, *METHODS, WIDER, FORESIGHT)


@dataclass(frozen=True)
class Results:
    records: list[Record]
    kept: list[float]  # by record: the share of the visual tokens that stayed
    kinds: dict[str, list[str]]  # by family: of every question
    profile: dict[str, dict[str, list[float]]]  # by family and name: by layer


def collect(asked: Sequence[tuple[Store, Variant]]) -> Results:
    """Of all answers that were wanted.

    Raises:
        ValueError: some are missing.
    """
    return Results(
        records=[store.record(variant) for store, variant in asked],
        kept=[store.kept(variant) for store, variant in asked],
        kinds={store.family: store.kinds for store in dict(asked)},
        profile={store.family: store.profile() for store in dict(asked)},
    )


def write(results: Results, setup: dict[str, object], path: Path) -> None:
    """``path`` gets the numbers; beside it come the tables (``.txt``), the plot (``.png``) and that
    of the layers (``_layers.png``). All differences are paired, and their intervals are 95 % ones.
    """
    rows, kinds = summary.rows(results.records), by_kind(results)
    differences = [
        row
        for name in (FULL_CACHE, "AirCache")
        for row in summary.differences(results.records, name)
    ]
    differences += [
        row for row in summary.differences(results.records, WIDER) if row["method"] in METHODS
    ]
    document = {
        "command": shlex.join(["python", *sys.argv]),
        "setup": setup,
        "versions": report.versions(),
        "ablations": {
            changed: {value: NAMES[method] for value, method in values.items()}
            for changed, values in ABLATIONS.items()
        },
        "profile": results.profile,
        "rows": [row | {"kept": kept} for row, kept in zip(rows, results.kept, strict=True)],
        "kinds": kinds,
        "differences": differences,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_json(document))
    path.with_suffix(".txt").write_text(tables(rows, kinds, differences) + "\n")
    compared = {row["family"] for row in rows if row["method"] in METHODS}
    of_methods = [row for row in rows if row["method"] in MAIN and row["family"] in compared]
    if not compared:
        return
    title = "Exact answers over a compressed cache"
    wider = plot.STYLES["AirCache"]._replace(dashes="--")
    more = {FORESIGHT: plot.Style(plot.INK, ".", ":"), WIDER: wider}
    plot.draw(of_methods, title, path.with_suffix(".png"), more)
    profile = {family: results.profile[family] for family in results.profile if family in compared}
    profile_plot.draw(profile, path.with_name(f"{path.stem}_layers.png"))


def by_kind(results: Results) -> list[summary.Row]:
    """Rows of the questions of one kind; their family is ``"family, kind"``."""
    parts = []
    for record in results.records:
        kinds = results.kinds[record.family]
        for kind in sorted(set(kinds)):
            mine = [row for row, other in enumerate(kinds) if other == kind]
            part = replace(
                record,
                family=f"{record.family}, {kind}",
                scores=[record.scores[row] for row in mine],
                tokens=[record.tokens[row] for row in mine],
            )
            parts.append(part)
    return summary.rows(sorted(parts, key=lambda part: part.family))


def tables(
    rows: Sequence[summary.Row],
    kinds: Sequence[summary.Row],
    differences: Sequence[summary.Difference],
) -> str:
    """Methods, overall and by kind of question, their distance to AirCache and to what has a wider
    window, and what each ablation gives."""
    parts = [
        table.accuracies([row for row in rows if row["method"] in MAIN]),
        table.accuracies([row for row in kinds if row["method"] in MAIN]),
        *(
            table.differences([row for row in differences if row["reference"] == reference])
            for reference in ("AirCache", WIDER)
        ),
    ]
    for changed, values in ABLATIONS.items():
        labels = {NAMES[method]: value for value, method in values.items()}
        labelled = [
            row | {"method": labels[row["method"]], "family": f"{row['family']}, {changed}"}
            for row in rows
            if row["method"] in labels
        ]
        if len({row["method"] for row in labelled}) > 1:  # more than AirCache itself
            parts.append(table.accuracies(labelled))
    return "\n\n".join(filter(None, parts))


def _json(document: dict[str, object]) -> str:
    """One line for each row."""
    parts = []
    for name, value in document.items():
        if isinstance(value, list):
            text = "[\n  " + ",\n  ".join(json.dumps(_rounded(row)) for row in value) + "\n ]"
        else:
            text = json.dumps(_rounded(value))
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value
