"""What `generate` does with a cache: padded batches, beams, samples, assistance, later turns."""

import models
import pytest
import torch
from models import Prompt
from torch import Tensor
from transformers import DynamicCache
from versions import families, since

from aircache_ext.hf import CompressedCache, next_positions
from aircache_ext.methods import H2O, SnapKV

GREEDY = dict(do_sample=False, output_logits=True, return_dict_in_generate=True)


def generate(model, cache, x, new=5, **options):
    return model.generate(**x, past_key_values=cache, max_new_tokens=new, **(GREEDY | options))


def said(output) -> Tensor:  # [batch, steps, vocabulary]
    return torch.stack(output.logits, 1)


@pytest.mark.parametrize("name", families("qwen2_5_vl", "llava", "gemma3", "qwen3_5"))
@torch.no_grad()
def test_a_row_of_a_padded_batch_is_the_row_alone(name):
    model = models.build(name)
    prompts = [
        models.question(1),
        Prompt((9, "image", 5, "image", 20), 2),
        Prompt((1, "image", 6), 3),
    ]
    with CompressedCache(model, retention=0.2) as cache:
        batch = generate(model, cache, models.inputs(name, *prompts))
        together = cache.report()
        layers = cache._compressible
        for row, prompt in enumerate(prompts):
            with CompressedCache(model, retention=0.2) as own:
                alone = generate(model, own, models.inputs(name, prompt))
            torch.testing.assert_close(said(batch)[row], said(alone)[0], atol=1e-4, rtol=0)
            assert own.report().seen == [together.seen[row]]
            padding = cache.get_seq_length() - own.get_seq_length()
            for index, layer in own._compressible.items():
                held = layers[index].positions[row, 0]
                assert (held[held >= 0] - padding).tolist() == layer.positions[0, 0].tolist()


@since(20, "beams and samples of Qwen-VL prompts with images")
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava"])
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 3},
        {"do_sample": True, "num_return_sequences": 2},
    ],
    ids=str,
)
@torch.no_grad()
def test_beams_and_samples_are_those_of_the_full_model(name, options):
    model = models.build(name)
    x = models.inputs(name, models.question(1), Prompt((2, "image", 12), 2))
    torch.manual_seed(0)
    full = generate(model, DynamicCache(config=model.config), x, **options)
    torch.manual_seed(0)
    with CompressedCache(model, retention=1.0) as cache:
        ours = generate(model, cache, x, **options)
    assert torch.equal(ours.sequences, full.sequences)


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True}], ids=str)
@torch.no_grad()
def test_each_sequence_keeps_what_its_prompt_keeps(options):
    model = models.build("llava")
    x = models.inputs("llava", models.question(1), Prompt((2, "image", 12), 2))
    budget = torch.tensor([2, 5])
    with CompressedCache(model, budget=budget) as cache:
        generate(model, cache, x)
    with CompressedCache(model, budget=budget) as many:
        generate(model, many, x, num_return_sequences=3, **options)
    for one, three in zip(cache.layers, many.layers, strict=True):
        prompt = one.kept.shape[2]
        expected = one.positions[:, :, :prompt].repeat_interleave(3, 0)
        assert torch.equal(three.positions[:, :, :prompt], expected)


