"""The paper's formulas as plain loops over numpy float64 numbers: a second opinion on reference.py.

One layer, one batch row, one loop per sum sign. Nothing here is shared with the reference.
"""

import math

import numpy as np


def visual_positions(visual, valid):
    return [i for i in range(len(visual)) if visual[i] and valid[i]]


def instruction_positions(visual, valid, window):
    after = max(visual_positions(visual, valid), default=-1)
    first = len(visual) - window
    return [i for i in range(first, len(visual)) if valid[i] and not visual[i] and i > after]


def softmax(logits, n=0.0):
    largest = max(logits)
    exponentials = [math.exp(x - largest) for x in logits]
    total = math.fsum(exponentials) + n * math.exp(-largest)
    return [e / total for e in exponentials]


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def instruction_attention(query, key, visual, valid, scale):
    """Eq. 4. ``query [Hq, W, D]``, ``key [Hkv, S, D]`` -> ``a [W]``."""
    query_heads, window, _ = query.shape
    first = key.shape[1] - window
    group = query_heads // key.shape[0]
    t = instruction_positions(visual, valid, window)
    a = np.zeros(window)
    for h in range(query_heads):
        if t:
            logits = [dot(query[h, t[-1] - first], key[h // group, j]) * scale for j in t]
            for j, p in zip(t, softmax(logits), strict=True):
                a[j - first] += p / query_heads
    return a


def elite_window(a, visual, valid, alpha):
    """Eq. 5. ``a [W]`` -> positions in the window."""
    first = len(visual) - len(a)
    t = [i - first for i in instruction_positions(visual, valid, len(a))]
    return [j for j in t if a[j] >= alpha * max(a[i] for i in t)]


def window_scores(query, key, elite, visual, valid, scale, softmax_over="restricted", n=0.0):
    """Eq. 7 and 8 for every query head: ``[Hq, S]``. ``elite``: positions in the window."""
    query_heads, window, _ = query.shape
    seq = key.shape[1]
    group = query_heads // key.shape[0]
    v = visual_positions(visual, valid)
    scores = np.zeros((query_heads, seq))
    for h in range(query_heads):
        for e in elite:
            if softmax_over == "full":
                read = [j for j in range(seq - window + e + 1) if valid[j]]
            else:
                read = v + [seq - window + other for other in elite if other <= e]
            attention = softmax([dot(query[h, e], key[h // group, j]) * scale for j in read], n)
            for i, p in zip(read, attention, strict=True):
                if i in v:
                    scores[h, i] += p / len(elite)
    return scores


def significant(query, key, judges, visual, valid, scale, threshold):
    """VL-Cache: entries of V that are at least ``threshold`` times the largest of their row."""
    query_heads, window, _ = query.shape
    group = query_heads // key.shape[0]
    v = set(visual_positions(visual, valid))
    count = 0
    for h in range(query_heads):
        for e in judges:
            read = [j for j in range(key.shape[1] - window + e + 1) if valid[j]]
            attention = softmax([dot(query[h, e], key[h // group, j]) * scale for j in read])
            kept = [p >= threshold * max(attention) for p in attention]
            count += sum(k for j, k in zip(read, kept, strict=True) if j in v)
    return count


def skewness(scores):
    """Eq. 10 over a list of numbers."""
    n = len(scores)
    if n < 3 or len(set(scores)) == 1:
        return 0.0
    mean = math.fsum(scores) / n
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in scores) / (n - 1))
    return n / ((n - 1) * (n - 2)) * math.fsum(((x - mean) / deviation) ** 3 for x in scores)


def weights(strengths, skewnesses, mode):
    """Eq. 11's shares of the layers."""
    layers = len(strengths)

    def share(values):
        total = sum(values)
        return [v / total if 0 < total < math.inf else 1 / layers for v in values]

    s, k = share(strengths), share([0.0 if v < 0 else v for v in skewnesses])
    return {
        "strength+skewness": [(a + b) / 2 for a, b in zip(s, k, strict=True)],
        "strength": s,
        "skewness": k,
        "uniform": [1 / layers] * layers,
        "pyramid": [
            (1.95 - 1.9 * i / (layers - 1)) / layers if layers > 1 else 1.0 for i in range(layers)
        ],
    }[mode]


def budgets(weights, caps, total):
    """``clamp(t * w, 1, cap)`` with t by bisection, then the largest remainders."""

    def clamped(t, shares):
        return [min(max(t * w, 1.0), cap) for w, cap in zip(shares, caps, strict=True)]

    positive = [w > 0 for w in weights]
    if total > sum(cap if p else 1 for p, cap in zip(positive, caps, strict=True)):
        full = [cap if p else 0 for p, cap in zip(positive, caps, strict=True)]
        flat = [0.0 if p else 1.0 for p in positive]
        shares, fixed = flat, full
    else:
        shares, fixed = weights, [0] * len(caps)

    def targets(t):
        return [f if f else x for f, x in zip(fixed, clamped(t, shares), strict=True)]

    low, high = 0.0, max(caps) / min((w for w in shares if w > 0), default=1.0)
    for _ in range(2000):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(targets(middle)) < total else (low, middle)
    x = [math.floor(y * 2**20 + 0.5) / 2**20 for y in targets(high)]
    result = [math.floor(y) for y in x]
    while sum(result) < total:
        for _, layer in sorted((-(y % 1), layer) for layer, y in enumerate(x)):
            if sum(result) < total and result[layer] < caps[layer]:
                result[layer] += 1
    return result


def kept(scores, budget, visual, valid):
    """All text and the best visual tokens, ascending."""
    v = visual_positions(visual, valid)
    numbers = sorted((i for i in v if not math.isnan(scores[i])), key=lambda i: (-scores[i], i))
    ranked = numbers + [i for i in v if math.isnan(scores[i])]
    text = [i for i in range(len(visual)) if valid[i] and not visual[i]]
    return sorted(text + ranked[: max(budget, 0)])
