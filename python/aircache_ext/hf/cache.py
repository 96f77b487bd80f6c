"""A transformers cache that drops the visual tokens which the instruction does not look at."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from aircache_ext import _checks
from aircache_ext._compress import kept_tokens
from aircache_ext.hf import switch
from aircache_ext.hf.layer import CompressedLayer
from aircache_ext.hf.report import Report
from aircache_ext.hf.turn import Turn
from aircache_ext.hf.visual import valid_tokens, visual_tokens
from aircache_ext.ops import BudgetMode, Heads

SHORT_INSTRUCTION = 4  # tokens


class CompressedCache(Cache):
    """Give it to ``generate`` or to the model as ``past_key_values``, one for each conversation.

    A turn is compressed at the end of the first forward that holds text after its last visual
    token, in every row that has visual tokens. Only ``prompt_length`` can tell that a prompt
    arrives in several forwards and that one of them ended inside the instruction or between two
    images. A later turn compresses the visual tokens that it brought; all text and the survivors of
    earlier turns stay.

    The model attends through this package while the cache is open: until ``close()``, the end of a
    ``with`` block, or garbage collection. Then it is what it was, and the cache can no longer be
    used. Layers without full attention (sliding, linear, shared) are left alone.

    Args:
        model: a vision-language model of transformers. Any other model with a text decoder works if
            ``visual`` is given.
        retention: share of each row's visual tokens that stays over all layers, in (0, 1]. Default
            0.1.
        budget: instead of ``retention``: visual tokens per layer on average, an int or an integer
            tensor ``[batch]``.
        alpha: elite threshold in [0, 1] (Eq. 5); 0 takes the whole instruction.
        heads: ``"shared"`` or ``"per_kv_head"``: one set of tokens for all KV heads, or one each.
        budget_mode: what the layers' shares follow, as in ``compress_layers``.
        max_window: instruction tokens that are listened to, the last ones; their queries are kept
            while a turn is read.
        prompt_length: tokens of the prompt, padding included. Needed for chunked prefill, for
            assisted decoding, and nowhere else.
        visual: ``[batch, length]`` bool, True where a token is visual, counted from the first token
            seen. Default: told by the model's inputs. Needed with ``inputs_embeds`` alone. It can
            be set again for a later turn: ``cache.visual = ...``.

    Raises:
        ValueError, TypeError: naming the argument, what it is and what is needed.
    """

    def __init__(
        self,
        model: Any,
        *,
        retention: float | None = None,
        budget: int | Tensor | None = None,
        alpha: float = 0.9,
        heads: Heads = "shared",
        budget_mode: BudgetMode = "strength+skewness",
        max_window: int = 128,
        prompt_length: int | None = None,
        visual: Tensor | None = None,
    ) -> None:
        rows, device = (len(budget), budget.device) if isinstance(budget, Tensor) else (1, None)
        _checks.check_amount(retention, budget, rows, device or torch.device("cpu"))
        _checks.check_alpha(alpha)
        _checks.check_heads(heads)
        _checks.check_budget_mode(budget_mode)
        _checks.check_count("max_window", max_window)
        if prompt_length is not None:
            _checks.check_count("prompt_length", prompt_length)
        self._options = {
            "retention": retention,
            "alpha": alpha,
            "heads": heads,
            "budget_mode": budget_mode,
        }
        self._budget = budget
        self.max_window = max_window
        self.prompt_length = prompt_length
        self.visual = visual

        self._switch = switch.acquire(model)
        self._close = weakref.finalize(self, self._switch.release)
        layers = DynamicCache(config=self._switch.text_config).layers
        super().__init__(
            layers=[CompressedLayer() if type(x) is DynamicLayer else x for x in layers]
        )
        if not self._compressible:
            self.close()
            raise ValueError(
                f"model is a {type(model).__name__} without a full-attention layer, and no other "
                "kind can be compressed"
            )
        self._warned: set[str] = set()
        self._start_over()

    def _start_over(self) -> None:
        self._reading = False  # a forward is under way
        self._new_valid: Tensor | None = None  # [batch, new], of its tokens; None if all are
        self._take = 0  # how many of its tokens belong to the turn
        self._window = 0  # queries to keep of the turn's end
        self._ready = False  # whether the turn is over with this forward
        self._turn: Turn | None = None
        self._protected = 0  # tokens up to here cannot be cropped: some of them are gone
        self._padding: Tensor | None = None  # [batch], padding tokens seen
        self._seconds = 0.0
        self._allocated: tuple[int | None, int | None] = (None, None)

    # ---- the model's side ----------------------------------------------------------------------

    @property
    def _compressible(self) -> dict[int, CompressedLayer]:
        """By layer index."""
        return {i: x for i, x in enumerate(self.layers) if isinstance(x, CompressedLayer)}

    def _begin(self, inputs: Mapping[str, Any]) -> None:
        """A forward with these arguments is about to read its tokens."""
        ids, embeds = inputs.get("input_ids"), inputs.get("inputs_embeds")
        tokens: Tensor = ids if ids is not None else embeds  # [batch, new, ...]
        batch, new = tokens.shape[:2]
        seen = self.get_seq_length()
        valid = valid_tokens(inputs, batch, new, tokens.device)
        visual = self._visual(inputs, seen, batch, new, tokens.device)
        some_visual, some_padding = torch.stack([visual.any(), ~valid.all()]).tolist()
        self._reading = True
        self._new_valid = valid if some_padding else None
        if some_padding:
            padding = (~valid).sum(1)
            self._padding = padding if self._padding is None else self._padding + padding

        if self._turn is None and some_visual:
            self._turn = Turn(seen, visual[:, :0], valid[:, :0])
        if self._turn is None:
            self._take = self._window = 0
            if new == 1 and seen and not self._protected:
                self._warn("no visual token was seen, so nothing is compressed")
            return
        end = seen + new
        within_prompt = self.prompt_length is not None and self._turn.start < self.prompt_length
        if within_prompt:
            end = min(end, self.prompt_length)
        self._take = max(end - seen, 0)
        self._turn.append(visual[:, : self._take], valid[:, : self._take])
        instruction = self._turn.instruction_lengths()
        self._window = min(max(tokens for tokens, _ in instruction), self.max_window)
        if within_prompt:
            self._ready = self._turn.end == self.prompt_length
        else:
            texts = [text for _, text in instruction if text >= 0]
            self._ready = bool(texts) and all(texts)

    def _visual(
        self, inputs: Mapping[str, Any], seen: int, batch: int, new: int, device: torch.device
    ) -> Tensor:
        """``[batch, new]`` bool: what the user said, and for tokens after that what the inputs do."""
        told = visual_tokens(self._switch.config, inputs, seen, new)
        if self.visual is None:
            if told is None:
                raise ValueError(
                    "which tokens are visual cannot be told: the model was called without "
                    "input_ids and mm_token_type_ids, or its configuration names no image_token_id "
                    "or video_token_id. Give CompressedCache visual=, [batch, length] bool"
                )
            return told
        if told is None:
            told = torch.zeros(batch, new, dtype=torch.bool, device=device)
        given = _as_rows("visual", self.visual, batch)[:, seen : seen + new].to(device)
        return torch.cat([given, told[:, given.shape[1] :]], 1)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not (self._reading and self._switch.on and self._close.alive):
            raise RuntimeError(
                "this CompressedCache cannot be read: it was closed, or it is used with another "
                "model than its own, or the model's attention implementation was changed since. "
                "Make a new one"
            )
        updated = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        layer = self.layers[layer_idx]
        if isinstance(layer, CompressedLayer) and self._new_valid is not None:
            layer.mark_padding(self._new_valid)
        return updated

    def observe(self, layer: CompressedLayer, query: Tensor, scaling: float | None) -> None:
        """``query`` ``[batch, query_heads, new, head_dim]`` is what the layer attends with."""
        if self._window == 0 or self._take == 0:
            return
        query = query[:, :, : self._take][:, :, -self._window :]
        if layer.queries is not None:
            query = torch.cat([layer.queries, query], 2)[:, :, -self._window :]
        layer.queries = query.detach().clone()  # a view would keep all of the prompt's
        layer.scaling = scaling

    def _end(self) -> None:
        """The text decoder is done with the forward."""
        self._reading = False
        if self._turn is not None and self._ready:
            turn, self._turn = self._turn, None
            self._ready = False
            self._evict(turn)

    # ---- the eviction --------------------------------------------------------------------------

    def _evict(self, turn: Turn) -> None:
        layers = list(self._compressible.values())
        texts = [text for _, text in turn.instruction_lengths()]
        if -1 in texts:
            self._warn("a row has no visual token and keeps all it has")
        if 0 in texts:
            self._warn("no text follows the last visual token of a row, which keeps all it has")
        if any(0 < text < SHORT_INSTRUCTION for text in texts):
            self._warn(
                f"fewer than {SHORT_INSTRUCTION} tokens follow the last visual one: what is kept "
                "follows the chat template more than the question. Ask after the image"
            )
        if self._window == 0:
            return
        if any(layer.queries is None for layer in layers):
            raise RuntimeError(
                f"the layers of {type(self._switch.text_config).__name__}'s decoder do not pass "
                "keyword arguments on to their attention function, which CompressedCache needs"
            )
        device = layers[0].keys.device
        began, allocated = _clock(device), _allocated(device)
        self._drop(layers, *self._choose(layers, turn), turn)
        self._protected = turn.end
        self._seconds += _clock(device) - began
        self._allocated = allocated, _allocated(device)

    def _choose(self, layers: list[CompressedLayer], turn: Turn) -> tuple[list[Tensor], Tensor]:
        """The turn's positions that stay, as ``ops.select`` gives them."""
        spans = [_slots_of(layer, turn) for layer in layers]
        device = layers[0].keys.device
        batch = layers[0].keys.shape[0]
        budget = self._budget
        if isinstance(budget, Tensor):
            budget = _as_rows("budget", budget, batch).to(device)
        queries = [layer.queries for layer in layers]
        for layer in layers:
            layer.queries = None
        return kept_tokens(
            [layer.keys[:, :, span] for layer, span in zip(layers, spans, strict=True)],
            [query for query in queries if query is not None],
            visual=turn.visual.to(device),
            valid=turn.valid.to(device),
            scale=layers[0].scaling,
            budget=budget,
            capacity=None,
            slots=None,
            **self._options,
        )

    def _drop(
        self, layers: list[CompressedLayer], indices: list[Tensor], counts: Tensor, turn: Turn
    ) -> None:
        """Layer by layer, so that no more than one of them exists twice."""
        keeps = []
        for layer, index in zip(layers, indices, strict=True):
            span = _slots_of(layer, turn)
            keep = layer.validity()[:, None].repeat(1, index.shape[1], 1)  # [batch, heads, slots]
            # -1 stands for nothing and falls into a slot of its own.
            chosen = keep.new_zeros(*keep.shape[:2], turn.length + 1)
            chosen.scatter_(2, index.masked_fill(index < 0, turn.length), True)
            keep[:, :, span] = chosen[..., :-1]
            keeps.append(keep)
        kept = torch.stack([keep[:, 0].sum(1) for keep in keeps])  # [layers, batch]
        bounds = torch.stack([kept.amin(1), kept.amax(1)], 1).tolist()
        for layer, keep, (least, most) in zip(layers, keeps, bounds, strict=True):
            layer.evict(keep, most, least == most)

    # ---- the user's side -----------------------------------------------------------------------

    def report(self) -> Report:
        """What was seen and what is held, with one synchronisation."""
        layers = {i: x for i, x in self._compressible.items() if x.is_initialized}
        kept = {i: layer.validity().sum(1).tolist() for i, layer in layers.items()}
        seen = self.get_seq_length()
        batch = len(next(iter(kept.values()))) if kept else 0
        padding = [0] * batch if self._padding is None else self._padding.tolist()
        before = sum(seen * _bytes(layer) // layer.slots for layer in layers.values())
        return Report(
            seen=[seen - padded for padded in padding],
            kept=kept,
            bytes_before=before,
            bytes_after=sum(map(_bytes, layers.values())),
            seconds=self._seconds,
            allocated_before=self._allocated[0],
            allocated_after=self._allocated[1],
        )

    def close(self) -> None:
        """Gives the model back; nothing happens the second time."""
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
            ValueError: the number is positive, or reaches into a prompt of which tokens are gone.
        """
        seen = self.get_seq_length()
        if tokens_to_remove > 0:
            raise ValueError(
                f"tokens_to_remove is {tokens_to_remove} but must be negative or 0: minus the "
                "number of tokens to remove"
            )
        left = seen + tokens_to_remove
        if left < self._protected:
            raise ValueError(
                f"tokens_to_remove is {tokens_to_remove} but only the last "
                f"{seen - self._protected} tokens can be removed: before them tokens were evicted. "
                "For assisted decoding give CompressedCache prompt_length="
            )
        super().crop(tokens_to_remove)
        if self._turn is not None and left < self._turn.end:
            cut = self._turn.end - left
            for layer in self._compressible.values():
                if layer.queries is not None:
                    layer.queries = layer.queries[:, :, : max(layer.queries.shape[2] - cut, 0)]
            self._turn.crop(max(left - self._turn.start, 0))

    def activate_past_recording(self) -> None:
        """Assisted decoding announces itself: its first forward holds candidates of an answer."""
        if self.prompt_length is None and self.get_seq_length() == 0:
            raise ValueError(
                "assisted decoding reads the prompt and candidates of the answer in one forward: "
                "give CompressedCache prompt_length=, so that only the prompt is compressed"
            )
        super().activate_past_recording()

    def _select_rows(self, rows: Tensor) -> None:
        if self._turn is not None:
            self._turn.select_rows(rows)
        if self._padding is not None:
            self._padding = self._padding[rows.to(self._padding.device)]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._select_rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        batch = next(iter(self._compressible.values())).keys.shape[0]
        super().batch_repeat_interleave(repeats)
        self._select_rows(torch.arange(batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._select_rows(indices)


def _as_rows(name: str, tensor: Tensor, batch: int) -> Tensor:
    """One row for each sequence: ``generate`` repeats a prompt for its beams and samples."""
    if batch % len(tensor):
        raise ValueError(f"{name} has {len(tensor)} rows but must have {batch}, one per sequence")
    return tensor.repeat_interleave(batch // len(tensor), 0)


def _slots_of(layer: CompressedLayer, turn: Turn) -> slice:
    """Nothing has been dropped since the turn began: its slots still follow one another."""
    first = layer.slots - (layer.seen - turn.start)
    return slice(first, first + turn.length)


def _bytes(layer: CompressedLayer) -> int:
    return sum(states.untyped_storage().nbytes() for states in (layer.keys, layer.values))


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _allocated(device: torch.device) -> int | None:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else None
