"""Accuracy over retention, one line a method, its interval as a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aircache_ext.evaluate.summary import Row
from aircache_ext.evaluate.table import families, percent
from aircache_ext.evaluate.variants import FULL_CACHE

PANEL = 5.0, 4.4  # inches
LINE = 0.052  # height of a label, of the axis
INK, SOFT = "#1c1c22", "#6b6b76"


class Style(NamedTuple):
    colour: str
    marker: str
    dashes: str = "-"


# Colours after Okabe and Ito, which colour-blind readers tell apart, the pale ones darker, so that
# names can be read in them; greys for the controls. Markers tell the lines a second time.
STYLES = {
    "AirCache": Style("#D55E00", "o"),
    "VL-Cache": Style("#0072B2", "s"),
    "CSP": Style("#008A64", "^"),
    "PrefixKV": Style("#B8598F", "D"),
    "SnapKV": Style("#2E9BD6", "v"),
    "PyramidKV": Style("#C98A00", "P"),
    "H2O": Style("#5B4FA2", "X"),
    "TOVA": Style("#8A5A2B", "<"),
    "StreamingLLM": Style("#555555", ">", "--"),
    "Random": Style("#8C8C8C", "*", ":"),
    "Uniform": Style("#8C8C8C", "h", "-."),
}
OTHERS = [style._replace(dashes="--") for style in STYLES.values()]


def draw(rows: Sequence[Row], title: str, path: Path, more: dict[str, Style] | None = None) -> None:
    """A PNG with a panel for each family; retention falls from left to right. ``more`` styles are
    for what is no method."""
    names = families(rows)
    columns = min(len(names), 2)
    lines = -(-len(names) // columns)
    figure = Figure((PANEL[0] * columns, PANEL[1] * lines + 0.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for family, panel in zip(names, panels, strict=False):
        _panel(panel, [row for row in rows if row["family"] == family], STYLES | (more or {}))
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=160)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves labels apart: ``places`` in their order, at least ``gap`` from each other, as near as
    may be to where they were; none below ``low``, and none above ``high`` if there is room."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[list[float]] = []  # of labels that touch: sum of wanted bottoms, number
    for rank, i in enumerate(order):
        blocks.append([places[i] - rank * gap, 1])
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            total, number = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + number]
    bottoms = [_mean(block) for block in blocks for _ in range(int(block[1]))]
    most = high - (len(places) - 1) * gap
    moved = [0.0] * len(places)
    for rank, i in enumerate(order):
        moved[i] = max(min(bottoms[rank], most), low) + rank * gap
    return moved


def _mean(block: list[float]) -> float:
    return block[0] / block[1]


def _panel(axes: Axes, rows: Sequence[Row], known: Mapping[str, Style]) -> None:
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: -row["retention"]):
        if row["method"] != FULL_CACHE and row["retention"] > 0:
            lines.setdefault(row["method"], []).append(row)
    methods = [name for name in dict.fromkeys(row["method"] for row in rows) if name in lines]
    shares = sorted({row["retention"] for line in lines.values() for row in line}) or [1.0]
    left, right = shares[-1] * 1.1, shares[0] / 1.1

    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(0, 102)
    axes.set_xticks(shares, [percent(share) for share in shares])
    axes.minorticks_off()
    axes.set_title(
        f"{rows[0]['family']}, {rows[0]['n']:,} questions", loc="left", fontsize=10.5, color=INK
    )
    axes.set_xlabel("share of the visual tokens that stays", color=SOFT)
    axes.set_ylabel("accuracy, %", color=SOFT)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#e6e6e2", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bdbdb8")
    axes.tick_params(colors=SOFT, length=3)

    spare = iter(OTHERS)
    styles = {name: known.get(name) or next(spare, OTHERS[0]) for name in methods}
    faint = 0.14 / max(len(methods) - 1, 1) ** 0.5  # bands lie on each other
    for name in reversed(methods):  # the first on top
        _line(axes, lines[name], styles[name], heavy=name == methods[0], faint=faint)
    ends = {
        name: End(lines[name][-1]["retention"], 100 * lines[name][-1]["accuracy"], styles[name])
        for name in methods
    }
    for row in rows:
        if row["method"] not in lines:  # what is not compressed, or what is not seen at all
            style = Style(INK if row["method"] == FULL_CACHE else "#8C8C8C", "", "--")
            value = 100 * row["accuracy"]
            band = (100 * bound for bound in row["ci95"])
            axes.axhspan(*band, color=style.colour, alpha=0.08, linewidth=0)
            axes.axhline(value, color=style.colour, linewidth=1, linestyle=(0, (5, 3)))
            ends[f"{row['method']} {value:.1f}"] = End(right, value, style)
    _labels(axes, ends, methods[:1])


class End(NamedTuple):
    """Where a line that wants a label ends."""

    share: float
    accuracy: float
    style: Style


def _line(axes: Axes, line: Sequence[Row], style: Style, heavy: bool, faint: float) -> None:
    shares = [row["retention"] for row in line]
    low, high = zip(*((100 * a, 100 * b) for a, b in (row["ci95"] for row in line)), strict=True)
    alpha = 0.2 if heavy else faint
    axes.fill_between(shares, low, high, color=style.colour, alpha=alpha, linewidth=0)
    axes.plot(
        shares,
        [100 * row["accuracy"] for row in line],
        color=style.colour,
        marker=style.marker,
        linestyle=style.dashes,
        linewidth=2.6 if heavy else 1.3,
        markersize=6.5 if heavy else 4.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _labels(axes: Axes, ends: Mapping[str, End], heavy: Sequence[str]) -> None:
    """Names to the right of the axis, moved apart where they would overlap."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    wanted = [end.accuracy for end in ends.values()]
    height = top - bottom
    places = spread(wanted, LINE * height, bottom - 0.07 * height, top)
    joint, text = (
        left * (right / left) ** part for part in (1.05, 1.06)
    )  # of the logarithmic axis
    for (name, end), place in zip(ends.items(), places, strict=True):
        colour = end.style.colour
        xs, ys = (end.share, right, joint), (end.accuracy, end.accuracy, place)
        axes.plot(xs, ys, color=colour, linewidth=0.6, alpha=0.7, clip_on=False, zorder=1)
        weight = "bold" if name in heavy else "normal"
        axes.text(text, place, name, va="center", fontsize=8.5, color=colour, fontweight=weight)
