"""instruction_attention, elite_window and window_scores against the fp64 reference."""

import math
from dataclasses import replace

import pytest
import torch

import plain_torch
from aircache_ext import ops, reference
from backends import CPU
from cases import (
    BASE,
    BF16,
    FP16,
    FP32,
    FULL_GRID,
    GRID,
    PROMPTS,
    Case,
    Inputs,
    make_inputs,
    tokens,
)

HEADS = ("shared", "per_kv_head")
NAN = float("nan")


def check_attention(case: Case, backend, scale=None) -> None:
    x = case.inputs()
    y = x.to(backend.device)
    ours = ops.instruction_attention(y.queries, y.keys, scale=scale, **y.masks).cpu()
    exact = reference.instruction_attention(x.queries, x.keys, scale=scale, **x.masks)
    plain = [
        plain_torch.instruction_attention(q, k, scale=scale, **x.masks)
        for q, k in zip(x.queries, x.keys, strict=True)
    ]
    assert ours.dtype == torch.float32
    plain_torch.assert_as_good(ours, exact, torch.stack(plain))
    assert not ours[exact == 0].any()  # nothing at all outside the instruction


def on_tensor_cores(x: Inputs, backend) -> bool:
    return backend is not CPU and x.keys[0].dtype != FP32


def check_scores(case: Case, backend, heads="shared", scale=None, alpha=0.5) -> None:
    x = case.inputs()
    attention = reference.instruction_attention(x.queries, x.keys, scale=scale, **x.masks)
    elite = reference.elite_window(attention, alpha=alpha, **x.masks)
    compare_scores(x, elite, backend, heads=heads, scale=scale)


def compare_scores(x: Inputs, elite: torch.Tensor, backend, **options) -> None:
    y = x.to(backend.device)
    ours = ops.window_scores(y.queries, y.keys, elite.to(backend.device), **options, **y.masks)
    exact = reference.window_scores(x.queries, x.keys, elite, **options, **x.masks)
    plain = [
        plain_torch.window_scores(*layer, **options, **x.masks)
        for layer in zip(x.queries, x.keys, elite, strict=True)
    ]
    assert ours.dtype == torch.float32
    cut = on_tensor_cores(x, backend)
    plain_torch.assert_as_good(ours.cpu(), exact, torch.stack(plain), cut=cut)
    assert not ours.cpu()[exact == 0].any()  # nothing at all outside the visual tokens


# Who judges with a full softmax: as ``elite [L, B, W]`` of the valid rows of the window, [B, W].
JUDGES = {
    "the whole window": lambda x, valid: valid,  # SnapKV
    "the last token": lambda x, valid: valid & (valid.flip(1).cumsum(1).flip(1) == 1),  # TOVA
    "what follows the image": lambda x, valid: reference.instruction_tokens(  # VL-Cache
        x.visual, x.valid, valid.shape[1]
    ),
    "some, not the same in every layer": lambda x, valid: (
        valid & (torch.rand(len(x.keys), *valid.shape, generator=torch.Generator()) < 0.4)
    ),
    "nobody": lambda x, valid: valid & False,
}


def check_full_scores(case: Case, backend, judges, **options) -> None:
    x = case.inputs()
    rows = JUDGES[judges](x, x.valid[:, -x.queries[0].shape[2] :])
    elite = rows.expand(len(x.keys), -1, -1).contiguous()
    compare_scores(x, elite, backend, softmax="full", **options)


# 300 positions each; CUDA takes 128 tokens of the window at a time.
LONG_PROMPTS = {
    "one image": ("text 9, visual 250, text 41",),
    "padding": ("pad 40, text 4, visual 200, text 56", "visual 170, pad 7, visual 30, text 93"),
    "images between": ("text 30, visual 90, text 60, visual 60, text 60",),
    "everything": ("visual 300",),
}


def long_inputs(prompt: str, **options) -> Inputs:
    return make_inputs(*tokens(*LONG_PROMPTS[prompt]), Case(**{"layers": 1, **options}))


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_instruction_attention(case, backend, isa):
    check_attention(case, backend)


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
@pytest.mark.parametrize("heads", HEADS)
def test_window_scores(case, heads, backend, isa):
    check_scores(case, backend, heads)


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
@pytest.mark.parametrize("heads", HEADS)
def test_full_softmax(case, heads, backend, isa):
    check_full_scores(case, backend, "some, not the same in every layer", heads=heads)


