"""The formulas of aircache_ext.methods as plain loops over numbers: a second opinion on them.

Each takes one row of a batch and returns a Choice for every layer and choosing head, in float64,
from the papers and the public code that each docstring names. Nothing here is shared with the
package.
"""

import math

import paper_loops
from methods_rows import (
    Choice,
    average,
    best,
    choose,
    equal,
    limits,
    mean,
    total,
    with_judges,
)

SHARE_GAP = 1e-5  # between shares of attention that decide a budget
TOKEN_GAP = 1e-9  # of a token, between a budget and where it is rounded to the next
COUNT_GAP = 3e-5  # relative, between a weight and the threshold from which it counts


def snapkv(row, *, window_size=32, kernel_size=5, pooling="avg", heads="per_kv_head",
           evict_text=False, budgets=None):  # fmt: skip
    always = row.last(window_size)
    judges = row.in_window(always)
    budgets = with_judges(row, evict_text, judges, budgets or equal(row, evict_text))

    def pooled(layer, head):
        received = row.received(layer, head, judges) / max(len(judges), 1)
        line = [0.0 if i in always else received[i] for i in row.tokens]
        scores = [0.0] * len(row.valid)
        for place, position in enumerate(row.tokens):
            near = line[max(0, place - kernel_size // 2) : place + kernel_size // 2 + 1]
            scores[position] = math.fsum(near) / kernel_size if pooling == "avg" else max(near)
        return scores

    return [
        [
            choose(row, evict_text, budget, mean([pooled(layer, h) for h in group]), always)
            for group in row.heads(heads)
        ]
        for layer, budget in enumerate(budgets)
    ]


def pyramid_budgets(row, evict_text, window_size, beta) -> list[int]:
    """KVCache-Factory's: ``size`` tokens beside the window, ``q_len`` of them at the choice."""
    n = len(row.evictable(evict_text))
    window = len([i for i in row.last(window_size) if i in row.evictable(evict_text)])
    capacity = math.floor(average(row, evict_text) + 0.5)
    size, prefix = capacity - window, n - window
    if size <= 0 or n < 2 * size or row.layers == 1:
        budgets = [capacity] * row.layers
    else:
        smallest = size // beta
        largest = 2 * size - smallest
        if largest >= prefix:
            largest = prefix
            smallest = 2 * size - largest
        step = (largest - smallest) // (row.layers - 1)
        budgets = [largest - layer * step + window for layer in range(row.layers)]
    return [min(max(b, 1), most) for b, most in zip(budgets, limits(row, evict_text), strict=True)]


def pyramidkv(row, *, beta=20, window_size=32, evict_text=False, **options):
    budgets = pyramid_budgets(row, evict_text, window_size, beta)
    return snapkv(row, window_size=window_size, evict_text=evict_text, budgets=budgets, **options)


def tova(row, *, heads="shared", evict_text=False):
    judge = row.last(1)
    budgets = with_judges(row, evict_text, row.in_window(judge), equal(row, evict_text))

    def scores(layer, head):
        return row.received(layer, head, row.in_window(judge))

    return [
        [
            choose(row, evict_text, budget, mean([scores(layer, h) for h in group]), judge)
            for group in row.heads(heads)
        ]
        for layer, budget in enumerate(budgets)
    ]


def streaming_llm(row, *, sinks=4, evict_text=False):
    evictable = row.evictable(evict_text)
    first = [i for i in row.tokens[:sinks] if i in evictable]
    recent = [i for i in reversed(evictable) if i not in first]
    text = [i for i in row.tokens if i not in evictable]
    return [
        [Choice(sorted(text + (first + recent)[:budget]), True)]
        for budget in equal(row, evict_text)
    ]


def h2o(row, *, recent=0.5, heads="per_kv_head", evict_text=False):
    return [
        [
            choose(
                row,
                evict_text,
                budget,
                mean([row.received(layer, h, row.tokens) for h in group]),
                row.last(math.floor(budget * recent)),
            )
            for group in row.heads(heads)
        ]
        for layer, budget in enumerate(equal(row, evict_text))
    ]


def top_p(masses, most, total) -> tuple[list[int], bool]:
    """By bisection of p: every layer has the fewest tokens that hold the share p of its mass."""
    prefixes = []
    for mass in masses:
        order = sorted(mass, reverse=True)
        whole = math.fsum(order)
        prefixes.append([math.fsum(order[: o + 1]) / whole for o in range(len(order))])

    def sizes(p):
        reach = ([o for o, share in enumerate(prefix, 1) if share >= p] for prefix in prefixes)
        return [
            min(cap, min(r, default=len(prefix)))
            for r, prefix, cap in zip(reach, prefixes, most, strict=True)
        ]

    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if sum(sizes(middle)) <= total:
            low = middle
        else:
            high = middle
    result, more = sizes(low), sizes(high)
    # Where p steps over several tokens at once they are of equal shares: the lower layer's first.
    for wanted in (more, most):
        for layer, size in enumerate(wanted):
            result[layer] += min(max(size - result[layer], 0), total - sum(result))
    edge = [
        abs(share - high) < SHARE_GAP
        for prefix, cap in zip(prefixes, most, strict=True)
        for share in prefix[: cap - 1]
    ]
    return result, sum(edge) < 2 or result == list(most)


def prefix_kv(row, *, start_size=1, heads="shared", evict_text=False):
    evictable = row.evictable(evict_text)
    if not evictable:
        return [[Choice(row.tokens, True)] * len(row.heads(heads))] * row.layers
    received = [
        [row.received(layer, h, row.tokens) for h in range(row.queries.shape[1])]
        for layer in range(row.layers)
    ]
    masses = [[mean(layer)[i] for i in evictable] for layer in received]
    budgets, clear = top_p(masses, limits(row, evict_text), total(row, evict_text))
    always = sorted({*row.tokens[:start_size], *row.last(1)})
    return [
        [
            choose(row, evict_text, budget, mean([of_heads[h] for h in group]), always, clear)
            for group in row.heads(heads)
        ]
        for budget, of_heads in zip(budgets, received, strict=True)
    ]


def vl_cache(row, *, threshold=0.01, recent=0.1, heads="per_kv_head", evict_text=False):
    n = len(row.evictable(evict_text))
    judges = paper_loops.instruction_positions(row.visual, row.valid, row.queries.shape[2])
    query_heads = range(row.queries.shape[1])
    dense, doubtful = [], []
    for layer in range(row.layers):
        weights = [row.attention(layer, h, j) for h in query_heads for j in judges]
        ratio = [r for of_row in weights for r in (of_row / of_row.max()).tolist()]
        dense.append(sum(r >= threshold for r in ratio))
        near = [r for r in ratio if abs(r - threshold) < COUNT_GAP * threshold]
        doubtful.append(sum(r != 1 for r in near))  # the largest itself is in whatever happens

    def budget(layer, doubt):
        """With so many of the doubtful weights more in this layer, and fewer in the others."""
        counts = [d - doubt * q for d, q in zip(dense, doubtful, strict=True)]
        counts[layer] = dense[layer] + doubt * doubtful[layer]
        share = counts[layer] / sum(counts) * row.layers * average(row, evict_text)
        return min(max(share, 0.01 * n), n)

    budgets, clear = limits(row, evict_text), True
    for layer, most in enumerate(budgets):
        if judges and average(row, evict_text) < n:
            budgets[layer] = min(max(math.floor(budget(layer, 0) + 0.5), 1), most)
            if row.layers > 1:  # one alone has all, whatever was counted
                fewest = math.floor(budget(layer, -1) + 0.5 - TOKEN_GAP)
                clear = clear and fewest == math.floor(budget(layer, 1) + 0.5 + TOKEN_GAP)
    return [
        [
            choose(
                row,
                evict_text,
                b,
                mean([row.received(layer, h, judges) for h in group]),
                row.last(math.floor(b * recent)),
                clear,
            )
            for group in row.heads(heads)
        ]
        for layer, b in enumerate(budgets)
    ]


def csp(row, *, recent=0.5, cross=0.1, softmax_n=1.0, heads="per_kv_head", evict_text=False):
    evictable = row.evictable(evict_text)
    judges = row.in_window(row.last(max(1, math.floor(average(row, evict_text) * recent))))
    by_image = [i for i in judges if row.visual[i]]
    by_text = [i for i in judges if not row.visual[i]]

    def attention(layer, group, of_same):
        text, image = (
            mean([row.received(layer, h, by, softmax_n) for h in group])
            for by in (by_text, by_image)
        )
        return [image[i] if visual == of_same else text[i] for i, visual in enumerate(row.visual)]

    def one_head(layer, group, budget):
        stay = [i for i in row.last(math.floor(budget * recent)) if i in evictable]
        left = budget - len(stay)
        candidates = [i for i in evictable if i not in stay]
        own, other = attention(layer, group, True), attention(layer, group, False)
        seen = [i for i in candidates if own[i] > 0]
        by_own, clear = best(own, seen, left - math.floor(left * cross))
        rest = [i for i in candidates if i not in by_own]
        by_other, clear_too = best(other, rest, left - len(by_own))
        text = [i for i in row.tokens if i not in evictable]
        return Choice(sorted([*text, *stay, *by_own, *by_other]), clear and clear_too)

    budgets = with_judges(row, evict_text, judges, equal(row, evict_text))
    return [
        [one_head(layer, group, budget) for group in row.heads(heads)]
        for layer, budget in enumerate(budgets)
    ]


def uniform(row):
    seen = row.evictable(False)
    text = [i for i in row.tokens if i not in seen]

    def chosen(k):
        return [p for i, p in enumerate(seen, 1) if i * k // len(seen) > (i - 1) * k // len(seen)]

    return [[Choice(sorted(text + chosen(budget)), True)] for budget in equal(row, False)]


def random(row, *, seed=0):
    """Draws of splitmix64's finaliser, over unsigned integers."""

    def mixed(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    def drawn(layer):
        scores = [0] * len(row.valid)
        for ordinal, position in enumerate(row.tokens, 1):
            scores[position] = mixed(mixed(layer * 2**32 + ordinal) ^ seed % 2**64) % 2**24
        return scores

    return [
        [choose(row, False, budget, drawn(layer))] for layer, budget in enumerate(equal(row, False))
    ]
