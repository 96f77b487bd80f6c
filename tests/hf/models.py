"""Small random models of every family, as data: configurations, and what an image is for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor

from aircache_ext.hf import next_positions

PAD, IMAGE, VIDEO, VISION_START, VISION_END, VOCABULARY = 0, 120, 121, 122, 123, 128
HIDDEN, LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM = 64, 3, 4, 2, 16

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": QUERY_HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 512,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
# A vision tower of one layer over `side` x `side` pixels.
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 4,
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
QWEN_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 1,
    "out_hidden_size": HIDDEN,
}


Pixels = Callable[[torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Family:
    """How to build a model and the pixels of one image; its tokens are asked of the model."""

    name: str
    model: str
    config: str
    settings: dict[str, Any]
    pixels: Pixels
    types: str | None = None  # the input that marks visual tokens, if the model needs one


def grid(generator: torch.Generator) -> dict[str, Tensor]:
    """Qwen's form: patches in a row and their grid; 6 x 8 patches are 12 tokens."""
    return {
        "pixel_values": torch.randn(48, 3 * 4 * 4, generator=generator),
        "image_grid_thw": torch.tensor([[1, 6, 8]]),
    }


def square(side: int, dims: int = 4, tiles: int = 1, **more: Any) -> Pixels:
    """``[1, 3, side, side]`` pixels, or with a dimension of tiles before the colours."""

    def pixels(generator: torch.Generator) -> dict[str, Tensor]:
        batch = [1, tiles] if dims == 5 else [1]
        values = torch.randn([*batch, 3, side, side], generator=generator)
        return {"pixel_values": values} | {k: torch.tensor(v) for k, v in more.items()}

    return pixels


def clip(**more: Any) -> dict[str, Any]:
    return (
        {"model_type": "clip_vision_model", "image_size": 16, "projection_dim": 32} | VISION | more
    )


def siglip(**more: Any) -> dict[str, Any]:
    return {"model_type": "siglip_vision_model", "image_size": 16} | VISION | more


QWEN_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
}


def qwen(name: str, prefix: str, text: dict[str, Any], vision: dict[str, Any]) -> Family:
    return Family(
        name,
        f"{prefix}ForConditionalGeneration",
        f"{prefix}Config",
        {"text_config": TEXT | text, "vision_config": QWEN_VISION | vision, **QWEN_IDS},
        grid,
        types="mm_token_type_ids",
    )


def llava(
    name: str, prefix: str, decoder: str, vision: dict[str, Any], pixels: Pixels, **more: Any
) -> Family:
    """The families that put a projected tower before a language model of its own type."""
    text_config = TEXT | {"model_type": decoder} | more.pop("text", {})
    settings = {"text_config": text_config, "vision_config": vision} | more
    return Family(name, f"{prefix}ForConditionalGeneration", f"{prefix}Config", settings, pixels)


