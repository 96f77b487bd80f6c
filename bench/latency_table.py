"""The latency table and its plot: what was measured, what could be, and what the paper saw."""

from collections.abc import Sequence
from pathlib import Path

from cases import DTYPES
from latency_piece import FORMS, MEASURED, OURS, THEIRS, Geometry, Setup

Row = dict[str, object]

# Seconds of 512 tokens by (batch, prompt) and share kept, of LLaVA-OV-7B, whose text model is
# Qwen2-7B, on A100: the latency table of arXiv 2503.23956.
PAPER_DECODE = {
    (8, 2048): {1.0: 11.6, 0.5: 9.4, 0.1: 8.2},
    (8, 8192): {1.0: 15.0, 0.5: 11.9, 0.1: 9.4},
    (8, 16384): {1.0: 21.7, 0.5: 15.0, 0.1: 10.4},
    (8, 32768): {1.0: 35.9, 0.5: 22.0, 0.1: 12.3},
    (16, 2048): {1.0: 14.4, 0.5: 11.2, 0.1: 9.7},
    (16, 8192): {1.0: 22.6, 0.5: 15.6, 0.1: 11.8},
    (16, 16384): {1.0: 36.9, 0.5: 23.0, 0.1: 12.8},
}


def weights(geometry: Geometry) -> int:
    """Parameters that a decoding step reads: all but the embeddings, of which it reads a row."""
    hidden, width = geometry.hidden, geometry.kv_heads * geometry.head_dim
    attention = 2 * hidden * hidden + hidden + 2 * (hidden * width + width)  # q, k, v have a bias
    layer = attention + 3 * hidden * geometry.intermediate + 2 * hidden  # two norms
    return geometry.layers * layer + hidden + geometry.vocabulary * hidden


def step_bytes(setup: Setup, batch: int, tokens: float) -> float:
    """What a step reads at the very least: the weights, and ``tokens`` per row and layer once."""
    geometry, element = setup.geometry, DTYPES[setup.dtype].itemsize
    token = 2 * geometry.layers * geometry.kv_heads * geometry.head_dim * element
    return weights(geometry) * element + batch * tokens * token


def ideal_saving(setup: Setup, row: Row) -> float:
    """The share of the decoding time that is saved if time is bytes."""
    others = setup.text + (setup.new_tokens + 1) / 2  # of an answer, the mean over its steps
    kept = step_bytes(setup, row["batch"], row["keep"] * row["visual"] + others)
    return 1 - kept / step_bytes(setup, row["batch"], row["visual"] + others)


def paper_saving(row: Row) -> float | None:
    seconds = PAPER_DECODE.get((row["batch"], row["visual"]), {})
    return 1 - seconds[row["keep"]] / seconds[1.0] if row["keep"] in seconds else None


def with_savings(setup: Setup, rows: Sequence[Row]) -> list[Row]:
    """The rows; those that evict say which share of each full cache's decoding time they save."""
    full = {
        (row["batch"], row["visual"], row["form"]): row["decode_s"]
        for row in rows
        if row["result"] == MEASURED and row["keep"] == 1
    }

    def saving(row: Row, form: str) -> float | None:
        seconds = full.get((row["batch"], row["visual"], form))
        return 1 - row["decode_s"] / seconds if seconds and "decode_s" in row else None

    return [
        row
        if row["keep"] == 1
        else row
        | {
            "saved_of": {form: saving(row, form) for form in (row["form"], *THEIRS)},
            "saved_ideally": ideal_saving(setup, row),
            "saved_in_the_paper": paper_saving(row),
        }
        for row in rows
    ]


def largest_batches(tries: Sequence[Row]) -> list[Row]:
    """Of every form, share and length the largest batch that fitted; the smallest that did not."""
    found: dict[tuple, Row] = {}
    for row in tries:
        names = {name: row[name] for name in ("visual", "form", "keep")}
        entry = found.setdefault(tuple(names.values()), names | {"fits": 0, "does_not": None})
        if row["result"] == MEASURED:
            entry["fits"] = max(entry["fits"], row["batch"])
        else:
            entry["does_not"] = min(entry["does_not"] or row["batch"], row["batch"])
    return [found[key] for key in sorted(found)]


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| batch x visual | form | kept % | prefill s | compression s | decode s | tokens/s "
        "| peak GB, prefill / decode | cache GB | saved %, of its own full / dynamic / static "
        "| ideal % | paper % |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(
        rows, key=lambda r: (r["batch"], r["visual"], FORMS.index(r["form"]), -r["keep"])
    ):
        cells = [f"{row['batch']} x {row['visual']}", row["form"], f"{100 * row['keep']:g}"]
        if row["result"] == MEASURED:
            cells += [
                _number(row["prefill"]["median_s"], 3),
                _number(row["compression"] and row["compression"]["median_s"], 4),
                _number(row["decode_s"], 2) + (" no graphs" if _missed_graphs(row) else ""),
                _number(row["tokens_per_s"], 0),
                " / ".join(_number(row[f"{x}_peak_bytes"], 1, 1e-9) for x in ("prefill", "decode")),
                _number(row["cache_bytes"], 2, 1e-9),
            ]
        else:
            cells += [row["result"], *5 * "-"]
        saved = [row.get("saved_of", {}).get(form) for form in (row["form"], *THEIRS)]
        cells.append(" / ".join(_number(share, 1, 100) for share in saved))
        cells += [_number(row.get(f"saved_{x}"), 1, 100) for x in ("ideally", "in_the_paper")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_batches(tries: Sequence[Row]) -> str:
    lines = [
        "| visual tokens | form | kept % | largest batch that fits | smallest that does not |",
        "|---:|---|---:|---:|---:|",
    ]
    for row in largest_batches(tries):
        head = f"{row['visual']} | {row['form']} | {100 * row['keep']:g}"
        lines.append(f"| {head} | {row['fits']} | {row['does_not'] or '-'} |")
    return "\n".join(lines)


def _missed_graphs(row: Row) -> bool:
    return row["compiled"] and not row["graphs"]


def _number(value: float | None, digits: int, unit: float = 1) -> str:
    return "-" if value is None else f"{unit * value:.{digits}f}"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Seconds of decoding over the visual tokens, a panel for each batch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measured = [row for row in rows if row["result"] == MEASURED]
    batches = sorted({row["batch"] for row in measured})
    size = (4.5 * len(batches), 3.8)
    figure, panels = pyplot.subplots(1, len(batches), figsize=size, squeeze=False)
    styles = {1.0: "-", 0.5: "--", 0.1: ":"}
    for panel, batch in zip(panels[0], batches, strict=True):
        for number, form in enumerate(FORMS):
            for keep in sorted({row["keep"] for row in measured}, reverse=True):
                points = sorted(
                    (row["visual"], row["decode_s"])
                    for row in measured
                    if (row["batch"], row["form"], row["keep"]) == (batch, form, keep)
                )
                if points:
                    label = f"{form}, {100 * keep:g} %" if form in OURS else form
                    style = styles.get(keep, "-.")
                    panel.plot(*zip(*points, strict=True), f"o{style}", c=f"C{number}", label=label)
        panel.set(title=f"batch {batch}", xlabel="visual tokens", ylabel="decode s", ylim=(0, None))
        panel.set_xscale("log", base=2)
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
