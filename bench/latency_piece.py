"""One piece of the latency table: a model reads a prompt and answers, over one kind of cache.

    python bench/latency_piece.py '{"setup": {...}, "piece": {...}}'

prints its row as JSON; ``latency.py`` calls it. The model has a real one's shape and random
weights: time and memory do not follow what the weights say. Greedy decoding is a loop of our own
over the model's forward, alike for all caches and without what ``generate`` does between steps.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import (
    AutoModelForCausalLM,
    CompileConfig,
    DynamicCache,
    PreTrainedModel,
    Qwen2Config,
    StaticCache,
)

from aircache_ext.hf import CompressedCache
from cases import DTYPES
from timing import Timing

THEIRS = ("transformers dynamic", "transformers static")
OURS = ("ours dynamic", "ours static")
FORMS = THEIRS + OURS
WARM_UPS = 4  # steps before those that are timed: a compiled one is traced, then recorded
FEW_STEPS = 2  # of a piece that only asks whether it fits
MEASURED, OUT_OF_MEMORY = "measured", "out of memory"


@dataclass(frozen=True)
class Geometry:
    """Of a Qwen2 text model; its embeddings are not tied."""

    layers: int
    query_heads: int
    kv_heads: int
    hidden: int
    intermediate: int
    vocabulary: int

    @property
    def head_dim(self) -> int:
        return self.hidden // self.query_heads

    def config(self) -> Qwen2Config:
        return Qwen2Config(
            num_hidden_layers=self.layers,
            num_attention_heads=self.query_heads,
            num_key_value_heads=self.kv_heads,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            vocab_size=self.vocabulary,
            attn_implementation="sdpa",
        )


@dataclass(frozen=True)
class Setup:
    """What all pieces share. A prompt is text, visual tokens, and the instruction."""

    geometry: Geometry
    dtype: str
    device: str
    text_before: int
    instruction: int
    new_tokens: int
    repeats: int  # of the prefill

    @property
    def text(self) -> int:
        return self.text_before + self.instruction

    @property
    def room(self) -> int:
        """Tokens behind the prompt for which a static cache has place."""
        return WARM_UPS + self.new_tokens


@dataclass(frozen=True)
class Piece:
    form: str  # of FORMS
    keep: float  # share of the visual tokens
    batch: int
    visual: int  # tokens
    only_fits: bool = False  # only a few steps of the answer, to see whether there is memory


def measure(setup: Setup, piece: Piece) -> dict[str, object]:
    try:
        return {"result": MEASURED} | _measure(setup, piece)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {"result": OUT_OF_MEMORY}


def is_out_of_memory(error: RuntimeError) -> bool:
    """Of torch's allocators, or of the driver while a graph is recorded."""
    texts = ("out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(x in str(error) for x in texts)


@torch.no_grad()
def _measure(setup: Setup, piece: Piece) -> dict[str, object]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    counters.clear()
    model = build(setup)
    steps = min(FEW_STEPS, setup.new_tokens) if piece.only_fits else setup.new_tokens
    # The first warms up.
    reads = [] if piece.only_fits else [_run(setup, piece, model, 0) for _ in range(setup.repeats)]
    run = _run(setup, piece, model, steps)
    reads = [*reads[1:], run]
    compiled = _compiles(piece)
    return {
        "prefill": Timing([read["prefill_s"] for read in reads]).to_json(),
        "compression": None
        if piece.form in THEIRS
        else Timing([read["compression_s"] for read in reads]).to_json(),
        "decode": Timing(run["steps_s"]).to_json(),
        "decode_s": sum(run["steps_s"]),
        "tokens_per_s": piece.batch * steps / sum(run["steps_s"]),
        "warm_ups_s": run["warm_ups_s"],
        "compiled": compiled,
        # A step that is not fit for a graph is run without one, and inductor counts it.
        "graphs": compiled
        and setup.device == "cuda"
        and counters["inductor"]["cudagraph_skips"] == 0,
        "prefill_peak_bytes": run["prefill_peak_bytes"],
        "decode_peak_bytes": run["decode_peak_bytes"],
        "cache_bytes": run["cache_bytes"],
    }


def build(setup: Setup) -> PreTrainedModel:
    with torch.device(setup.device):  # 15 GB are neither drawn on a CPU nor sent from there
        config = setup.geometry.config()
        return AutoModelForCausalLM.from_config(config, dtype=DTYPES[setup.dtype]).eval()


def _run(setup: Setup, piece: Piece, model: PreTrainedModel, steps: int) -> dict[str, Any]:
    """Reads the prompt; gives an answer, if it has ``steps``. All it held is free afterwards."""
    device = torch.device(setup.device)
    length = setup.text + piece.visual
    shape = (piece.batch, length)
    tokens = torch.randint(setup.geometry.vocabulary, shape, device=device)
    visual = torch.zeros(shape, dtype=torch.bool, device=device)
    visual[:, setup.text_before : setup.text_before + piece.visual] = True
    with _open_cache(setup, piece, model, visual) as cache:
        _forget_peak(device)
        marks = [_mark(device)]
        output = model(input_ids=tokens, past_key_values=cache, logits_to_keep=1)
        token = output.logits.argmax(-1)  # [batch, 1]
        del output
        marks.append(_mark(device))
        (prefill,) = _seconds(marks)
        compression = cache.report().seconds if isinstance(cache, CompressedCache) else 0.0
        read = {"prefill_s": prefill - compression, "compression_s": compression}
        if not steps:
            return read
        read["prefill_peak_bytes"] = _peak(device)
        _forget_peak(device)
        step = _step(piece, model, device)
        marks = [_mark(device)]
        for count in range(WARM_UPS + steps):
            position = torch.full_like(token, length + count)
            output = step(input_ids=token, position_ids=position, past_key_values=cache)
            token = output.logits.argmax(-1)
            marks.append(_mark(device))
        took = _seconds(marks)
        return read | {
            "warm_ups_s": sum(took[:WARM_UPS]),
            "steps_s": took[WARM_UPS:],
            "decode_peak_bytes": _peak(device),
            "cache_bytes": sum(
                states.untyped_storage().nbytes()
                for layer in cache.layers
                for states in (layer.keys, layer.values)
            ),
        }


@contextmanager
def _open_cache(
    setup: Setup, piece: Piece, model: PreTrainedModel, visual: Tensor
) -> Iterator[DynamicCache | StaticCache | CompressedCache]:
    if piece.form == "transformers dynamic":
        yield DynamicCache(config=model.config)
    elif piece.form == "transformers static":
        yield StaticCache(config=model.config, max_cache_len=visual.shape[1] + setup.room)
    else:
        room = setup.room if piece.form == "ours static" else None
        with CompressedCache(
            model, retention=piece.keep, visual=visual, max_new_tokens=room
        ) as cache:
            yield cache


def _compiles(piece: Piece) -> bool:
    return piece.form.endswith("static")


def _step(piece: Piece, model: PreTrainedModel, device: torch.device) -> Callable[..., Any]:
    """Compiled the way ``generate`` compiles it; a CPU has no graphs and only traces."""
    if not _compiles(piece):
        return model
    on_cpu = {"backend": "aot_eager", "mode": None} if device.type == "cpu" else {}
    return model.get_compiled_call(CompileConfig(fullgraph=True, **on_cpu))


def _mark(device: torch.device) -> Any:
    """A point in time. On a GPU in its own time: nothing waits."""
    if device.type == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(marks: list[Any]) -> list[float]:
    if isinstance(marks[0], float):
        return [end - start for start, end in pairwise(marks)]
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in pairwise(marks)]


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(device: torch.device) -> int | None:
    """The most that was allocated, weights included; a CPU does not count."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else None


def main() -> None:
    asked = json.loads(sys.argv[1])
    geometry = Geometry(**asked["setup"].pop("geometry"))
    print(json.dumps(measure(Setup(geometry, **asked["setup"]), Piece(**asked["piece"]))))


if __name__ == "__main__":
    main()
