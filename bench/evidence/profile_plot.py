"""The layer profile as a picture: what AirCache's budgets follow, and what comes of it."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from aircache_ext.evaluate.plot import INK, SOFT
from layer_profile import RETENTION

TITLES = {
    "elite": "elite tokens (Eq. 5)",
    "strength": "strength (Eq. 9)",
    "skewness": "skewness (Eq. 10)",
    "share": f"share of the budget, at {RETENTION:.0%}",
}
COLOURS = ["#D55E00", "#0072B2", "#008A64", "#B8598F"]
MARKERS = "osD^"


def draw(profile: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A PNG with a panel for each statistic and a line for each family; layers count from 1."""
    figure = Figure((4 * len(TITLES), 3.4), layout="constrained")
    panels = figure.subplots(1, len(TITLES))
    for (name, title), panel in zip(TITLES.items(), panels, strict=True):
        for i, (family, statistics) in enumerate(profile.items()):
            layers = range(1, len(statistics[name]) + 1)
            panel.plot(
                layers, statistics[name], label=family, linewidth=1.6, markersize=5,
                color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)],
            )  # fmt: skip
            panel.set_xticks(layers)
        panel.set_title(title, loc="left", fontsize=10.5, color=INK)
        panel.set_xlabel("layer", color=SOFT)
        panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
        panel.grid(axis="y", color="#e6e6e2", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=SOFT, length=3)
    panels[-1].yaxis.set_major_locator(MultipleLocator(0.05))
    panels[-1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[0].legend(frameon=False, fontsize=8.5)
    figure.savefig(path, dpi=160)