@since(16, "crop as it is now")
class TestAssistedDecoding:
    """Its first forward holds the prompt and guesses at the answer."""

    @pytest.fixture
    def x(self):
        x = models.inputs("llava", models.question(1))
        x["input_ids"][:, -8:] = torch.tensor(
            [50, 51, 52, 50, 51, 52, 50, 51]
        )  # guesses: 52, 50, 51
        return x

    @pytest.mark.parametrize("method", [None, SnapKV(window_size=12), H2O()], ids=str)
    @torch.no_grad()
    def test_equals_plain_decoding(self, x, method):
        model = models.build("llava")
        with CompressedCache(model, retention=0.3, method=method) as cache:
            plain = generate(model, cache, x, new=12)
            kept = cache.report().kept
        fed = []
        hook = model.model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: fed.append(kwargs["inputs_embeds"].shape[1]),
            with_kwargs=True,
        )
        length = x["input_ids"].shape[1]
        options = dict(retention=0.3, method=method, prompt_length=length)
        with CompressedCache(model, **options) as cache:
            assisted = generate(model, cache, x, new=12, prompt_lookup_num_tokens=3)
            surplus = cache.get_seq_length() - (length + 11)
            kept_assisted = cache.report().kept
        hook.remove()
        assert fed[0] > length  # or nothing is shown
        assert torch.equal(assisted.sequences, plain.sequences)
        assert kept_assisted == {i: [n + surplus for n in rows] for i, rows in kept.items()}

    @torch.no_grad()
    def test_asks_for_the_prompts_length(self, x):
        model = models.build("llava")
        with CompressedCache(model) as cache, pytest.raises(ValueError, match="prompt_length"):
            generate(model, cache, x, prompt_lookup_num_tokens=3)


