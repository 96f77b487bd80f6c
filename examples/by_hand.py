"""A model over a compressed cache, by hand: what ``aircache_ext.hf`` does, in the open.

The parts that an integration needs are :func:`prefill`, which records the queries of the
instruction, and :func:`decode`, which goes on over layers of different lengths; between them stands
``compress_layers``. This is for one prompt of one model; ``aircache_ext.hf`` does it for any, in
batches and over several turns.

The model is a Qwen2.5-VL: class, image preprocessing, rotary positions and attention are those of
``transformers``. It is small and its weights are random, so that nothing has to be downloaded. What
it says is therefore meaningless; what its cache looks like is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import aircache_ext

# The vocabulary: one token a byte, and Qwen's markers after them.
IM_START, IM_END, VISION_START, VISION_END, IMAGE, VIDEO, VOCABULARY = range(256, 263)

PATCH = 14  # pixels
MERGE = 2  # x MERGE patches make one visual token


def main() -> None:
    model = build()
    photo = Image.effect_mandelbrot((480, 360), (-2.1, -1.2, 1.1, 1.2), 60).convert("RGB")
    inputs = prompt(photo, "Where is the largest disc?", visual_tokens=500)
    read = prefill(model, inputs)
    layers = aircache_ext.compress_layers(
        read.keys, read.values, read.q_windows, visual=read.visual, retention=0.1
    )
    keys, values = [layer.keys for layer in layers], [layer.values for layer in layers]
    answer, _ = decode(model, read, keys, values, tokens=8)

    visual, text = int(read.visual.sum()), int((~read.visual).sum())
    kept = [key.shape[2] - text for key in keys]
    print(f"visual tokens: {visual} in each layer -> {kept}; {text} of text stay")
    print(f"then {len(answer)} tokens were said over them")
    assert sum(kept) == int(0.1 * len(keys) * visual + 0.5)


def build(layers: int = 4, seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """The model: 8 query heads over 4 KV heads of 64, in fp32 on the CPU."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 512,
            "intermediate_size": 1024,
            "num_hidden_layers": layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [8, 12, 12],
            },
            "bos_token_id": IM_START,
            "eos_token_id": IM_END,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 512,
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    # The default initialisation (std 0.02 everywhere) attends almost uniformly in a model this
    # narrow, and then no token is worth more than another. Fan-in scaling keeps activations at unit
    # size; larger queries make the heads look at something, as trained ones do.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                fan_in = 1 if "embed_tokens" in name else weight[0].numel()
                gain = 4.0 if "q_proj" in name else 1.0
                weight.normal_(0, gain * fan_in**-0.5)
    return model


def prompt(photo: Image.Image, question: str, visual_tokens: int) -> dict[str, Tensor]:
    """The model's inputs: ``photo`` as about ``visual_tokens`` tokens, then the question."""
    pixels = visual_tokens * (PATCH * MERGE) ** 2
    processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=MERGE, size={"shortest_edge": pixels, "longest_edge": pixels}
    )
    image = processor(images=photo, return_tensors="pt")
    image_tokens = int(image["image_grid_thw"].prod()) // MERGE**2
    ids = [IM_START, *b"user\n", VISION_START, *[IMAGE] * image_tokens, VISION_END]
    ids += [*question.encode(), IM_END, *b"\n", IM_START, *b"assistant\n"]
    input_ids = torch.tensor([ids])
    return {"input_ids": input_ids, "mm_token_type_ids": (input_ids == IMAGE).int(), **image}


@dataclass
class Prefill:
    """What reading a prompt of S tokens leaves behind; letters as in ``aircache_ext.ops``."""

    logits: Tensor  # [1, vocabulary], of the first token of the answer
    keys: list[Tensor]  # L x [1, Hkv, S, D]
    values: list[Tensor]  # L x [1, Hkv, S, D]
    q_windows: list[Tensor]  # L x [1, Hq, W, D], rotated, of the instruction
    visual: Tensor  # [1, S] bool
    next_position: int  # of the first token of the answer: less than S, an image shares positions


class _RecordQueries:
    """The model's own attention, which also keeps the last ``window`` queries of every layer.

    The queries arrive here as the attention uses them, after the rotary embedding: recomputing them
    from hidden states would have to repeat what every architecture does differently.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.queries: list[Tensor] = []

    def __call__(self, module, query, key, value, attention_mask, **options):
        self.queries.append(query[:, :, -self.window :].clone())  # a view would keep all of them
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


@torch.inference_mode()
def prefill(model: Qwen2_5_VLForConditionalGeneration, inputs: dict[str, Tensor]) -> Prefill:
    """Reads the whole prompt and records the queries of all that follows the image."""
    visual = inputs["input_ids"] == IMAGE
    window = int(visual[0].flip(0).int().argmax())  # text tokens after the last visual one
    record = _RecordQueries(window)
    AttentionInterface.register("record_queries", record)
    # A name without a mask function would get no mask at all, a padded batch included.
    AttentionMaskInterface.register("record_queries", sdpa_mask)

    model.set_attn_implementation({"text_config": "record_queries", "vision_config": "sdpa"})
    output = model(**inputs, use_cache=True, logits_to_keep=1)
    model.set_attn_implementation({"text_config": "sdpa", "vision_config": "sdpa"})

    layers = output.past_key_values.layers
    return Prefill(
        logits=output.logits[:, -1],
        keys=[layer.keys for layer in layers],
        values=[layer.values for layer in layers],
        q_windows=record.queries,
        visual=visual,
        next_position=visual.shape[1] + int(model.model.rope_deltas),
    )


@torch.inference_mode()
def decode(
    model: Qwen2_5_VLForConditionalGeneration,
    read: Prefill,
    keys: Sequence[Tensor],  # L x [1, Hkv, S_l, D]
    values: Sequence[Tensor],  # L x [1, Hkv, S_l, D]
    tokens: int,
    forced: Tensor | None = None,  # [tokens]: fed in place of the model's own choices
) -> tuple[Tensor, Tensor]:  # [tokens] ids, [tokens, vocabulary] logits
    """Answers greedily over caches whose layers may differ in length.

    A shorter cache changes two things. Positions can no longer be told from its length: they are
    given explicitly, and go on where the prompt ended. And one mask cannot fit all layers: one
    token of one prompt needs none, it may read everything that a layer kept.
    """
    cache = DynamicCache(config=model.config)
    for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
        cache.update(key, value, layer)

    logits, ids = [read.logits], []
    for step in range(tokens):
        ids.append(logits[-1].argmax(-1) if forced is None else forced[step : step + 1])
        position = torch.full((3, 1, 1), read.next_position + step)  # time, height, width
        output = model(input_ids=ids[-1][:, None], position_ids=position, past_key_values=cache)
        logits.append(output.logits[:, -1])
    return torch.cat(ids), torch.cat(logits[:tokens])


if __name__ == "__main__":
    main()