@pytest.mark.parametrize("judges", JUDGES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_judges_of_a_full_softmax(prompt, judges, backend, isa):
    """Windows inside the instruction, around the end of the image, and over the whole prompt."""
    for window in (1, 16, 37, 60):
        check_full_scores(Case(prompt=prompt, window=window), backend, judges)


@pytest.mark.parametrize("n", [0.25, 1, 1e4])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_n_softmax(prompt, n, backend, isa):
    """Where the sink weighs little, and where it takes nearly everything."""
    for heads, scale in zip(HEADS, (None, -0.2), strict=True):
        options = {"softmax_n": n, "heads": heads, "scale": scale}
        check_full_scores(Case(prompt=prompt, window=37), backend, "the whole window", **options)


@pytest.mark.parametrize("level", [-1e30, -200.0, -88.5, 0.0, 88.5, 200.0, 1e30])
def test_n_softmax_of_logits_far_from_the_sink(level, backend, isa):
    """Equal logits: each weight is 1 / (n exp(-logit) + keys), and never NaN."""
    key = torch.full((1, 1, 5, 1), level, device=backend.device)
    query = torch.ones(1, 1, 1, 1, device=backend.device)
    everyone = torch.ones(1, 5, dtype=torch.bool, device=backend.device)
    options = {"softmax": "full", "scale": 1.0, "visual": everyone}
    ours = ops.window_scores([query], [key], everyone[None, :, :1], softmax_n=3.0, **options)
    sink = 3 * math.exp(-level) if level > -700 else math.inf
    assert ours.flatten().tolist() == pytest.approx([1 / (sink + 5)] * 5, rel=1e-6, abs=1e-37)


@pytest.mark.parametrize("n", [0.0, 1.0])
def test_who_sees_nothing_gives_nothing(n, backend, isa):
    """Padding before every key, and keys that are all at -inf."""
    visual = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1]], device=backend.device).bool()
    valid = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]], device=backend.device).bool()
    query = torch.ones(2, 1, 4, 1, device=backend.device)
    key = torch.ones(2, 1, 4, 1, device=backend.device)
    key[1] = -math.inf
    judges = torch.tensor([[[1, 0, 0, 0], [0, 0, 0, 1]]], device=backend.device).bool()
    options = {"visual": visual, "valid": valid, "softmax": "full", "softmax_n": n}
    assert not ops.window_scores([query], [key], judges, **options).any()
    x = {name: tensor.cpu() for name, tensor in (("visual", visual), ("valid", valid))}
    options |= x
    assert not reference.window_scores([query.cpu()], [key.cpu()], judges.cpu(), **options).any()


