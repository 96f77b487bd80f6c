"""What a comparison leaves behind: the numbers as JSON, the plot, and the tables."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import aircache_ext
from aircache_ext.evaluate import plot, summary, table
from aircache_ext.evaluate.records import Record
from aircache_ext.evaluate.variants import FULL_CACHE

RESULTS, PLOT = "results.json", "accuracy.png"


def write(
    records: Sequence[Record],
    reference: str,
    settings: Mapping[str, object],
    title: str,
    folder: Path,
) -> str:
    """Writes ``results.json`` and ``accuracy.png`` and returns the tables.

    Args:
        records: of all families; the methods are shown in their order.
        reference: the method that others are compared with. All are compared with the full cache.
        settings: what the results came from, for the JSON.
        title: of the plot.
        folder: is there already.
    """
    rows = summary.rows(records)
    differences = [summary.differences(records, name) for name in (FULL_CACHE, reference)]
    results = {
        "settings": settings,
        "rows": rows,
        "differences": [row for found in differences for row in found],
    }
    (folder / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    plot.draw(rows, title, folder / PLOT)
    texts = [table.accuracies(rows), *(table.differences(found) for found in differences if found)]
    return "\n\n".join([*texts, f"written: {folder / RESULTS}, {folder / PLOT}"])


def versions() -> dict[str, str]:
    """Of all that answers may hang on."""
    import torch
    import transformers

    return {
        "aircache_ext": aircache_ext.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
