"""Judging with the answer given says what decoding greedily would."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import dataset
import model as small
import processor
from aircache_ext.evaluate.no_visual import NoVisual
from aircache_ext.hf import CompressedCache
from aircache_ext.methods import H2O, AirCache, SnapKV
from exam import Exam
from foresight import Foresight
from layer_profile import profile
from lineup import variants

VARIANTS = pytest.mark.parametrize(
    "options",
    [
        dict(retention=1.0),
        dict(retention=0.1, method=AirCache()),
        dict(retention=0.2, method=SnapKV()),
        dict(retention=0.1, method=H2O()),
        dict(method=NoVisual()),
    ],
    ids=str,
)
LENGTHS = (4, 9, 6, 2)  # of the answers, with their ends


@pytest.fixture(scope="module")
def model():
    return small.build(6, seed=0).eval()


@pytest.fixture
def examples():
    """Of one picture and of two, with instructions of several lengths."""
    made = [dataset.example("pairs" if i == 1 else "forms", "test", i, 6) for i in range(4)]
    return [replace(e, answer="7" * (n - 1)) for e, n in zip(made, LENGTHS, strict=True)]


@pytest.fixture
def exam(model, examples):
    with torch.inference_mode(), Exam(model, processor.processor(6), examples) as exam:
        yield exam


def inputs(exam: Exam) -> dict[str, Tensor]:
    return {name: exam.inputs[name] for name in ("input_ids", "attention_mask", "pixel_values")}


def greedy(model, exam: Exam, options: dict) -> Tensor:
    """``[batch, tokens]`` that the model says over a cache that read the prompt itself."""
    with CompressedCache(model, **options) as cache:
        said = model.generate(
            **inputs(exam), past_key_values=cache, do_sample=False, eos_token_id=-1,
            max_new_tokens=exam.answers.shape[1],
        )  # fmt: skip
    return said[:, exam.inputs["input_ids"].shape[1] :]


def forced(model, exam: Exam, options: dict, follow: bool = False) -> Tensor:
    """``[batch, tokens - 1]`` bool: what is right of each token after those before it, by single
    steps. ``follow``: from the second on the answers are made what the model says."""
    right, answers = [], exam.answers
    mask = exam.inputs["attention_mask"]
    with CompressedCache(model, **options) as cache:
        model(**exam.inputs, past_key_values=cache)
        for step in range(answers.shape[1] - 1):
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            logits = model(
                input_ids=answers[:, step, None],
                attention_mask=mask,
                position_ids=mask.sum(1, keepdim=True) - 1,
                past_key_values=cache,
            ).logits[:, -1]
            if follow:
                answers[:, step + 1] = logits.argmax(-1)
            right.append(logits.argmax(-1) == answers[:, step + 1])
    return torch.stack(right, 1)


@VARIANTS
@torch.inference_mode()
def test_what_is_exact_is_what_is_said(model, examples, options):
    """The model's own words are right to the last token; with another word in them they are not,
    and each token is still judged after those before it."""
    exam = Exam(model, processor.processor(6), examples)
    said = greedy(model, exam, options)
    exam.answers.copy_(said)
    with exam:
        verdict = exam.judge(**options)
        assert verdict.exact.tolist() == [True] * 4 and verdict.tokens.tolist() == [1.0] * 4

    exam = Exam(model, processor.processor(6), examples)
    exam.answers.copy_(said)
    exam.answers[0, 3] = processor.END if said[0, 3] != processor.END else processor.PAD  # its last
    exam.answers[1, 2] = (said[1, 2] + 1) % 700
    exam.answers[2, 0] = (said[2, 0] + 1) % 700  # the first one
    exam.answers[3, 2] = (said[3, 2] + 1) % 700  # behind the end
    with exam:
        verdict = exam.judge(**options)
        assert verdict.exact.tolist() == [False, False, False, True]
        right = forced(model, exam, options)
        for row, length in enumerate(LENGTHS):
            expected = right[row, : length - 1].float().mean()
            assert verdict.tokens[row] == pytest.approx(float(expected))
        assert verdict.tokens[0] == pytest.approx(2 / 3) and verdict.tokens[1] < 1


def test_the_first_token_is_that_of_the_full_cache(model, examples):
    """It cannot be wrong for want of a picture that was dropped after it."""
    with torch.inference_mode():
        exam = Exam(model, processor.processor(6), examples)
        exam.answers.copy_(greedy(model, exam, dict(retention=1.0)))
        with exam:
            assert exam.first.tolist() == [True] * 4
            blind = exam.judge(method=NoVisual())
            assert blind.exact.tolist() == (blind.tokens == 1).tolist()


@torch.inference_mode()
def test_a_wrong_first_token_is_wrong(model, examples):
    """Whatever is right behind it: only that counts for the tokens."""
    exam = Exam(model, processor.processor(6), examples)
    said = greedy(model, exam, dict(retention=0.2))[:, 0]
    exam.answers[:, 0] = torch.where(torch.arange(4) < 2, said, (said + 1) % 700)
    forced(model, exam, dict(retention=0.2), follow=True)
    with exam:
        verdict = exam.judge(retention=0.2)
        assert verdict.tokens.tolist() == [1.0] * 4
        assert verdict.exact.tolist() == [True, True, False, False]


def test_without_the_picture_nothing_depends_on_its_keys(model, exam):
    visual = (exam.inputs["input_ids"] == processor.IMAGE)[:, None, :, None]

    def said(**options) -> Tensor:
        with exam.prompt.compressed(**options) as cache:
            return model(
                input_ids=exam.answers, position_ids=exam.positions[:, :1] + torch.arange(9),
                past_key_values=cache,
            ).logits  # fmt: skip

    before = said(method=NoVisual()), said(retention=1.0)
    for layer in exam.prompt.layers:
        layer.keys = layer.keys + visual * torch.randn_like(layer.keys)
        layer.values = layer.values + visual * torch.randn_like(layer.values)
    after = said(method=NoVisual()), said(retention=1.0)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=0.1)


def test_what_was_kept_is_counted(exam):
    visual = exam.visual.tolist()
    assert visual == [36, 72, 36, 36]
    assert exam.judge(method=NoVisual()).kept.tolist() == [0.0] * 4
    assert exam.judge(retention=1.0).kept.tolist() == [1.0] * 4
    total = [round(0.2 * 6 * n) / (6 * n) for n in visual]
    assert exam.judge(retention=0.2).kept.tolist() == pytest.approx(total)


def eager_attention(exam: Exam, row: int, ids: Tensor) -> list[Tensor]:
    """``[heads, seq, seq]`` of each layer, when tokens ``ids`` ``[seq]`` are read alone with the
    pictures of the exam's ``row``."""
    model = small.build(6, seed=0).eval()  # the exam's
    model.set_attn_implementation("eager")
    images = exam.inputs["pixel_values"].split((exam.visual // 36).tolist())[row]
    with torch.inference_mode():
        out = model(input_ids=ids[None], pixel_values=images, output_attentions=True)
    return [attention[0] for attention in out.attentions]


def test_foresight_is_the_models_own_attention(exam):
    """The reference: weights that eager attention gives out, each question alone, unpadded."""
    for row in range(4):
        real = exam.inputs["attention_mask"][row].bool()
        told = exam.judged[row]
        ids = torch.cat([exam.inputs["input_ids"][row][real], exam.answers[row, :-1][told]])
        for layer, attention in enumerate(eager_attention(exam, row, ids)):
            mean = attention[:, -int(told.sum()) :].mean((0, 1))[: int(real.sum())]
            visual = ids[: len(mean)] == processor.IMAGE
            found = exam.foreseen[layer, row, 0][real]
            assert torch.allclose(found[visual], mean[visual], atol=1e-6)
    best = exam.judge(method=Foresight(), retention=0.1)
    assert best.kept.tolist() == pytest.approx(exam.judge(method=AirCache(), retention=0.1).kept)


def test_the_profile_is_what_the_budgets_follow(exam):
    seen = profile(exam)
    with exam.prompt.compressed(retention=0.1) as cache:
        kept = torch.tensor(list(cache.report().kept.values())) - exam.text  # [layers, batch]
    assert torch.equal(seen["share"], (kept.double() / kept.sum(0)).T)
    assert seen["strength"].shape == seen["skewness"].shape == (4, 6)
    assert bool(((seen["strength"] > 0) & (seen["strength"] <= 1)).all())


def test_the_profile_counts_the_elite_tokens(exam):
    """By eager attention: the instruction's that are near the maximum of its last row."""
    counted = profile(exam)["elite"]
    for row in range(4):
        ids = exam.inputs["input_ids"][row][exam.inputs["attention_mask"][row].bool()]
        first = int((ids == processor.IMAGE).nonzero().max()) + 1
        for layer, attention in enumerate(eager_attention(exam, row, ids)):
            weights = attention[:, -1, first:]  # [heads, instruction]
            weights = (weights / weights.sum(1, keepdim=True)).mean(0)
            assert counted[row, layer] == (weights >= 0.9 * weights.max()).sum()


def test_every_variant_can_be_judged(exam):
    for variant in variants("all"):
        if variant.retention in (0.0, 0.02, 1.0):
            verdict = exam.judge(method=variant.method, retention=variant.retention or 1.0)
            assert bool(((verdict.tokens >= 0) & (verdict.tokens <= 1)).all()), variant
            if variant.name not in ("VL-Cache", "PyramidKV", "full cache", "no visual"):
                least = torch.full((4,), 1 / 36).minimum(1 / exam.visual)  # one token a layer
                assert bool((verdict.kept <= torch.maximum(least, torch.tensor(0.03))).all())
