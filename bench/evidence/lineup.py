"""What is compared, by name: every method, the controls, and AirCache with one thing changed."""

from dataclasses import dataclass

from aircache_ext.evaluate.no_visual import NoVisual
from aircache_ext.evaluate.variants import FULL_CACHE, METHODS, NO_VISUAL
from aircache_ext.methods import AirCache, Method
from foresight import Foresight
from full_softmax import FullSoftmax
from windows import LastVisual

RETENTIONS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)

# What is changed of AirCache, and to what. The paper's own value is among each.
ABLATIONS: dict[str, dict[str, Method]] = {
    "window": {
        "last 16": AirCache(window_size=16),
        "last 32": AirCache(window_size=32),
        "all text": AirCache(alpha=0.0),
        "visual": LastVisual(size=32),
        "elite": AirCache(),
    },
    "budgets": {
        "uniform": AirCache(budget_mode="uniform"),
        "pyramid": AirCache(budget_mode="pyramid"),
        "strength": AirCache(budget_mode="strength"),
        "skewness": AirCache(budget_mode="skewness"),
        "both": AirCache(),
    },
    "softmax": {"restricted": AirCache(), "full": FullSoftmax()},
    "heads": {"shared": AirCache(), "apart": AirCache(heads="per_kv_head")},
    "alpha": {f"{alpha:g}": AirCache(alpha=alpha) for alpha in (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)},
}


@dataclass(frozen=True)
class Variant:
    name: str
    method: Method
    retention: float  # of the visual tokens; 0: none of them, 1: all

    @property
    def key(self) -> str:
        return f"{self.name} {self.retention:g}"


CONTROLS = [Variant(FULL_CACHE, AirCache(), 1.0), Variant(NO_VISUAL, NoVisual(), 0.0)]
FORESIGHT = "foresight"  # a bound, no method


def _names() -> dict[Method, str]:
    """Methods that are equal have one name, and are run once."""
    names = {method: name for name, method in METHODS.items()} | {Foresight(): FORESIGHT}
    for changed, values in ABLATIONS.items():
        for value, method in values.items():
            names.setdefault(method, f"AirCache, {changed} {value}")
    return names


NAMES = _names()
WIDER = NAMES[AirCache(window_size=16)]  # the ablation that others are measured against too


def variants(which: str) -> list[Variant]:
    """``"main"``: controls, methods and the bound; ``"ablations"``: AirCache's; ``"all"``."""
    main = {*METHODS.values(), Foresight()}
    ablated = {method for values in ABLATIONS.values() for method in values.values()}
    wanted = {"main": main, "ablations": ablated, "all": main | ablated}[which]
    return CONTROLS + [
        Variant(name, method, retention)
        for method, name in NAMES.items()
        if method in wanted
        for retention in RETENTIONS
    ]
