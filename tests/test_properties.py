"""What must hold of compress_layers whatever the numbers: invariances and determinism."""

import pytest
import torch

import aircache_ext
from aircache_ext import ops, reference
from cases import BASE, BF16, FP32, GRID, PROMPTS, Case, Inputs, make_inputs, tokens
from promises import check_row, same


def visual_sets(compressed, visual) -> list[list[set[int]]]:
    """Per layer and row, the visual positions that the first score head keeps."""
    return [
        [
            {i for i in index[0, :n].tolist() if seen[i]}
            for index, n, seen in zip(layer.indices, layer.counts.tolist(), visual, strict=True)
        ]
        for layer in compressed
    ]


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_row_of_a_padded_batch_is_the_row_alone(dtype, heads, prompt, backend):
    x = Case(prompt=prompt, dtype=dtype, layers=3, window=19).inputs().to(backend.device)
    options = {"retention": 0.3, "heads": heads}
    batched = aircache_ext.compress_layers(*x.cache, **x.masks, **options)
    for row, valid in enumerate(x.valid):
        real = valid.nonzero().flatten()
        window = int((real >= valid.numel() - 19).sum())  # padding may stand in the window too
        if window == 0:
            continue
        alone = aircache_ext.compress_layers(
            [key[row : row + 1, :, real] for key in x.keys],
            [value[row : row + 1, :, real] for value in x.values],
            [query[row : row + 1, :, -19:][:, :, valid[-19:]] for query in x.queries],
            visual=x.visual[row : row + 1, real],
            **options,
        )
        check_row(batched, row, alone, real)


def test_permuting_text_outside_the_window_changes_no_kept_position(backend):
    x = Case(prompt="several images, markers between").inputs().to(backend.device)
    before = aircache_ext.compress_layers(*x.cache, **x.masks, retention=0.3)
    text = ~x.visual.clone()
    text[:, -BASE.window :] = False
    for key in x.keys:
        for row, positions in enumerate(text):
            key[row, :, positions] = key[row, :, positions].flip(1)
    after = aircache_ext.compress_layers(*x.cache, **x.masks, retention=0.3)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a.indices, b.indices)


def test_permuting_visual_keys_permutes_the_kept_set(backend):
    x = BASE.inputs().to(backend.device)
    images = x.visual[0].nonzero().flatten()  # the same in both rows
    order = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))]
    shuffled = [key.clone() for key in x.keys]
    for key, original in zip(shuffled, x.keys, strict=True):
        key[:, :, images] = original[:, :, order]
    moved_to = dict(zip(order.tolist(), images.tolist(), strict=True))
    before = aircache_ext.compress_layers(*x.cache, **x.masks, retention=0.3)
    after = aircache_ext.compress_layers(shuffled, x.values, x.queries, **x.masks, retention=0.3)
    expected = [
        [{moved_to[i] for i in kept} for kept in layer] for layer in visual_sets(before, x.visual)
    ]
    assert visual_sets(after, x.visual) == expected


def test_layers_alike_get_equal_budgets(backend):
    x = BASE.inputs().to(backend.device)
    alike = Inputs(*([tensors[0]] * 5 for tensors in x.cache), x.visual, x.valid)
    ours = aircache_ext.compress_layers(*alike.cache, **alike.masks, budget=12)
    assert [layer.counts.tolist() for layer in ours] == [[12 + 18] * 2] * 5


@pytest.mark.parametrize("prompt", PROMPTS)
def test_strength_is_a_share_of_attention(prompt, backend):
    """``s`` in (0, 1], up to the rounding of its fp32 summands."""
    x = Case(prompt=prompt).inputs().to(backend.device)
    attention = ops.instruction_attention(x.queries, x.keys, **x.masks)
    elite = ops.elite_window(attention, **x.masks)
    scores = ops.window_scores(x.queries, x.keys, elite, **x.masks)
    strength, _ = ops.moments(scores, **x.masks)
    judged = elite.any(-1) & (x.visual & x.valid).any(1)
    assert (strength[judged] > 0).all()
    assert (strength <= 1 + 1e-6).all()
    assert (strength[~judged] == 0).all()


