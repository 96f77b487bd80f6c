"""Arguments that are one word of a few, as types; checks and the command line follow them."""

from typing import Literal

Heads = Literal["shared", "per_kv_head"]
Softmax = Literal["restricted", "full"]
BudgetMode = Literal["strength+skewness", "strength", "skewness", "uniform", "pyramid"]
