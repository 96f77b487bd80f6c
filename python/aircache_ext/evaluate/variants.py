"""The caches that are compared: a method and a retention each, and two controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aircache_ext import methods

FULL_CACHE = "full cache"
NO_VISUAL = "no visual"

# By the names that people read, in the order of tables; with their papers' defaults, and visual
# tokens alone evicted: equal retention is equal bytes, unless a method does not spend its budget.
METHODS: dict[str, methods.Method] = {
    "AirCache": methods.AirCache(),
    "VL-Cache": methods.VLCache(),
    "CSP": methods.CSP(),
    "PrefixKV": methods.PrefixKV(),
    "SnapKV": methods.SnapKV(),
    "PyramidKV": methods.PyramidKV(),
    "H2O": methods.H2O(),
    "TOVA": methods.TOVA(),
    "StreamingLLM": methods.StreamingLLM(),
    "Random": methods.Random(),
    "Uniform": methods.Uniform(),
}


def named(name: str) -> str:
    """As in ``METHODS``, of a name that may be the class's: ``VLCache``."""
    return next((shown for shown, method in METHODS.items() if type(method).__name__ == name), name)


class Variant(NamedTuple):
    method: str
    """One of ``METHODS``, or a control: ``FULL_CACHE``, ``NO_VISUAL``."""
    retention: float
    """Of the visual tokens, in [0, 1]."""


CONTROLS = [Variant(FULL_CACHE, 1.0), Variant(NO_VISUAL, 0.0)]


def variants(names: Sequence[str], retentions: Sequence[float]) -> list[Variant]:
    """The controls, then every method of ``names`` at all ``retentions`` but 1, falling.

    Raises:
        ValueError: a retention outside (0, 1].
    """
    for retention in retentions:
        if not 0 < retention <= 1:
            raise ValueError(f"retention is {retention} but must be in (0, 1]")
    falling = sorted(set(retentions) - {1.0}, reverse=True)
    chosen = [name for name in METHODS if name in names]
    compressed = [Variant(name, retention) for name in chosen for retention in falling]
    return [*CONTROLS, *compressed]
