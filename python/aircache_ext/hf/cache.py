"""A transformers cache that drops the visual tokens which a method does not keep."""

from __future__ import annotations

import time
import warnings
import weakref
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from aircache_ext import _checks
from aircache_ext._compress import method_or_aircache
from aircache_ext.hf import switch
from aircache_ext.hf.evict import evict
from aircache_ext.hf.layer import CompressedLayer
from aircache_ext.hf.observe import observe
from aircache_ext.hf.reading import Reading, as_rows
from aircache_ext.hf.report import Report
from aircache_ext.hf.static import AnyLayer, SettlingCache
from aircache_ext.hf.template import tokens_after_question
from aircache_ext.hf.turn import Turn
from aircache_ext.hf.visual import padding_of_prepared
from aircache_ext.methods import Amount, Method
from aircache_ext.ops import BudgetMode, Heads

SHORT_INSTRUCTION = 4  # tokens


class CompressedCache(SettlingCache):
    """Give it to ``generate`` or to the model as ``past_key_values``, one for each conversation.

    A turn is compressed at the end of the first forward that holds text after its last visual
    token, in every row that has visual tokens. Only ``prompt_length`` can tell that a prompt
    arrives in several forwards and that one of them ended inside the instruction or between two
    images. A later turn compresses what it brought itself, as if it stood alone: nothing else is
    scored, and text and survivors of earlier turns stay.

    The model attends through this package while the cache is open: until ``close()``, the end of a
    ``with`` block, or garbage collection. Then it is what it was, and the cache can no longer be
    used. Layers without full attention (sliding, linear, shared) are left alone.

    Args:
        model: a vision-language model of transformers. Any other model with a text decoder works if
            ``visual`` is given.
        retention: share of each row's visual tokens that stays over all layers, in (0, 1]. Default
            0.1. Of all its tokens, if the method evicts text.
        budget: instead of ``retention``: visual tokens per layer on average, an int or an integer
            tensor ``[batch]``.
        method: what decides which tokens stay, one of :mod:`aircache_ext.methods`. Default:
            ``AirCache``. With ``evict_text=True`` it evicts text of turns that bring visual tokens.
        alpha, heads, budget_mode: those of ``AirCache``, where no method is given.
        max_window: queries that are kept while a turn is read, at most, the last ones: of the
            instruction, if the method listens to that.
        prompt_length: tokens of the prompt, padding included. Needed for chunked prefill, for
            assisted decoding, and nowhere else.
        visual: ``[batch, length]`` bool, True where a token is visual, counted from the first token
            seen. Default: told by the model's inputs. Needed with ``inputs_embeds`` alone. It can
            be set again for a later turn: ``cache.visual = ...``.
        processor: what made the inputs. It tells how many of a prompt's last tokens are the chat
            template's, so that a question asked before the picture is warned about.
        max_new_tokens: as for ``generate``. Chooses the static form, see
            :mod:`aircache_ext.hf.static`: behind each prompt the layers have room for so many
            tokens and no longer grow.

    Raises:
        ValueError, TypeError: naming the argument, what it is and what is needed.
    """

    def __init__(
        self,
        model: Any,
        *,
        retention: float | None = None,
        budget: int | Tensor | None = None,
        method: Method | None = None,
        alpha: float = 0.9,
        heads: Heads = "shared",
        budget_mode: BudgetMode = "strength+skewness",
        max_window: int = 128,
        prompt_length: int | None = None,
        visual: Tensor | None = None,
        processor: Any = None,
        max_new_tokens: int | None = None,
    ) -> None:
        _check_visual(visual)
        rows, device = 1, torch.device("cpu")
        if isinstance(budget, Tensor):
            device = budget.device
            if budget.dim() > 0:  # [batch], whatever batch is: only the first forward tells
                rows = max(len(budget), 1)
        _checks.check_amount(retention, budget, rows, device)
        _checks.check_count("max_window", max_window)
        self._method = method_or_aircache(method, alpha=alpha, heads=heads, budget_mode=budget_mode)
        needed = max(self._method.window_size or 0, self._method.window(0) or 0)
        if needed > max_window:  # whatever the instruction is
            raise ValueError(
                f"max_window is {max_window} but must be at least {needed}: {self._method} needs "
                "the queries of so many tokens"
            )
        # To the instruction: where there is none, nobody judges.
        self._listens = self._method.window(0) == 0 and self._method.window(1) != 0
        self._max_window = max_window
        if prompt_length is not None:
            _checks.check_count("prompt_length", prompt_length)
        if max_new_tokens is not None:
            _checks.check_count("max_new_tokens", max_new_tokens)
        self._amount = Amount(retention, budget)
        self._switch = switch.acquire(model)
        self._close = weakref.finalize(self, self._switch.release)
        self._open = True
        layers = DynamicCache(config=self._switch.text_config).layers
        super().__init__(
            [CompressedLayer() if type(x) is DynamicLayer else x for x in layers], max_new_tokens
        )
        if not self._compressible:
            self.close()
            raise ValueError(
                f"model is a {type(model).__name__} without a full-attention layer, and no other "
                "kind can be compressed"
            )
        self._reading = Reading(self._switch.config, prompt_length, visual)
        self._template = 0 if processor is None else tokens_after_question(processor)
        self._warned: set[str] = set()
        self._start_over()

    def _start_over(self) -> None:
        self._reading.start_over()
        self._protected = 0  # tokens up to here cannot be cropped: some of them are gone, or static
        self._seconds = 0.0
        self._allocated: tuple[int | None, int | None] = (None, None)

    @property
    def visual(self) -> Tensor | None:
        """``[batch, length]`` bool as the user gave it; None: the model's inputs tell."""
        return self._reading.visual

    @visual.setter
    def visual(self, visual: Tensor | None) -> None:
        _check_visual(visual)
        self._reading.visual = visual

    # ---- the model's side ----------------------------------------------------------------------

    def _begin(self, inputs: dict[str, Any]) -> None:
        """A forward with these arguments is about to read its tokens."""
        tokens = inputs.get("input_ids")
        new = (inputs["inputs_embeds"] if tokens is None else tokens).shape[1]
        if self._is_static and new == 1:  # an answer's step
            self._take_room()
            self._reading.begin_step()  # asks nothing of the device
        else:
            self._begin_reading(inputs)

    @torch.compiler.disable(reason="a prompt is read, only the steps of an answer are one graph")
    def _begin_reading(self, inputs: dict[str, Any]) -> None:
        self._loosen()
        if self._max_new_tokens is not None:
            inputs = inputs | {"attention_mask": padding_of_prepared(inputs.get("attention_mask"))}
        seen = int(self.get_seq_length())
        self._check_whole(seen)
        self._reading.begin(inputs, seen)
        if seen and self._reading.new == 1 and not self._reading.saw_visual:
            self._warn("no visual token was seen, so nothing is compressed")

    def _check_whole(self, seen: int) -> None:
        if any(layer.seen != seen for layer in self._growing()):
            raise RuntimeError(
                "the last forward failed on its way through the layers, which now hold different "
                "tokens: reset() the cache"
            )

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not (self._reading.under_way and self._switch.on and self._open):
            raise RuntimeError(
                "this CompressedCache cannot be read: it was closed, or it is used with another "
                "model than its own, or the model's attention implementation was changed since. "
                "Make a new one"
            )
        updated = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        layer = self.layers[layer_idx]
        if isinstance(layer, CompressedLayer) and self._reading.new_valid is not None:
            layer.mark_padding(self._reading.new_valid)
        return updated

    def _growing(self) -> list[CompressedLayer]:
        """The layers that can be compressed, while they are not static."""
        return [x for x in self._compressible.values() if isinstance(x, CompressedLayer)]

    def _layer_of(self, index: int, key: Tensor) -> AnyLayer | None:
        """Whose keys these are: the layer's with that index, or of one that it shares them with."""
        layer = self._compressible.get(index)
        if layer is None or layer.keys is not key:
            layer = next((x for x in self._compressible.values() if x.keys is key), None)
        return layer

    def _observe(self, index: int, query: Tensor, scaling: float | None) -> None:
        """``query`` ``[batch, query_heads, new, head_dim]`` is what the layer attends with."""
        layer = self._compressible.get(index)
        if not isinstance(layer, CompressedLayer):
            return  # it decodes, or shares the keys of another, which has queries of its own
        turn, take = self._reading.turn, self._reading.take
        if turn is None or take == 0:
            return
        layer.scaling = scaling
        observe(layer, query[:, :, :take].detach(), turn, self._method, self._max_window)

    def _end(self) -> None:
        """The text decoder is done with the forward."""
        turn = self._reading.finish()
        if not self._is_static:
            self._end_reading(turn)

    @torch.compiler.disable
    def _end_reading(self, turn: Turn | None) -> None:
        if turn is not None:
            self._evict(turn)
        elif self._protected and self._reading.turn is None:  # text alone
            self._settle()
        if self._reading.turn is None:
            for layer in self._growing():
                layer.forget()
        if self._is_static:
            self._protected = int(self.get_seq_length())

    # ---- the eviction --------------------------------------------------------------------------

    def _evict(self, turn: Turn) -> None:
        layers = self._growing()
        if len(turn.texts) < len(turn.visual) and not self._method.evict_text:
            self._warn("a row has no visual token and keeps all it has")
        if self._listens:
            self._warn_of_instructions(turn.texts)
            if turn.instruction == 0:
                return
        if any(layer.queries is None and layer.received is None for layer in layers):
            raise RuntimeError(
                f"the layers of {type(self._switch.text_config).__name__}'s decoder do not pass "
                "keyword arguments on to their attention function, which CompressedCache needs"
            )
        devices = {layer.keys.device for layer in layers}
        began, allocated = _clock(devices), _allocated(devices)
        amount = self._amount
        if isinstance(amount.budget, Tensor):
            rows = as_rows("budget", amount.budget, len(turn.visual))
            amount = amount._replace(budget=rows)
        evict(layers, turn, self._method, amount)
        del layers  # or it would hold what is moved
        self._settle()
        self._protected = turn.end
        self._seconds += _clock(devices) - began
        self._allocated = allocated, _allocated(devices)

    def _warn_of_instructions(self, texts: list[int]) -> None:
        if 0 in texts:
            self._warn("no text follows the last visual token of a row, which keeps all it has")
        if any(0 < text < self._template + SHORT_INSTRUCTION for text in texts):
            self._warn(
                f"fewer than {SHORT_INSTRUCTION} tokens of a question follow the last visual one: "
                "what is kept follows the chat template more than the question. Ask after the image"
            )

    # ---- the user's side -----------------------------------------------------------------------

    def report(self) -> Report:
        """What was seen and what is held, with one synchronisation."""
        layers = {i: x for i, x in self._compressible.items() if x.is_initialized}
        kept = {i: layer.validity().sum(1).tolist() for i, layer in layers.items()}
        seen = int(self.get_seq_length())
        batch = len(next(iter(kept.values()))) if kept else 0
        padding = self._reading.padding
        paddings = [0] * batch if padding is None else padding.tolist()
        before = sum(seen * _bytes(layer) // layer.slots for layer in layers.values())
        return Report(
            seen=[seen - padded for padded in paddings],
            kept=kept,
            bytes_before=before,
            bytes_after=sum(map(_bytes, layers.values())),
            seconds=self._seconds,
            allocated_before=self._allocated[0],
            allocated_after=self._allocated[1],
        )

    def close(self) -> None:
        """Gives the model back; nothing happens the second time."""
        self._open = False
        self._close()

    def __enter__(self) -> CompressedCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=2)

    # ---- what else a cache can do --------------------------------------------------------------

    def reset(self) -> None:
        super().reset()
        self._start_over()

    def crop(self, tokens_to_remove: int) -> None:
        """Removes the last ``-tokens_to_remove`` tokens.

        Raises:
            ValueError: the number is positive, or reaches into a prompt of which tokens are gone or
                have judged all others.
        """
        seen = int(self.get_seq_length())
        if tokens_to_remove > 0:
            raise ValueError(
                f"tokens_to_remove is {tokens_to_remove} but must be negative or 0: minus the "
                "number of tokens to remove"
            )
        left = seen + tokens_to_remove
        if left < self._protected:
            raise ValueError(
                f"tokens_to_remove is {tokens_to_remove} but only the last "
                f"{seen - self._protected} tokens can be removed: before them tokens were evicted "
                "or settled. For assisted decoding give CompressedCache prompt_length="
            )
        if seen == 0:
            return
        if self._is_static:  # an answer has neither padding nor queries to keep
            super().crop(tokens_to_remove)
            return
        layers, turn = self._growing(), self._reading.turn
        if turn is not None and turn.start < left < turn.end and layers[0].received is not None:
            raise ValueError(
                f"tokens_to_remove is {tokens_to_remove} but {turn.end - turn.start} tokens of a "
                "turn that is still read can only be removed together: each has judged the others "
                f"({self._method})"
            )
        held = layers[0].validity()
        lost = self._reading.crop(left, held[:, held.shape[1] + tokens_to_remove :])
        super().crop(tokens_to_remove)
        for layer in layers:
            if lost and layer.queries is not None:
                layer.queries = layer.queries[:, :, : max(layer.queries.shape[2] - lost, 0)]
            if lost:
                layer.received = None  # all of the turn is gone

    def activate_past_recording(self) -> None:
        """Assisted decoding announces itself: its first forward holds candidates of an answer."""
        if self._max_new_tokens is not None:
            raise ValueError(
                f"max_new_tokens is {self._max_new_tokens} but must be left out for assisted "
                "decoding, which takes tokens back at every step"
            )
        if self._reading.prompt_length is None and self.get_seq_length() == 0:
            raise ValueError(
                "assisted decoding reads the prompt and candidates of the answer in one forward: "
                "give CompressedCache prompt_length=, so that only the prompt is compressed"
            )
        super().activate_past_recording()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._reading.select_rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.get_seq_length():
            batch = len(next(iter(self._compressible.values())).keys)
            super().batch_repeat_interleave(repeats)
            self._reading.select_rows(torch.arange(batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._reading.select_rows(indices)


def _check_visual(visual: Tensor | None) -> None:
    if visual is None:
        return
    _checks.Shapes().check("visual", visual, ("batch", "length"))
    if visual.dtype != torch.bool:
        raise TypeError(f"visual is {visual.dtype} but must be torch.bool")


def _bytes(layer: AnyLayer) -> int:
    return sum(states.untyped_storage().nbytes() for states in (layer.keys, layer.values))


def _clock(devices: set[torch.device]) -> float:
    for gpu in _gpus(devices):
        torch.cuda.synchronize(gpu)
    return time.perf_counter()


def _allocated(devices: set[torch.device]) -> int | None:
    """Bytes on all GPUs together; None without one."""
    allocated = [torch.cuda.memory_allocated(gpu) for gpu in _gpus(devices)]
    return sum(allocated) if allocated else None


def _gpus(devices: set[torch.device]) -> list[torch.device]:
    return [device for device in devices if device.type == "cuda"]
