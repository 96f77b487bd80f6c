"""Switches a model's text decoder to our attention while caches of ours are open.

A model's switch is shared by its caches: the first one turns it on, the last one that is closed or
garbage-collected turns it off, and then the model is what it was. Hooks tell a cache of ours when a
forward begins and ends, and hand it on to the attention as a keyword argument; for forwards without
such a cache they do nothing.
"""

from __future__ import annotations

from inspect import signature
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from aircache_ext.hf import attention

_switches: WeakKeyDictionary[nn.Module, Switch] = WeakKeyDictionary()  # by text decoder


def acquire(model: Any) -> Switch:
    """Turns the model's one switch on, or counts one more user of it.

    Raises:
        TypeError: the model has no text decoder to find, or that is float64, which no op takes.
        ValueError: its attention implementation cannot be built upon.
    """
    decoder = _text_decoder(model)
    dtype = next((p.dtype for p in decoder.parameters() if p.is_floating_point()), None)
    if dtype == torch.float64:
        raise TypeError(f"model is {dtype} but must be float32, float16 or bfloat16")
    if decoder not in _switches:
        _switches[decoder] = Switch(model, decoder)
    _switches[decoder].users += 1
    return _switches[decoder]


def _text_decoder(model: Any) -> nn.Module:
    if not hasattr(model, "get_decoder"):
        raise TypeError(
            f"model is a {type(model).__name__} but must be a transformers model with a text "
            "decoder"
        )
    decoder = model.get_decoder()
    while hasattr(decoder, "get_decoder") and (inner := decoder.get_decoder()) is not decoder:
        decoder = inner
    return decoder


class Switch:
    """Holds configurations and hooks, not the model, which may be collected meanwhile."""

    def __init__(self, model: nn.Module, decoder: nn.Module) -> None:
        self.users = 0
        self.text_config: Any = decoder.config
        # Layers may have configurations of their own.
        configs = [m.config for m in decoder.modules() if hasattr(m, "config")]
        self._configs = list({id(config): config for config in configs}.values())
        self._bases = [config._attn_implementation for config in self._configs]
        if any(base.startswith(attention.PREFIX) for base in self._bases):
            raise ValueError(
                "model is a copy that was made while a CompressedCache was open on the original, "
                "but needs to be copied before or after that"
            )
        if "flex_attention" in self._bases:
            raise ValueError(
                'the text decoder has attn_implementation "flex_attention" but needs one whose '
                'masks are tensors, such as "sdpa" or "eager"'
            )
        for config, base in zip(self._configs, self._bases, strict=True):
            config._attn_implementation = attention.over(base)
        # The decoder's caller sees the ids, their types and the padding. It is the innermost such
        # module, so that wrappers such as PEFT's do not matter.
        callers = [m for m in model.modules() if any(child is decoder for child in m.children())]
        caller = callers[0] if callers else decoder
        self.config: Any = caller.config
        self._hooks = [
            caller.register_forward_pre_hook(_read_inputs, with_kwargs=True),
            decoder.register_forward_pre_hook(_hand_on, with_kwargs=True),
            decoder.register_forward_hook(_end, with_kwargs=True),
        ]

    @property
    def on(self) -> bool:
        """False also if the user has set another implementation since."""
        return self.users > 0 and all(
            config._attn_implementation.startswith(attention.PREFIX) for config in self._configs
        )

    def release(self) -> None:
        """One user fewer; without users the model is restored."""
        self.users -= 1
        if self.users > 0:
            return
        for hook in self._hooks:
            hook.remove()
        for config, base in zip(self._configs, self._bases, strict=True):
            if config._attn_implementation.startswith(attention.PREFIX):
                config._attn_implementation = base
        for decoder, switch in list(_switches.items()):
            if switch is self:
                del _switches[decoder]


def _cache_of(arguments: dict[str, Any]) -> Any:
    from aircache_ext.hf.cache import CompressedCache

    cache = arguments.get("past_key_values")
    return cache if isinstance(cache, CompressedCache) else None


def _by_name(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(signature(module.forward).parameters, args, strict=False)) | kwargs


def _read_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    arguments = _by_name(module, args, kwargs)
    if (cache := _cache_of(arguments)) is not None:
        cache._begin(arguments)


def _hand_on(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    arguments = _by_name(module, args, kwargs)
    if (cache := _cache_of(arguments)) is None:
        return None
    if not cache._reading.under_way:  # the decoder was called by itself
        cache._begin(arguments)
    return args, kwargs | {"aircache": cache}


def _end(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    if (cache := _cache_of(_by_name(module, args, kwargs))) is not None:
        cache._end()