class TestLaterTurns:
    @staticmethod
    def continued(x: dict[str, Tensor], sequences: Tensor, turn: dict[str, Tensor]):
        """The whole conversation, as a processor gives it, without the pixels of old images."""
        answer = torch.ones_like(sequences[:, x["input_ids"].shape[1] :])
        mask = torch.cat([x["attention_mask"], answer, turn["attention_mask"]], 1)
        more = {k: v for k, v in turn.items() if k not in ("attention_mask", "mm_token_type_ids")}
        return more | {
            "input_ids": torch.cat([sequences, turn["input_ids"]], 1),
            "attention_mask": mask,
        }

    @pytest.mark.parametrize("name", families("qwen2_5_vl", "qwen3_vl", "llava", "gemma3"))
    @torch.no_grad()
    def test_only_the_new_tokens_are_read(self, name):
        """And the answers to a second and a third question are those of the full model."""
        model = models.build(name)
        x = models.inputs(name, models.question(1), Prompt((2, "image", 12), 2))
        runs = []
        for retention in (None, 1.0, 0.2):
            fed = []
            hook = model.model.language_model.register_forward_pre_hook(
                lambda module, args, kwargs, fed=fed: fed.append(kwargs["inputs_embeds"].shape[1]),
                with_kwargs=True,
            )
            cache = DynamicCache(config=model.config)
            if retention is not None:
                cache = CompressedCache(model, retention=retention)
            first = generate(model, cache, x)
            deltas = getattr(model.model, "rope_deltas", None)
            y = self.continued(x, first.sequences, models.text(2, 6, seed=1))
            second = generate(model, cache, y)
            z = self.continued(y, second.sequences, models.text(2, 4, seed=2))
            third = generate(model, cache, z)
            hook.remove()
            assert fed == [x["input_ids"].shape[1], *[1] * 4, 7, *[1] * 4, 5, *[1] * 4]
            if deltas is not None:
                assert torch.equal(model.model.rope_deltas, deltas)
            runs.append((third.sequences, said(second), said(third)))
            if retention is not None:
                cache.close()
        (full, *full_logits), (ours, *our_logits), _ = runs
        assert torch.equal(ours, full)
        torch.testing.assert_close(our_logits, full_logits, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("name", ["llava", "internvl", "idefics3"])
    @torch.no_grad()
    def test_a_new_image_through_generate(self, name):
        model = models.build(name)
        x, turn = models.inputs(name, models.question(1)), models.inputs(name, models.question(2))
        outputs = []
        for cache in (DynamicCache(config=model.config), CompressedCache(model, retention=1.0)):
            first = generate(model, cache, x)
            outputs.append(generate(model, cache, self.continued(x, first.sequences, turn)))
        torch.testing.assert_close(said(outputs[1]), said(outputs[0]), atol=1e-5, rtol=0)

        with CompressedCache(model, retention=0.25) as small:
            first = generate(model, small, x)
            held = small.report().kept
            generate(model, small, self.continued(x, first.sequences, turn))
            image = int((turn["input_ids"] == models.IMAGE).sum())
            text = turn["input_ids"].shape[1] - image + 5  # the last answer's end, this one's start
            grown = sum(small.report().kept[i][0] - held[i][0] for i in held)
            assert grown == models.LAYERS * (text + image // 4)

    @since(12, "positions of images that do not depend on where they stand")
    @torch.no_grad()
    def test_a_new_image_for_qwen(self):
        """Upstream, whatever the cache: `generate` computes the positions of the conversation anew
        from the grids it is given, which are the new images' alone, and runs out of them (before
        transformers 5.23 it went on with wrong positions). A plain forward with explicit positions
        is exact."""
        name = "qwen2_5_vl"
        model = models.build(name)
        x, turn = models.inputs(name, models.question(1)), models.inputs(name, models.question(2))
        tokens = (
            "input_ids",
            "attention_mask",
            "mm_token_type_ids",
        )  # the others: one row an image
        whole = {key: torch.cat([x[key], turn[key]], int(key in tokens)) for key in x}

        stock = DynamicCache(config=model.config)
        model(**x, past_key_values=stock)
        y = whole | {k: turn[k] for k in ("pixel_values", "image_grid_thw")}
        try:
            upstream = generate(model, stock, y).logits[0]
        except StopIteration:
            upstream = None

        expected, deltas = model.model.get_rope_index(
            whole["input_ids"], whole["mm_token_type_ids"], whole["image_grid_thw"]
        )
        with CompressedCache(model, retention=1.0) as cache:
            model.model.rope_deltas = None
            model(**x, past_key_values=cache)
            asked = {k: turn[k] for k in ("input_ids", "mm_token_type_ids", "image_grid_thw")}
            positions = next_positions(model, cache, **asked)
            assert torch.equal(positions, expected[..., -positions.shape[2] :])
            assert torch.equal(model.model.rope_deltas, deltas)
            ours = model(
                **turn | {"attention_mask": whole["attention_mask"]},
                position_ids=positions, past_key_values=cache,
            )  # fmt: skip
            # And `generate` goes on from there.
            ids = torch.cat([whole["input_ids"], ours.logits[:, -1:].argmax(-1)], 1)
            ours_then = generate(model, cache, {"input_ids": ids})
        model.model.rope_deltas = None
        full = model(**whole)
        torch.testing.assert_close(ours.logits[:, -1], full.logits[:, -1], atol=1e-5, rtol=0)
        assert upstream is None or not torch.allclose(upstream, full.logits[:, -1], atol=1e-2)
        full_then = generate(model, None, whole, new=6)
        assert torch.equal(ours_then.sequences, full_then.sequences)

    @pytest.mark.parametrize("name", families("qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v"))
    @since(12, "positions of images that do not depend on where they stand")
    @torch.no_grad()
    def test_next_positions_of_a_padded_batch(self, name):
        """Those of the conversation as one, with its padding on both sides of the first turn."""
        model = models.build(name)
        x = models.inputs(name, models.question(1), Prompt((2, "image", 12), 2))
        turn = models.inputs(name, Prompt((4, "image", 6), 3), Prompt((2, "image", 3), 4))
        cache = DynamicCache(config=model.config)
        model.model.rope_deltas = None
        model(**x, past_key_values=cache)
        whole = models.follow(model, x["attention_mask"], turn, cache)
        deltas = model.model.rope_deltas

        grids, more = x["image_grid_thw"], turn["image_grid_thw"]
        by_row = [torch.stack([a, b]) for a, b in zip(grids, more, strict=True)]
        types = torch.cat([x["mm_token_type_ids"], turn["mm_token_type_ids"]], 1)
        expected, expected_deltas = model.model.get_rope_index(
            torch.cat([x["input_ids"], turn["input_ids"]], 1),
            mm_token_type_ids=types,
            image_grid_thw=torch.cat(by_row),
            attention_mask=whole["attention_mask"],
        )
        told = turn["attention_mask"].bool()
        new = told.shape[1]
        assert torch.equal(whole["position_ids"][:, told], expected[..., -new:][:, told])
        assert torch.equal(deltas, expected_deltas)