GEMMA3_TEXT = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 16,
    "query_pre_attn_scalar": 8,
}
QWEN3_5_TEXT = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rope_parameters": MROPE | {"partial_rotary_factor": 1.0},
}
# A tower that reads 28 x 28 pixels as a base of 16 x 16 and tiles of it.
ANYRES = {"image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]], "vision_feature_layer": -1}

FAMILIES = {
    family.name: family
    for family in [
        qwen(
            "qwen2_5_vl",
            "Qwen2_5_VL",
            {"rope_parameters": MROPE},
            {"fullatt_block_indexes": [0], "window_size": 16},
        ),
        qwen(
            "qwen2_vl",
            "Qwen2VL",
            {"rope_parameters": MROPE},
            {"embed_dim": 32, "mlp_ratio": 1, "hidden_size": HIDDEN},
        ),
        qwen(
            "qwen3_vl",
            "Qwen3VL",
            {"rope_parameters": MROPE},
            {"deepstack_visual_indexes": [0], "num_position_embeddings": 64},
        ),
        qwen("qwen3_5", "Qwen3_5", QWEN3_5_TEXT, {"num_position_embeddings": 64}),
        qwen(
            "glm4v",
            "Glm4v",
            {"rope_parameters": MROPE | {"partial_rotary_factor": 1.0}},
            {"image_size": 32, "hidden_size": 32, "attention_bias": False},
        ),
        llava(
            "llava",
            "Llava",
            "llama",
            clip(),
            square(16),
            image_token_index=IMAGE,
            vision_feature_layer=-1,
        ),
        llava(
            "llava_next",
            "LlavaNext",
            "mistral",
            clip(),
            square(16, dims=5, tiles=3, image_sizes=[[16, 32]]),
            text={"sliding_window": None},
            image_token_index=IMAGE,
            **ANYRES,
        ),
        llava(
            "llava_onevision",
            "LlavaOnevision",
            "qwen2",
            siglip(),
            square(16, dims=5, tiles=3, image_sizes=[[16, 32]]),
            image_token_index=IMAGE,
            video_token_index=VIDEO,
            vision_aspect_ratio="anyres_max_9",
            **ANYRES,
        ),
        llava(
            "internvl",
            "InternVL",
            "qwen2",
            VISION
            | {"image_size": [16, 16], "patch_size": [4, 4], "model_type": "internvl_vision"},
            square(16),
            image_token_id=IMAGE,
            image_seq_length=4,
        ),
        llava(
            "idefics3",
            "Idefics3",
            "llama",
            VISION | {"image_size": 16, "model_type": "idefics3_vision"},
            square(16, dims=5),
            image_token_id=IMAGE,
            scale_factor=1,
            pad_token_id=PAD,
        ),
        llava(
            "smolvlm",
            "SmolVLM",
            "llama",
            VISION | {"image_size": 16, "model_type": "smolvlm_vision"},
            square(16, dims=5),
            image_token_id=IMAGE,
            scale_factor=1,
            pad_token_id=PAD,
        ),
        llava(
            "mistral3",
            "Mistral3",
            "mistral",
            VISION | {"model_type": "pixtral", "image_size": 16, "head_dim": 16},
            square(16, image_sizes=[[16, 16]]),
            text={"sliding_window": None},
            image_token_index=IMAGE,
            spatial_merge_size=1,
            vision_feature_layer=-1,
        ),
        replace(
            llava(
                "gemma3",
                "Gemma3",
                "gemma3_text",
                siglip(),
                square(16),
                text=GEMMA3_TEXT,
                image_token_index=IMAGE,
                mm_tokens_per_image=16,
            ),
            types="token_type_ids",
        ),
        replace(
            llava(
                "paligemma",
                "PaliGemma",
                "gemma",
                siglip(projection_dim=HIDDEN),
                square(16),
                image_token_index=IMAGE,
                projection_dim=HIDDEN,
            ),
            types="token_type_ids",
        ),
    ]
}


@cache
def build(name: str, attention: str = "sdpa", seed: int = 0) -> Any:
    """The model, fp32, on the CPU. Shared by tests: leave it as it was."""
    family = FAMILIES[name]
    config = getattr(transformers, family.config)(**family.settings, tie_word_embeddings=False)
    torch.manual_seed(seed)
    model = getattr(transformers, family.model)._from_config(config, attn_implementation=attention)
    peak(model)
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = VOCABULARY - 1  # which it never says
    return model.eval()


@torch.no_grad()
def peak(model: Any) -> None:
    """Weights of unit gain, and larger queries: the default ones would attend uniformly, and no
    token would be worth more than another."""
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            fan_in = 1 if "embed" in name else weight[0].numel()
            gain = 2.0 if "q_proj" in name else 0.25 if "lm_head" in name else 1.0
            weight.normal_(0, gain * fan_in**-0.5)
    model.lm_head.weight[IMAGE:] = 0  # it does not speak in placeholders


@dataclass
class Prompt:
    """One row of a batch: text is a number of random tokens, an image is ``"image"``."""

    parts: tuple[int | str, ...]
    seed: int = 0


def question(seed: int = 0) -> Prompt:
    """An image and eight tokens about it."""
    return Prompt((3, "image", 8), seed)


def inputs(name: str, *prompts: Prompt) -> dict[str, Tensor]:
    """What a processor would make of the prompts: left-padded ids, pixels, the family's types."""
    family, model = FAMILIES[name], build(name)
    rows, pixels = [], []
    for prompt in prompts:
        generator = torch.Generator().manual_seed(prompt.seed)
        row: list[int] = []
        for part in prompt.parts:
            if part == "image":
                pixels.append(family.pixels(generator))
                row += [IMAGE] * image_tokens(model, pixels[-1])
            else:
                row += torch.randint(2, 100, (part,), generator=generator).tolist()
        rows.append(row)
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    made = {"input_ids": ids, "attention_mask": mask}
    if family.types is not None:
        made[family.types] = (ids == IMAGE).long()
    for key in pixels[0] if pixels else ():
        made[key] = torch.cat([p[key] for p in pixels])
    return made


def image_tokens(model: Any, pixels: dict[str, Tensor]) -> int:
    with torch.no_grad():
        features = model.get_image_features(**pixels).pooler_output
    return sum(f.shape[:-1].numel() for f in features)


def follow(model: Any, mask: Tensor, turn: dict[str, Tensor], past: Any) -> dict[str, Tensor]:
    """The arguments of a plain forward over ``turn`` that follows what ``mask`` ``[batch, seen]``
    covers, with the positions that the whole conversation would have."""
    new = turn["input_ids"].shape[1]
    mask = torch.cat([mask, turn["attention_mask"]], 1)
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
    if "image_grid_thw" in turn:
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw")
        asked = {name: turn[name] for name in names}
        position = next_positions(model, past, **asked, attention_mask=mask)
    elif getattr(model.model, "rope_deltas", None) is not None:
        position = (position + model.model.rope_deltas).expand(3, -1, -1)
    return turn | {"attention_mask": mask, "position_ids": position}


def text(batch: int, new: int, seed: int = 0) -> dict[str, Tensor]:
    """A turn of random text."""
    ids = torch.randint(2, 100, (batch, new), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