def test_one_elite_token_ranks_like_its_own_row(backend):
    """The kept set is the top of one softmax row, whose order is that of the logits."""
    x = Case(kv_heads=1, group=1).inputs().to(backend.device)
    layer = (x.keys[:1], x.values[:1], x.queries[:1])
    ours = aircache_ext.compress_layers(*layer, **x.masks, alpha=1.0, budget=10)
    attention = ops.instruction_attention(x.queries[:1], x.keys[:1], **x.masks)[0]
    for row, kept in enumerate(visual_sets(ours, x.visual)[0]):
        query = x.queries[0][row, 0, attention[row].argmax()]
        logits = (x.keys[0][row, 0] @ query).masked_fill(~x.visual[row], -torch.inf)
        assert kept == set(logits.topk(10).indices.tolist())


@pytest.mark.parametrize("seq", [1, 7, 200])
def test_a_full_softmax_of_the_last_row_is_torchs(seq, backend):
    """With nothing but evictable keys, it is what attention to one-hot values gives."""
    random = torch.Generator().manual_seed(seq)
    query = torch.randn(2, 4, 1, 64, generator=random).to(backend.device)
    key = torch.randn(2, 2, seq, 64, generator=random).to(backend.device)
    everyone = torch.ones(2, seq, dtype=torch.bool, device=backend.device)
    one_hot = torch.eye(seq, device=backend.device).expand(2, 2, -1, -1)
    attention = torch.nn.functional.scaled_dot_product_attention(
        query, key, one_hot, enable_gqa=True
    )  # [B, Hq, 1, S]
    last = everyone[None, :, :1].contiguous()
    options = {"visual": everyone, "heads": "per_kv_head", "softmax": "full"}
    ours = ops.window_scores([query], [key], last, **options)
    expected = attention.unflatten(1, (2, 2)).mean(2).transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(ours.transpose(1, 2).flatten(0, 2), expected.flatten(0, 1))


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.id)
def test_bitwise_the_same_again_and_on_any_number_of_threads(case, backend, threads):
    x = case.inputs().to(backend.device)
    options = {"retention": 0.3, "heads": ("shared", "per_kv_head")[case.group % 2]}

    def run():
        attention = ops.instruction_attention(x.queries, x.keys, **x.masks)
        elite = ops.elite_window(attention, **x.masks)
        scores, full_scores = (
            ops.window_scores(
                x.queries, x.keys, elite, heads=options["heads"], softmax=softmax, **x.masks
            )
            for softmax in ("restricted", "full")
        )
        counted = ops.window_scores_and_counts(
            x.queries, x.keys, elite, heads=options["heads"], threshold=0.01, **x.masks
        )
        statistics = ops.moments(scores, **x.masks)
        compressed = aircache_ext.compress_layers(*x.cache, **x.masks, **options)
        return [[attention, elite, scores, full_scores, *counted, *statistics], *compressed]

    threads(1)
    first = run()
    assert same(first, run())
    for n in (2, 3):
        threads(n)
        assert same(first, run())


def test_a_window_of_everyone_is_bitwise_the_same_again(backend, threads):
    x = make_inputs(*tokens("text 9, visual 250, text 41"), Case(window=300)).to(backend.device)
    judges = x.valid.expand(2, -1, -1).contiguous()

    def run():
        return [ops.window_scores_and_counts(x.queries, x.keys, judges, threshold=0.1, **x.masks)]

    first = run()
    for n in (1, 2, 3):
        threads(n)
        assert same(first, run())


def test_equal_scores_go_to_the_lower_position(backend):
    """Visual keys all alike: the first ones stay."""
    visual, valid = tokens("pad 2, text 3, visual 30, text 5")
    key = torch.ones(1, 2, 40, 8, device=backend.device)
    query = torch.ones(1, 4, 6, 8, device=backend.device)
    masks = {"visual": visual.to(backend.device), "valid": valid.to(backend.device)}
    ours = aircache_ext.compress(key, key, query, **masks, budget=4)
    assert ours.indices[0, 0].tolist() == [*range(2, 9), *range(35, 40)]
    assert reference.compress(key, key, query, **masks, budget=4).indices.equal(ours.indices)
