"""What four presses of kvpress 0.5.5 keep, in fp64, and how it differs from the papers' own code.

Written from kvpress' source; ``make_fixture.py`` proves that its published package keeps the same.
Shapes are of one layer and one batch row: queries ``[Hq, W, D]`` of the last tokens, keys
``[Hkv, S, D]``, both rotated. Positions count from 0. All counts are totals of a layer: window,
sinks and the last token are among them.

Common to all
    * ``compression_ratio`` r is the share that goes; r = 0 leaves the cache as it is.
    * The cache is left in the order of scores, not of positions.
    * The scale is 1 / sqrt(D), whatever the module says. There is no padding mask.
    * Scores are of the model's dtype, only the softmax is fp32: with bf16 many are equal, and which
      of equal ones ``torch.topk`` takes is not specified.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def kept_count(seq: int, ratio: float) -> int:
    """SnapKV, StreamingLLM, TOVA: the same in every layer.

    Truncated as floating-point numbers have it: 100 keys at r = 0.9 are 9, since 1 - 0.9 < 0.1.

    Papers' code: all take an absolute size, and leave shorter prompts as they are.
    """
    return max(1, int(seq * (1 - ratio)))


def pyramid_counts(seq: int, ratio: float, layers: int, *, window: int, beta: int) -> list[int]:
    """PyramidKV: from ``most`` in the first layer down to ``least`` in the last, evenly.

    ``round`` goes to even numbers. Where the pyramid would not fit, all layers get the same, here
    rounded while ``kept_count`` truncates.

    KVCache-Factory: sizes are absolute and its divisions integer ones (``//``); a layer keeps so
    many tokens *beside* its window, here the window is among them; prompts shorter than twice the
    prefix part of its size get the same in all layers, shorter ones than its size are left as they
    are; ``least`` may be less than a window.
    """
    capacity = window + seq * (1 - ratio)
    least = (capacity - window) / beta
    most = (capacity - window) * 2 - least
    if most >= seq - window:
        most = seq - window
        least = (capacity - window) * 2 - most
    if not seq >= most >= least >= window:
        return [max(1, round(seq * (1 - ratio)))] * layers
    step = (most - least) / (layers - 1) if layers > 1 else 0.0
    return [round(most - layer * step) for layer in range(layers)]


def snapkv_scores(queries: Tensor, keys: Tensor, *, window: int, kernel: int) -> Tensor:
    """``[Hkv, S - window]``: SnapKV and PyramidKV; the window itself always stays.

    The softmax is over all keys, causal inside the window, and the window's columns are cut off
    after it. Then the mean over the window's rows; average pooling with zeros beyond both ends
    (always divided by ``kernel``, which must be odd; the window's columns are no neighbours); the
    mean over the query heads of a KV head. The window stays because it is given the highest score
    + 1: with a count below the window, which of its tokens stay is not specified.

    FasterDecoding/SnapKV: the sum over rows, which ranks alike; no mean over query heads, each of
    which keeps tokens (and a copy of its keys) of its own; max pooling as an alternative, which its
    own experiments take. KVCache-Factory: the same, or heads joined before pooling.
    """
    attention = _attention(queries[:, -window:], keys)[..., :-window]
    scores = F.avg_pool1d(attention.mean(1), kernel, stride=1, padding=kernel // 2)
    return scores.unflatten(0, (len(keys), -1)).mean(1)


def tova_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """``[Hkv, S - 1]``, the same for every KV head; the last token always stays.

    Attention of the last token over all keys, itself included and then cut off; mean over all query
    heads.

    schwartz-lab-NLP/TOVA: the last token is ranked like any other; and every step of decoding
    evicts again, where kvpress only compresses the prompt.
    """
    scores = _attention(queries[:, -1:], keys)[:, 0, :-1].mean(0)
    return scores.expand(len(keys), -1)


def streaming_llm_set(seq: int, ratio: float, *, sinks: int) -> Tensor:
    """``[n]``: the first ``sinks`` and the last ``n - sinks``; not specified where n < sinks.

    mit-han-lab/streaming-llm: keys are rotated by their place in the cache, at every step anew;
    kvpress leaves them rotated as they were (but for its KeyRerotationPress).
    """
    recent = kept_count(seq, ratio) - sinks
    return torch.cat([torch.arange(sinks), torch.arange(seq - recent, seq)])


def kept(
    press: str,
    params: dict[str, float | int],
    queries: list[Tensor],
    keys: list[Tensor],
) -> tuple[list[Tensor], float]:
    """Positions ``[Hkv, n]`` of every layer, ascending, and the smallest margin of their scores."""
    heads, seq, _ = keys[0].shape
    ratio = params["compression_ratio"]
    if press == "StreamingLLM":
        positions = streaming_llm_set(seq, ratio, sinks=params["n_sink"])
        return [positions.expand(heads, -1)] * len(keys), math.inf

    window = params.get("window_size", 1)
    counts = [kept_count(seq, ratio)] * len(keys)
    if press == "PyramidKV":
        counts = pyramid_counts(seq, ratio, len(keys), window=window, beta=params["beta"])
    sets, margin = [], math.inf
    for count, layer_queries, layer_keys in zip(counts, queries, keys, strict=True):
        if press == "TOVA":
            scores = tova_scores(layer_queries, layer_keys)
        else:
            kernel = params["kernel_size"]
            scores = snapkv_scores(layer_queries, layer_keys, window=window, kernel=kernel)
        ranked, order = scores.sort(dim=-1, descending=True, stable=True)
        best = count - window
        if 0 < best < scores.shape[1]:
            gaps = 1 - ranked[:, best] / ranked[:, best - 1]
            margin = min(margin, gaps.min().item())
        tail = torch.arange(seq - window, seq).expand(heads, -1)
        sets.append(torch.cat([order[:, :best].sort(-1).values, tail], dim=1))
    return sets, margin


def _attention(queries: Tensor, keys: Tensor) -> Tensor:
    """``[Hq, W, S]`` fp64: causal softmax of the last W tokens over all keys."""
    rows, seq = queries.shape[1], keys.shape[1]
    repeated = keys.double().repeat_interleave(len(queries) // len(keys), dim=0)
    logits = queries.double() @ repeated.transpose(1, 2) / keys.shape[2] ** 0.5
    hidden = torch.ones(rows, seq, dtype=torch.bool).triu(seq - rows + 1)
    return logits.masked_fill(hidden, -math.inf).softmax(-1)
