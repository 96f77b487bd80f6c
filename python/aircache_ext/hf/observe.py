"""What a layer remembers of a turn while it is read, and what a method sees in it at the end.

Mostly the last queries. Where all tokens judge, theirs would be more than the cache itself: so each
forward's are used at once, and of the attention that tokens receive only the sum is kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from aircache_ext.hf.layer import CompressedLayer
from aircache_ext.hf.turn import Turn
from aircache_ext.methods import Amount, Method, Prompt, Seen
from aircache_ext.methods.all_rows import AllRows


def observe(
    layer: CompressedLayer, query: Tensor, turn: Turn, method: Method, max_window: int
) -> None:
    """``query`` ``[batch, query_heads, new, head_dim]``: of the turn's last tokens, which a forward
    has just brought."""
    if isinstance(method, AllRows):
        before = None if layer.received is None else layer.received[None]
        [layer.received] = method.received(_prompt([layer], [query], turn), before)
        return
    wanted = method.window(turn.instruction)
    window = min(max_window, turn.length, max_window if wanted is None else wanted)
    query = _last(query, window)
    if layer.queries is not None:
        query = _last(torch.cat([layer.queries, query], 2), window)
    layer.queries = query.clone()  # a view would keep all of the prompt's


def _last(query: Tensor, n: int) -> Tensor:
    return query[:, :, max(query.shape[2] - n, 0) :]


def seen_in(
    layers: Sequence[CompressedLayer],
    turn: Turn,
    method: Method,
    amount: Amount,
    indices: tuple[int, ...],
) -> Seen:
    """Of layers of one shape on one device, after the turn was read."""
    if isinstance(method, AllRows):
        received = [layer.received for layer in layers if layer.received is not None]
        return method.conclude(torch.stack(received), turn.on(received[0].device))
    queries = [layer.queries for layer in layers if layer.queries is not None]
    prompt = _prompt(layers, queries, turn)
    return method.observe(prompt._replace(amount=amount.on(queries[0].device), layers=indices))


def _prompt(layers: Sequence[CompressedLayer], queries: list[Tensor], turn: Turn) -> Prompt:
    """The turn as far as it was read."""
    return Prompt(
        queries,
        [layer.keys[:, :, layer.slots_of(turn.start, turn.length)] for layer in layers],
        turn.on(queries[0].device),
        scale=layers[0].scaling,
    )
