"""Layer budgets from statistics alone, without a tensor: for planning and for plots."""

import numpy as np

from aircache_ext import _C

n_visual = 1000
strength = np.array([0.99, 0.95, 0.80, 0.60, 0.45, 0.30])  # how much a layer looks at the image
skewness = np.array([2.1, 6.0, 14.2, 9.5, 4.0, 1.2])  # how unequal the visual tokens are to it

for mode in ("strength+skewness", "strength", "skewness", "uniform", "pyramid"):
    budgets = _C.layer_budgets(strength, skewness, n_visual, retention=0.1, budget_mode=mode)
    assert budgets.sum() == round(0.1 * n_visual * len(strength))
    print(f"{mode:>18}", *(f"{budget:>5}" for budget in budgets))