def log_sums(x: Inputs, scale: float) -> torch.Tensor:
    """``[L, B, Hq, W]``: what FlashAttention returns beside its output, of the last W queries."""
    window, seq = x.queries[0].shape[2], x.keys[0].shape[2]
    seen = x.valid[:, None, None] & torch.ones(window, seq, dtype=torch.bool).tril(seq - window)

    def one_layer(query, key):
        key = key.double().repeat_interleave(query.shape[1] // key.shape[1], 1)
        logits = query.double() @ key.transpose(2, 3) * scale
        return logits.masked_fill(~seen, -math.inf).logsumexp(-1).float()

    return torch.stack([one_layer(*layer) for layer in zip(x.queries, x.keys, strict=True)])


def check_scores_of_lse(x: Inputs, backend, heads: str) -> None:
    scale, y = x.keys[0].shape[3] ** -0.5, x.to(backend.device)
    lse = log_sums(x, scale)
    rows = x.valid[:, -lse.shape[3] :] & (torch.arange(lse.shape[3]) % 5 != 1)
    rows = rows.expand(len(lse), -1, -1).contiguous()
    options = {"heads": heads, "softmax": "full"}
    ours = ops.window_scores(
        y.queries,
        y.keys,
        rows.to(backend.device),
        lse=lse.to(backend.device),
        **options,
        **y.masks,
    ).cpu()
    exact = reference.window_scores(x.queries, x.keys, rows, lse=lse, **options, **x.masks)
    plain = [
        plain_torch.window_scores(q, k, judges, lse=sums, **options, **x.masks)
        for q, k, judges, sums in zip(x.queries, x.keys, rows, lse, strict=True)
    ]
    plain_torch.assert_as_good(ours, exact, torch.stack(plain), cut=on_tensor_cores(x, backend))
    softmax = reference.window_scores(x.queries, x.keys, rows, **options, **x.masks)
    torch.testing.assert_close(ours.double(), softmax, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_given_lse(prompt, dtype, heads, backend, isa):
    for window in (1, 16, 60):
        x = Case(prompt=prompt, window=window, dtype=dtype, group=3).inputs()
        check_scores_of_lse(x, backend, heads)


@pytest.mark.parametrize("prompt", LONG_PROMPTS)
def test_a_given_lse_of_a_long_window(prompt, backend, isa):
    check_scores_of_lse(long_inputs(prompt, window=300, layers=2), backend, "shared")


def test_a_given_lse_by_hand(backend, isa):
    """Weights are exp(logit - lse): at most 1, 0 for a row that saw nothing, NaN for a NaN."""
    device = backend.device
    key = torch.tensor([0.0, -1.0, 1.0], device=device).view(1, 1, 3, 1)
    query = torch.ones(1, 1, 1, 1, device=device)
    everyone = torch.ones(1, 3, dtype=torch.bool, device=device)
    options = {"visual": everyone, "scale": 1.0, "softmax": "full"}
    for lse, expected in (
        (0.5, [math.exp(-0.5), math.exp(-1.5), 1.0]),
        (2.0, [math.exp(-2), math.exp(-3), math.exp(-1)]),
        (100.0, [0.0, 0.0, 0.0]),
        (-math.inf, [0.0, 0.0, 0.0]),
        (NAN, [NAN, NAN, NAN]),
    ):
        given = torch.full((1, 1, 1, 1), lse, device=device)
        ours = ops.window_scores([query], [key], everyone[None, :, :1], lse=given, **options)
        assert ours.flatten().tolist() == pytest.approx(expected, abs=1e-30, rel=1e-6, nan_ok=True)


def check_counts(case: Case, backend, judges: str, heads: str, threshold: float) -> None:
    """All but the entries whose ratio is within rounding of the threshold are counted rightly."""
    x = case.inputs()
    y = x.to(backend.device)
    rows = JUDGES[judges](x, x.valid[:, -x.queries[0].shape[2] :])
    rows = rows.expand(len(x.keys), -1, -1).contiguous()
    options = {"heads": heads, **y.masks}
    scores, counts = ops.window_scores_and_counts(
        y.queries, y.keys, rows.to(backend.device), threshold=threshold, **options
    )
    on_device = rows.to(backend.device)
    full = ops.window_scores(y.queries, y.keys, on_device, softmax="full", **options)
    assert torch.equal(scores, full)
    assert counts.dtype == torch.int64

    least, most = (
        reference.window_scores_and_counts(
            x.queries, x.keys, rows, threshold=bound, heads=heads, **x.masks
        )[1]
        for bound in (threshold * (1 + 1e-4), threshold * (1 - 1e-4))
    )
    assert ((least <= counts.cpu()) & (counts.cpu() <= most)).all(), (least, counts, most)
    assert (most - least).sum() <= 0.01 * most.sum() + 1  # or the bounds say nothing


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_significant_weights(case, backend, isa):
    heads = HEADS[case.group % 2]
    check_counts(case, backend, "some, not the same in every layer", heads, threshold=0.05)


@pytest.mark.parametrize("threshold", [1e-6, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_significant_weights_of_every_judge(prompt, threshold, backend, isa):
    for judges, heads in zip(JUDGES, HEADS * 3, strict=False):
        check_counts(Case(prompt=prompt, window=37), backend, judges, heads, threshold)


def significant(logits, threshold, backend, visual="1111") -> int:
    """Of one row of attention that has these logits, with ``visual`` positions counted."""
    key = torch.tensor(logits, device=backend.device).view(1, 1, -1, 1)
    query = torch.ones(1, 1, 1, 1, device=backend.device)
    evictable = torch.tensor([[c == "1" for c in visual]], device=backend.device)
    judge = torch.ones(1, 1, 1, dtype=torch.bool, device=backend.device)
    options = {"visual": evictable, "scale": 1.0, "threshold": threshold}
    return int(ops.window_scores_and_counts([query], [key], judge, **options).counts)


def test_significant_weights_by_hand(backend, isa):
    """Weights of 1, 1/2, 1/4 and 1/8 of the largest."""
    halves = [-math.log(2) * k for k in range(4)]
    for shift in (0.0, 50.0, -300.0):
        logits = [x + shift for x in halves]
        for count, threshold in enumerate((0.75, 0.375, 0.1875, 0.1), start=1):
            assert significant(logits, threshold, backend) == count
    assert significant(halves, 0.375, backend, visual="0111") == 1  # of a largest that is text
    assert significant(halves[::-1], 0.1, backend, visual="1010") == 2


def test_the_largest_weight_is_always_significant(backend, isa):
    """``>=``: a threshold of 1 counts the largest alone, a lower one what comes near."""
    below = -2e-6
    assert significant([3.0, 3.0, 2.0, 3.0], 1.0, backend) == 3
    assert significant([0.0, below, 0.0, -9.0], 1.0, backend) == 2
    assert significant([0.0, below, 0.0, -9.0], 1 - 4e-6, backend) == 3
    nothing, infinity = -math.inf, math.inf
    assert significant([nothing] * 4, 1e-9, backend) == 0
    assert significant([nothing, 0.0, nothing, -1.0], 1e-9, backend) == 2
    assert significant([NAN, 0.0, 1.0, -1.0], 0.01, backend) == 0
    assert significant([infinity, 0.0, 1.0, -1.0], 0.01, backend) == 0


def test_all_causal_weights_are_significant_where_all_are_equal(backend, isa):
    """With everything evictable, the largest possible count."""
    x = Case(prompt="padding everywhere", window=60).inputs().to(backend.device)
    judges = x.valid[:, -60:].expand(2, -1, -1).contiguous()
    options = {"visual": torch.ones_like(x.valid), "valid": x.valid, "scale": 0.0, "threshold": 1.0}
    _, counts = ops.window_scores_and_counts(x.queries, x.keys, judges, **options)
    causal = (x.valid.cumsum(1) * x.valid)[:, -60:].sum(1)
    assert torch.equal(counts, (4 * causal).expand(2, -1))


@pytest.mark.parametrize("head_dim", [33, 256])
@pytest.mark.parametrize("prompt", ["image ends inside the window", "padding everywhere"])
def test_one_row_in_fp32(prompt, head_dim, backend, isa):
    """A long dot product rounds more often, and here no mean over rows hides it."""
    case = Case(prompt=prompt, group=1, head_dim=head_dim, window=1, layout="bshd")
    for seed in range(3):
        check_scores(replace(case, seed=seed), backend)


@pytest.mark.full
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_full_grid(prompt, backend, isa):
    for case in FULL_GRID:
        if case.prompt == prompt:
            check_attention(case, backend)
            heads = HEADS[case.group % 2]
            check_scores(case, backend, heads)
            check_full_scores(case, backend, list(JUDGES)[case.group % len(JUDGES)], heads=heads)


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, -0.3])
def test_a_given_scale(scale, backend, isa):
    check_attention(BASE, backend, scale)
    check_scores(BASE, backend, scale=scale)
    check_full_scores(BASE, backend, "the whole window", scale=scale)


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_elite_sets_of_every_size(alpha, backend, isa):
    for prompt in PROMPTS:
        check_scores(Case(prompt=prompt, window=23), backend, alpha=alpha)


def test_logits_far_apart(backend, isa):
    """Exponentials that underflow in fp32 are zeros, not noise."""
    check_attention(BASE, backend, scale=4.0)
    check_scores(BASE, backend, scale=4.0)


def test_a_long_prompt(backend, isa):
    """Longer than any block of a kernel, and of no round length."""
    case = Case(prompt="long", layers=1, group=7, head_dim=128, window=37)
    PROMPTS["long"] = ("text 7, visual 1999, text 33", "pad 3, text 7, visual 1980, text 49")
    try:
        check_attention(case, backend)
        check_scores(case, backend)
        check_full_scores(case, backend, "the whole window")
    finally:
        del PROMPTS["long"]


@pytest.mark.parametrize("softmax", ["restricted", "full"])
@pytest.mark.parametrize("window", [127, 128, 129, 256, 257, 300])
@pytest.mark.parametrize("prompt", LONG_PROMPTS)
def test_windows_up_to_the_whole_prompt(prompt, window, softmax, backend, isa):
    """Every token judges (H2O, PrefixKV), or of a restricted softmax, the whole instruction."""
    x = long_inputs(prompt, window=window)
    rows = x.valid[:, -window:]
    if softmax == "restricted":
        rows = reference.instruction_tokens(x.visual, x.valid, window)
    compare_scores(x, rows[None].clone(), backend, softmax=softmax, heads=HEADS[window % 2])


def test_a_long_restricted_window(backend, isa):
    """CUDA takes it in three parts, each with the elite keys of those before it."""
    x = make_inputs(*tokens("text 3, visual 40, text 277"), Case(layers=1, window=270))
    rows = reference.instruction_tokens(x.visual, x.valid, 270)
    rows[:, ::3] = False
    compare_scores(x, rows[None].clone(), backend)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_long_windows_in_which_few_judge(dtype, backend, isa):
    """Whole parts of the window have nobody, in one row of the batch or in both."""
    x = long_inputs("padding", window=300, dtype=dtype, layers=2)
    for judges in ([], [0], [299], [10, 140], [127, 128, 299], range(130, 250)):
        rows = torch.zeros(2, 2, 300, dtype=torch.bool)
        rows[0, 1, list(judges)] = True
        rows[1] = rows[0].flip(0)
        compare_scores(x, rows & x.valid, backend, softmax="full", softmax_n=0.5)


def test_significant_weights_of_a_long_window(backend, isa):
    PROMPTS["long"] = LONG_PROMPTS["padding"]
    try:
        for heads in HEADS:
            check_counts(Case(prompt="long", window=300), backend, "the whole window", heads, 0.05)
    finally:
        del PROMPTS["long"]


@pytest.mark.parametrize("judge", [0, 127, 128, 150, 299])
def test_nan_in_a_long_window(judge, backend, isa):
    """For all of V, before the token that judges and after it, of its KV head alone."""
    x = long_inputs("everything", window=300).to(backend.device)
    x.queries[0][0, 2, judge] = NAN
    everyone = torch.ones(1, 2, 300, dtype=torch.bool, device=backend.device)[:, :1]
    options = {"softmax": "full", "heads": "per_kv_head", **x.masks}
    ours = ops.window_scores(x.queries, x.keys, everyone.contiguous(), **options)
    assert not ours[0, 0, 0].isnan().any()
    assert ours[0, 0, 1].isnan().all()


@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_what_is_not_read_does_not_matter(garbage, backend, isa):
    """Padding and the text outside the window may hold anything, and so may unused queries."""
    x = Case(prompt="padding everywhere").inputs()
    visual, valid = x.masks.values()
    attention = ops.instruction_attention(x.queries, x.keys, **x.masks)
    elite = ops.elite_window(attention, **x.masks)
    clean = ops.window_scores(x.queries, x.keys, elite, **x.masks)

    read_keys = (visual & valid).clone()
    read_keys[:, -BASE.window :] |= reference.instruction_tokens(visual, valid, BASE.window)
    for key in x.keys:
        key[~read_keys[:, None].expand(-1, key.shape[1], -1)] = garbage
    assert torch.equal(ops.instruction_attention(x.queries, x.keys, **x.masks), attention)
    for query, rows in zip(x.queries, elite, strict=True):
        query[~rows[:, None].expand(-1, query.shape[1], -1)] = garbage
    assert torch.equal(ops.window_scores(x.queries, x.keys, elite, **x.masks), clean)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_a_full_softmax_reads_no_padding_and_nothing_later(garbage, backend, isa):
    x = Case(prompt="padding everywhere", window=50).inputs().to(backend.device)
    elite = x.valid[:, -50:].clone()
    elite[:, 10:] = False  # among the visual tokens: some come later
    elite = elite.expand(2, -1, -1).contiguous()
    clean = ops.window_scores(x.queries, x.keys, elite, softmax="full", **x.masks)
    assert clean.any()
    for key, query in zip(x.keys, x.queries, strict=True):
        key[~x.valid[:, None].expand(-1, key.shape[1], -1)] = garbage
        key[:, :, -40:] = garbage
        query[:, :, 10:] = garbage
    assert torch.equal(
        ops.window_scores(x.queries, x.keys, elite, softmax="full", **x.masks), clean
    )


@pytest.mark.parametrize("softmax", ["restricted", "full"])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_a_softmax_that_is_no_number(garbage, softmax, backend, isa):
    """NaN for all visual tokens of its KV head, and for no other head's."""
    x = Case(window=40).inputs().to(backend.device)
    for key in x.keys:
        key[0, 1, 30] = garbage
    elite = torch.zeros(2, 2, 40, dtype=torch.bool, device=backend.device)
    elite[:, :, -5:] = True
    if softmax == "full":
        elite[:, :, 3] = True  # the image goes on after it
    options = {"heads": "per_kv_head", "softmax": softmax}
    ours = ops.window_scores(x.queries, x.keys, elite, **options, **x.masks)
    expected = torch.zeros_like(ours, dtype=torch.bool)
    expected[:, 0, 1] = x.visual[0]
    assert torch.equal(ours.isnan(), expected)

    x, elite = x.to("cpu"), elite.cpu()
    exact = reference.window_scores(x.queries, x.keys, elite, **options, **x.masks)
    assert torch.equal(exact.isnan(), expected.cpu())


def test_valid_may_be_left_out(backend):
    x = Case(prompt="several images, markers between").inputs().to(backend.device)
    attention = ops.instruction_attention(x.queries, x.keys, **x.masks)
    elite = ops.elite_window(attention, **x.masks)
    scores = ops.window_scores(x.queries, x.keys, elite, **x.masks)
    visual = x.visual
    assert torch.equal(ops.instruction_attention(x.queries, x.keys, visual=visual), attention)
    assert torch.equal(ops.elite_window(attention, visual=visual), elite)
    assert torch.equal(ops.window_scores(x.queries, x.keys, elite, visual=visual), scores)


def test_masks_may_repeat_one_row(backend):
    """A mask of batch stride 0, as ``mask.expand(B, -1)`` makes it."""
    x = BASE.inputs().to(backend.device)
    masks = {name: mask[:1].expand(2, -1) for name, mask in x.masks.items()}
    assert torch.equal(
        ops.instruction_attention(x.queries, x.keys, **masks),
        ops.instruction_attention(x.queries, x.keys, **x.masks),
    )


@pytest.mark.parametrize(
    ("attention", "alpha", "elite"),
    [
        ([0.5, 0.46, 0.44, 0.0], 0.9, [1, 1, 0, 0]),
        ([0.25, 0.25, 0.25, 0.25], 1.0, [1, 1, 1, 1]),  # every maximum is in
        ([0.1, 0.4, 0.3, 0.2], 1.0, [0, 1, 0, 0]),
        ([0.1, 0.4, 0.3, 0.2], 0.75, [0, 1, 1, 0]),
        ([0.1, 0.4, 0.3, 0.2], 0.0, [1, 1, 1, 1]),  # the whole instruction
        ([0.0, 1.0, 0.0, 0.0], 0.0, [1, 1, 1, 1]),
        ([NAN, 0.4, 0.3, NAN], 0.5, [0, 1, 1, 0]),  # NaN is below every number
        ([NAN, 0.4, 0.0, NAN], 0.0, [0, 1, 1, 0]),
        ([NAN, NAN, NAN, NAN], 0.9, [0, 0, 0, 1]),  # nothing to go by: the last token
        ([0.0, 0.0, 0.0, 0.0], 0.9, [1, 1, 1, 1]),
    ],
)
def test_elite_window_by_hand(attention, alpha, elite, backend):
    visual, valid = tokens("visual 3, text 4")
    a = torch.tensor([[attention]], device=backend.device)
    ours = ops.elite_window(a, visual=visual, valid=valid, alpha=alpha)
    assert ours.dtype == torch.bool
    assert ours[0, 0].int().tolist() == elite


def test_the_threshold_itself_is_in(backend):
    """``>=``: with alpha = 3/4 and a maximum of 1/2, 3/8 is exact in fp32 and in."""
    visual, _ = tokens("visual 1, text 3")
    below = torch.nextafter(torch.tensor(0.375), torch.tensor(0.0)).item()
    attention = torch.tensor([[[0.5, 0.375, below]]], device=backend.device)
    assert ops.elite_window(attention, visual=visual, alpha=0.75).tolist() == [[[1, 1, 0]]]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("window", [1, 7, 23])
def test_elite_window_equals_the_reference(alpha, prompt, window, backend):
    """Exactly, and whatever stands outside the instruction is not looked at."""
    visual, valid = tokens(*PROMPTS[prompt])
    random = torch.Generator().manual_seed(window)
    shape = (3, len(visual), window)
    attention = torch.rand(shape, generator=random).mul(20).round().div(20)  # with ties
    attention[torch.rand(shape, generator=random) < 0.1] = NAN
    masks = {"visual": visual, "valid": valid}
    expected = reference.elite_window(attention, alpha=alpha, **masks)
    on_device = {name: mask.to(backend.device) for name, mask in masks.items()}
    ours = ops.elite_window(attention.to(backend.device), alpha=alpha, **on_device)
    assert torch.equal(ours.cpu(), expected)
