"""Records what kvpress' published presses keep, into ``kept.npz``.

    make .venv-kvpress/installed
    .venv-kvpress/bin/python tests/kvpress_fixture/make_fixture.py

Two small random models, one with biases, read a prompt of random tokens: once by themselves, when
their rotated queries and keys are recorded, then under each press, when the positions of what is
left of the cache are found by looking its keys up among all, bit for bit. ``formulas.py``
describes what the presses compute; that they keep exactly what it says is asserted here.

Nothing in the fixture hangs on rounding: the seed of each model is the first one with which, in
fp64, the last score that stays and the first that goes are apart by MARGIN in every set. Another
machine's rounding may change the recorded queries and keys in their last bits, not the sets.
"""

import itertools
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import formulas  # beside this file
import kvpress
import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

FILE = Path(__file__).with_name("kept.npz")
MARGIN = 1e-4  # relative
LAST = 32  # queries recorded
SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 16,
    # Ten times the usual: logits come out with a standard deviation of about 2.
    "initializer_range": 0.2,
}
MODELS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, 4),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, 3),
}
PROMPT = {"llama": 160, "qwen2": 130}


def presses(model: str) -> Iterator[tuple[str, dict[str, float | int]]]:
    """Ratios whose counts are cut off (0.9 of 160: 15.99...), or whole and a half (of 130)."""

    def snapkv(ratio: float, window: int, kernel: int) -> tuple[str, dict[str, float | int]]:
        sizes = {"window_size": window, "kernel_size": kernel}
        return "SnapKV", {"compression_ratio": ratio, **sizes}

    def pyramid(
        ratio: float, window: int, kernel: int, beta: int
    ) -> tuple[str, dict[str, float | int]]:
        return "PyramidKV", snapkv(ratio, window, kernel)[1] | {"beta": beta}

    yield snapkv(0.5, 16, 5)
    yield snapkv(0.6, 32, 7)
    yield snapkv(0.75, 1, 5)
    yield snapkv(0.9, 8, 1)
    if model == "llama":
        yield pyramid(0.4, 8, 7, 20)  # the first layer is capped at all but a window
        yield pyramid(0.5, 16, 5, 20)  # the same, and the last layer keeps its window alone
        yield pyramid(0.6, 8, 5, 2)  # no cap
        yield pyramid(0.7, 32, 5, 20)  # no room for a pyramid
    else:
        yield pyramid(0.25, 32, 3, 20)  # capped: 98, 97.5, 97
        yield pyramid(0.5, 8, 5, 2)  # no cap: 97.5, 65, 32.5
        yield pyramid(0.65, 16, 5, 20)  # no room: 45.5 each
    for ratio, sinks in ((0.5, 4), (0.75, 8), (0.9, 1)):
        yield "StreamingLLM", {"compression_ratio": ratio, "n_sink": sinks}
    for ratio in (0.3, 0.65, 0.9):
        yield "TOVA", {"compression_ratio": ratio}


def make_model(name: str, seed: int) -> tuple[PreTrainedModel, Tensor]:
    config, kind, layers = MODELS[name]
    torch.manual_seed(seed)
    model = kind(config(**SIZES, num_hidden_layers=layers)).eval()
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            if projection.bias is not None:  # zeros otherwise
                torch.nn.init.normal_(projection.bias, std=0.5)
    return model, torch.randint(SIZES["vocab_size"], (1, PROMPT[name]))


@torch.no_grad()
def prefill(model: PreTrainedModel, prompt: Tensor, attention: str) -> DynamicCache:
    model.set_attn_implementation(attention)
    return model(prompt, past_key_values=DynamicCache()).past_key_values


def record(model: PreTrainedModel, prompt: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Per layer what is attended with: queries ``[Hq, LAST, D]`` and keys ``[Hkv, S, D]``."""
    queries, keys = [], []

    def recording(module: torch.nn.Module, query: Tensor, key: Tensor, *rest, **options):
        queries.append(query[0, :, -LAST:].clone())
        keys.append(key[0].clone())
        return sdpa_attention_forward(module, query, key, *rest, **options)

    AttentionInterface.register("recording", recording)
    prefill(model, prompt, "recording")
    return queries, keys


def positions(kept: Tensor, full: Tensor) -> Tensor:
    """Where the rows of ``kept`` ``[Hkv, n, D]`` stand in ``full`` ``[Hkv, S, D]``, ascending."""
    equal = (kept[:, :, None] == full[:, None]).all(-1)
    assert (equal.sum(-1) == 1).all(), "a key that is left is not exactly one of the cache's"
    return equal.int().argmax(-1).sort(-1).values


def find_seed(name: str) -> int:
    for seed in itertools.count():
        queries, keys = record(*make_model(name, seed))
        if all(formulas.kept(*press, queries, keys)[1] > MARGIN for press in presses(name)):
            return seed
    raise AssertionError


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    cases = []
    seeds = {name: find_seed(name) for name in MODELS}
    for name, seed in seeds.items():
        model, prompt = make_model(name, seed)
        queries, keys = record(model, prompt)
        arrays[f"{name}/queries"] = torch.stack(queries).numpy()
        arrays[f"{name}/keys"] = torch.stack(keys).numpy()
        for press, params in presses(name):
            with getattr(kvpress, f"{press}Press")(**params)(model):
                cache = prefill(model, prompt, "sdpa")
            sets = [
                positions(layer.keys[0], k) for layer, k in zip(cache.layers, keys, strict=True)
            ]
            expected, margin = formulas.kept(press, params, queries, keys)
            for layer, (found, wanted) in enumerate(zip(sets, expected, strict=True)):
                assert found.equal(wanted), (name, press, params, layer, found, wanted)
            masks = torch.zeros(len(sets), *keys[0].shape[:2], dtype=torch.bool)
            for mask, found in zip(masks, sets, strict=True):
                mask.scatter_(1, found, True)
            arrays[f"kept/{len(cases)}"] = masks.numpy()
            cases.append({"model": name, "press": press, "params": params, "margin": margin})
            print(name, press, params, [s.shape[1] for s in sets], f"{margin:.1e}")
    facts = {
        "kvpress": version("kvpress"),
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "seeds": seeds,
        "scale": SIZES["head_dim"] ** -0.5,
        "cases": cases,
    }
    np.savez_compressed(FILE, facts=np.array(json.dumps(facts)), **arrays)
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} kB, seeds {seeds}")


if __name__ == "__main__":
    main()
