"""decode_attention against the fp64 reference, which is held against torch's own attention."""

import ctypes
import itertools
import re
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from aircache_ext import ops, reference
from backends import SIMT, SIMT_LIBRARY, SIMT_ORDERS
from cases import BF16, FP16, FP32, moved
from plain_torch import EPS
from promises import bits, same

GARBAGE = (float("nan"), float("inf"), -float("inf"), 3e4)


@dataclass(frozen=True)
class Step:
    """One decoding step; ``inputs()`` makes its tensors, the same every time."""

    group: int = 2
    head_dim: int = 64
    value_dim: int = 64
    capacity: int = 40
    lengths: tuple = (40, 17)  # of each row, or of each row and its two KV heads
    dtype: torch.dtype = FP32
    layout: str = "bhsd"
    loud: float = 1.0  # what queries are multiplied by
    seed: int = 0

    @property
    def id(self) -> str:
        return "-".join(
            f"{name}_{getattr(self, name)}".replace("torch.", "").replace(" ", "")
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(Step(), name)
        )

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """query, key, value, lengths. What stands beyond the lengths is NaN, inf and large."""
        random = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random).to(self.dtype)

        lengths = torch.tensor(self.lengths, dtype=torch.int32)
        batch, heads = len(lengths), 2
        query = normal(batch, heads * self.group, self.head_dim) * self.loud
        key, value = (
            garbled(laid_out(normal(batch, heads, self.capacity, dim), self.layout), lengths)
            for dim in (self.head_dim, self.value_dim)
        )
        return query, key, value, lengths


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers, in memory as a cache may have them."""
    batch, heads, capacity, dim = tensor.shape
    match layout:
        case "bhsd":
            return tensor
        case "bshd":
            return tensor.transpose(1, 2).contiguous().transpose(1, 2)
        case "slice of a longer buffer":
            buffer = tensor.new_full((batch, heads, capacity + 7, dim), torch.nan)
            view = buffer[:, :, :capacity]
        case "one element off":  # no address is a multiple of 4
            buffer = tensor.new_full((batch, heads, capacity, dim + 3), torch.nan)
            view = buffer[..., 1 : dim + 1]
    return view.copy_(tensor)


def garbled(tensor: Tensor, lengths: Tensor, shift: int = 0) -> Tensor:
    lengths = lengths if lengths.dim() == 2 else lengths[:, None]
    slot = torch.arange(tensor.shape[2])
    garbage = torch.tensor(GARBAGE, dtype=tensor.dtype)[(slot + shift) % len(GARBAGE)]
    beyond = slot >= lengths[:, :, None]  # [B, 1 or Hkv, C]
    return tensor.copy_(torch.where(beyond[..., None], garbage[:, None], tensor))


def on(backend, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(moved(t, backend.device) for t in tensors)


def in_torch(query, key, value, lengths, scale=None, dtype=FP32) -> tuple[Tensor, Tensor]:
    """By torch's own attention and logsumexp, with a mask. Rows of no token are NaN or 0."""
    group = query.shape[1] // key.shape[1]
    lengths = lengths if lengths.dim() == 2 else lengths[:, None].expand(-1, key.shape[1])
    mask = torch.arange(key.shape[2]) < lengths[:, :, None]  # [B, Hkv, C]
    clean = [
        torch.where(mask[..., None], t, 0).to(dtype).repeat_interleave(group, 1)
        for t in (key, value)
    ]
    mask = mask.repeat_interleave(group, 1)[:, :, None]
    query = query.to(dtype)[:, :, None]
    out = scaled_dot_product_attention(query, *clean, attn_mask=mask, scale=scale)
    logits = query @ clean[0].mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    lse = logits.masked_fill(~mask, -torch.inf).logsumexp(-1)
    return out[:, :, 0], lse[:, :, 0]


def assert_as_good(ours: Tensor, exact: Tensor, plain: Tensor, terms: Tensor) -> None:
    """Twice the error of torch in fp32, four fp32 steps at the size of the terms that it is a sum
    of, and half a step of the result's dtype."""
    error = (ours.double() - exact).abs()
    allowed = 2 * (plain.double() - exact).abs().max() + 4 * EPS * terms
    if ours.dtype != FP32:
        info = torch.finfo(ours.dtype)
        allowed += info.eps / 2 * (exact.abs() + allowed) + info.smallest_normal * info.eps / 2
    worst = (error - allowed).argmax()
    assert (error <= allowed).all(), (
        f"off by {error.flatten()[worst]:.3g} where {allowed.flatten()[worst]:.3g} is allowed "
        f"and {exact.flatten()[worst]:.3g} is right"
    )


def check(step: Step, backend, scale: float | None = None) -> None:
    inputs = step.inputs()
    before = [bits(t).clone() for t in inputs[:3]]
    out, lse = ops.decode_attention(*on(backend, *inputs), scale=scale)
    assert out.dtype == step.dtype and lse.dtype == FP32
    compare(out.cpu(), lse.cpu(), inputs, scale)
    assert same([before], [[bits(t) for t in inputs[:3]]])


def compare(out: Tensor, lse: Tensor, inputs, scale: float | None = None) -> None:
    exact_out, exact_lse = reference.decode_attention(*inputs, scale=scale)
    plain_out, plain_lse = in_torch(*inputs, scale=scale)
    some = exact_lse != -torch.inf
    assert torch.equal(lse == -torch.inf, ~some)
    assert not out[~some].any()
    if some.any():
        query, key, value, lengths = inputs
        values, _ = reference.decode_attention(query, key, value.abs(), lengths, scale=scale)
        _, products = reference.decode_attention(
            query.abs(), key.abs(), value, lengths, scale=scale
        )
        assert_as_good(out[some], exact_out[some], plain_out[some], values[some])
        assert_as_good(lse[some], exact_lse[some], plain_lse[some], products[some].abs())


GROUPS = [Step(group=group) for group in (1, 2, 3, 4, 5, 6, 7, 8, 9, 17)]
DIMS = [
    Step(head_dim=dim, value_dim=value_dim, dtype=dtype, group=7)
    for dtype, (dim, value_dim) in itertools.product(
        (FP32, FP16, BF16),
        [(64, 64), (80, 80), (96, 96), (128, 128), (256, 256), (64, 48), (7, 1), (40, 512)],
    )
]
LENGTHS = [
    Step(lengths=lengths, capacity=capacity, dtype=dtype)
    for dtype in (FP32, BF16)
    for capacity, lengths in (
        (1, (1, 0)),
        (40, (0, 0)),
        (40, (1, 39)),
        (40, ((0, 40), (7, 33))),
        (65, (64, 65, 63)),
        (129, (128, 129, 127)),
        (600, (513, 130)),
        (1100, ((1100, 31), (512, 1025))),
    )
]
LAYOUTS = [
    Step(layout=layout, dtype=dtype, head_dim=128, value_dim=72)
    for layout in ("bshd", "slice of a longer buffer", "one element off")
    for dtype in (FP32, FP16, BF16)
]
LOUD = [
    Step(loud=loud, dtype=dtype, capacity=300, lengths=(300, 150))
    for loud in (0.0, 30.0, 1000.0)
    for dtype in (FP32, BF16)
]
STEPS = [*GROUPS, *DIMS, *LENGTHS, *LAYOUTS, *LOUD]
GRID = [
    Step(group, dim, value_dim, capacity, lengths, dtype, layout)
    for group in (1, 4, 7, 8, 11)
    for dim, value_dim in ((64, 64), (128, 128), (256, 256), (72, 40))
    for capacity, lengths in (
        (700, (700, 0, 129)),
        (257, ((257, 3), (128, 130))),
    )
    for dtype in (FP32, FP16, BF16)
    for layout in ("bshd", "slice of a longer buffer", "one element off")
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.id)
def test_the_reference_is_torchs_attention(step):
    inputs = step.inputs()
    out, lse = reference.decode_attention(*inputs)
    their_out, their_lse = in_torch(*inputs, dtype=torch.float64)
    some = their_lse != -torch.inf
    torch.testing.assert_close(out[some], their_out[some], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(lse, their_lse, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.id)
def test_decode_attention(step, backend, isa):
    check(step, backend)


@pytest.mark.full
@pytest.mark.parametrize("step", GRID, ids=lambda step: step.id)
def test_decode_attention_full(step, backend, isa):
    check(step, backend)


@pytest.mark.parametrize("scale", [0.0, -0.3, 2.0])
def test_scale(scale, backend, isa):
    check(Step(group=3), backend, scale=scale)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("per_head", [False, True])
def test_lengths_change_between_calls_on_the_same_buffers(per_head, dtype, backend, isa):
    """As in a static cache: tokens come and go, what they leave behind is still there."""
    step = Step(capacity=300, lengths=(300, 300), dtype=dtype, layout="slice of a longer buffer")
    query, key, value, lengths = step.inputs()
    lengths = lengths[:, None].repeat(1, 2) if per_head else lengths
    there = on(backend, query, key, value, lengths)
    for change in ((0, 1), (1, 0), (127, 128), (129, 300), (300, 2), (5, 5)):
        now = torch.tensor([change, change[::-1]] if per_head else change, dtype=torch.int32)
        there[3].copy_(now)
        compare(*(t.cpu() for t in ops.decode_attention(*there)), (query, key, value, now))


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
@pytest.mark.parametrize("head_dim", [64, 72, 7])
def test_what_lies_beyond_the_lengths_does_not_matter(head_dim, dtype, backend, isa):
    step = Step(head_dim=head_dim, value_dim=head_dim, capacity=150, dtype=dtype, group=7)
    query, key, value, lengths = replace(step, lengths=((0, 149), (1, 130))).inputs()
    results = []
    for shift in range(len(GARBAGE)):
        garbled(key, lengths, shift), garbled(value, lengths, shift + 1)
        results.append(ops.decode_attention(*on(backend, query, key, value, lengths)))
    assert not results[0].out.isnan().any()
    assert same(results[1:], results[:1] * (len(GARBAGE) - 1))


def test_lengths_of_a_row_are_those_of_all_its_heads(backend, isa):
    query, key, value, lengths = on(backend, *Step(capacity=300, lengths=(300, 150)).inputs())
    per_head = lengths[:, None].repeat(1, 2)
    ours = ops.decode_attention(query, key, value, per_head)
    assert same([ours], [ops.decode_attention(query, key, value, lengths)])


def test_lengths_beyond_the_buffer_count_as_its_end(backend, isa):
    """And negative ones as 0: nothing outside the buffer is read."""
    query, key, value, _ = on(backend, *Step(lengths=(40, 40), dtype=BF16).inputs())

    def of(*lengths: int):
        lengths = torch.tensor(lengths, dtype=torch.int32, device=backend.device)
        return ops.decode_attention(query, key, value, lengths)

    assert same([of(41, -1), of(2**31 - 1, -(2**31))], [of(40, 0)] * 2)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_nothing_to_attend_to(dtype, backend, isa):
    """No token, and logits that are all -inf; a split of such logits beside one of about -250,
    which must not be measured by the other's."""
    query, key, value, lengths = Step(
        capacity=600, lengths=(0, 600, 600), dtype=dtype, group=3
    ).inputs()
    query[..., 0] = 1
    key[1, 0, :, 0] = -torch.inf
    key[2, 0, :520, 0] = -torch.inf
    key[2, 0, 520:, 0] = -2000
    out, lse = ops.decode_attention(*on(backend, query, key, value, lengths))
    for nothing in ((0, slice(None)), (1, slice(0, 3))):
        assert not out[nothing].any()
        assert (lse[nothing] == -torch.inf).all()
    less = (query[2:, :3], key[2:, :1, 520:], value[2:, :1, 520:], torch.tensor([80]))
    compare(out[2:, :3].cpu(), lse[2:, :3].cpu(), less)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("slot", [0, 31, 599])
def test_a_logit_that_is_no_number(slot, bad, backend, isa):
    """Makes its own heads NaN and no others."""
    query, key, value, lengths = Step(capacity=600, lengths=(600, 599), group=3).inputs()
    query[..., 0] = 1
    key[:, 1, slot, 0] = bad
    key[1, 1, 599, 0] = bad  # beyond the length
    out, lse = (t.cpu() for t in ops.decode_attention(*on(backend, query, key, value, lengths)))
    wrong = torch.zeros(2, 6, dtype=torch.bool)
    wrong[0 if slot == 599 else slice(None), 3:] = True
    assert torch.equal(lse.isnan(), wrong)
    assert torch.equal(out.isnan().all(2), wrong) and torch.equal(out.isnan().any(2), wrong)


def test_a_value_that_is_no_number_shows_where_it_stands(backend, isa):
    query, key, value, lengths = Step(capacity=200, lengths=(200, 199), group=3).inputs()
    value[:, 1, 199, 5] = torch.inf
    value[:, 0, 3, 6] = torch.nan
    out, lse = (t.cpu() for t in ops.decode_attention(*on(backend, query, key, value, lengths)))
    expected = torch.zeros(2, 6, 64, dtype=torch.bool)
    expected[0, 3:, 5] = expected[:, :3, 6] = True
    assert torch.equal(~out.isfinite(), expected)
    assert lse.isfinite().all()


def test_one_token_is_its_value(backend, isa):
    """Bit for bit, in any dtype, however loud."""
    for dtype in (FP32, FP16, BF16):
        step = Step(capacity=9, lengths=(1, 1), dtype=dtype, loud=100.0, group=7, value_dim=72)
        query, key, value, lengths = step.inputs()
        out, _ = ops.decode_attention(*on(backend, query, key, value, lengths))
        assert torch.equal(bits(out.cpu()), bits(value[:, :, 0].repeat_interleave(7, 1)))


@pytest.mark.parametrize("dtype", [FP16, BF16])
def test_every_16_bit_number_and_what_lies_between(dtype, backend):
    """Two tokens of equal weight: the middle of two neighbours goes to the even one."""
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    neighbours = (numbers.view(torch.int16) + 1).view(dtype)
    value = torch.stack((numbers, neighbours)).view(2, 256, 256).transpose(0, 1)[:, None]
    value = value[::6] if backend is SIMT else value
    batch = len(value)
    query, key = torch.zeros(batch, 1, 8, dtype=dtype), torch.zeros(batch, 1, 2, 8, dtype=dtype)
    lengths = torch.full((batch,), 2, dtype=torch.int32)
    out, lse = ops.decode_attention(*on(backend, query, key, value, lengths))
    middle = (value[:, 0, 0].float() + value[:, 0, 1].float()) / 2
    finite = middle.isfinite()
    assert torch.equal(out[:, 0].cpu()[finite], middle.to(dtype)[finite])
    assert torch.equal(out[:, 0].cpu().isnan(), middle.isnan())
    torch.testing.assert_close(lse.cpu(), torch.full((batch, 1), 2.0).log(), atol=0, rtol=1e-6)


def test_results_do_not_depend_on_the_number_of_threads(threads, isa):
    inputs = Step(capacity=1300, lengths=((1300, 5), (0, 777)), group=7, dtype=BF16).inputs()
    results = []
    for n in (1, 2, 3, 8):
        threads(n)
        results.append(ops.decode_attention(*inputs))
    assert same(results[1:], results[:1] * 3)


def test_results_do_not_depend_on_the_order_of_threads(backend):
    if backend is not SIMT:
        pytest.skip("the executor chooses it")
    inputs = Step(capacity=1300, lengths=((1300, 5), (0, 777)), group=7, dtype=BF16).inputs()
    results = []
    for order in SIMT_ORDERS:
        ctypes.CDLL(str(SIMT_LIBRARY)).simt_set_order(order.encode())
        results.append(ops.decode_attention(*inputs))
    assert same(results[1:], results[:1] * 2)


def test_long_rows_alone_or_among_others(backend, isa):
    """On CUDA the splits follow from the sizes: 24 of 64 keys alone, 8 of 192 in a batch."""
    step = Step(capacity=1500, lengths=(1500,), head_dim=16, value_dim=16, dtype=BF16)
    check(step, backend)
    check(replace(step, lengths=(1500,) + (129, 0, 7, 1) * 6), backend)


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize(("group", "reads"), [(7, 1), (8, 1), (9, 2)])
def test_each_key_and_value_in_use_is_read_once(group, reads, dtype, traffic):
    """By the eight query heads of a block together."""
    inputs = Step(group, 128, 64, 600, ((600, 129), (0, 31)), dtype).inputs()
    read, _ = traffic(lambda: ops.decode_attention(*inputs))
    used = (600 + 129 + 0 + 31) * (128 + 64) * dtype.itemsize
    assert read == reads * used


def test_launches_follow_from_the_shapes_alone(backend):
    """So that a captured graph stays right when lengths change."""
    if backend is not SIMT:
        pytest.skip("the executor tells them")
    library = ctypes.CDLL(str(SIMT_LIBRARY))
    library.simt_launches.restype = ctypes.c_char_p
    launches = []
    for lengths in ((600, 600), (0, 1), (128, 37)):
        library.simt_record_launches(True)
        ops.decode_attention(*Step(capacity=600, lengths=lengths).inputs())
        library.simt_record_launches(False)
        launches.append(library.simt_launches())
    assert [line.split()[0] for line in launches[0].decode().splitlines()] == [
        "decode_attention",
        "decode_combine",
    ]
    assert launches[1:] == launches[:1] * 2


@pytest.mark.registration
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled(dynamic, backend):
    torch.compiler.reset()

    def step(query, key, value, lengths):
        out, lse = ops.decode_attention(query * 2, key, value, lengths)
        return out + 1, lse.exp()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for case in (Step(), Step(capacity=33, lengths=((5, 33), (2, 0))), Step(lengths=(3, 2, 40))):
        inputs = on(backend, *case.inputs())
        assert same([compiled(*inputs)], [step(*inputs)])


def test_an_empty_batch(backend):
    inputs = (t[:0] for t in Step().inputs())
    out, lse = ops.decode_attention(*on(backend, *inputs))
    assert out.shape == (0, 4, 64) and lse.shape == (0, 4)


def test_no_graph_is_recorded(backend):
    query, key, value, lengths = Step().inputs()
    query, key, value = (t.requires_grad_() for t in (query, key, value))
    out, lse = ops.decode_attention(*on(backend, query, key, value, lengths))
    assert not out.requires_grad and not lse.requires_grad


def zeros(*shape: int, dtype=FP32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


# what is passed, then the argument, what it was and what it needs, as in the message
BAD = {
    "key of three dimensions": (
        {"key": zeros(2, 40, 64)}, "key", "[2, 40, 64]", "[batch, kv_heads, capacity, head_dim]"),
    "key of another type": ({"key": zeros(2, 2, 40, 64).double()}, "key", "Double", "Float, Half"),
    "key that is strided": ({"key": zeros(2, 2, 40, 128)[..., ::2]}, "key", "stride 2", "contig"),
    "key of no slot": (
        {"key": zeros(2, 2, 0, 64), "value": zeros(2, 2, 0, 64)}, "capacity is 0", "at least 1"),
    "key of no head": (
        {"key": zeros(2, 0, 40, 64), "value": zeros(2, 0, 40, 64)}, "kv_heads is 0", "least 1"),
    "value of another length": (
        {"value": zeros(2, 2, 39, 64)}, "value", "[2, 2, 39, 64]", "capacity=40"),
    "value of another type": ({"value": zeros(2, 2, 40, 64, dtype=FP16)}, "value", "Half", "Float"),
    "value that is strided": (
        {"value": zeros(2, 2, 64, 40).mT}, "value", "stride 40", "contiguous"),
    "query of two tokens": (
        {"query": zeros(2, 4, 2, 64)}, "query", "[2, 4, 2, 64]", "[batch=2, query_heads, head_dim"),
    "query of another head_dim": ({"query": zeros(2, 4, 32)}, "query", "[2, 4, 32]", "head_dim=64"),
    "query of another type": ({"query": zeros(2, 4, 64, dtype=BF16)}, "query", "BFloat16", "Float"),
    "query of heads that do not divide": (
        {"query": zeros(2, 5, 64)}, "query_heads is 5", "multiple of kv_heads, 2"),
    "query of no head": ({"query": zeros(2, 0, 64)}, "query_heads is 0", "multiple of kv_heads, 2"),
    "lengths of another batch": (
        {"lengths": zeros(3, dtype=torch.int32)}, "lengths", "[3]", "[batch=2]"),
    "lengths of another number of heads": (
        {"lengths": zeros(2, 4, dtype=torch.int32)}, "lengths", "[2, 4]", "[batch=2, kv_heads=2]"),
    "lengths of 64 bits": ({"lengths": zeros(2, dtype=torch.int64)}, "lengths", "Long", "Int"),
    "lengths that are not contiguous": (
        {"lengths": zeros(2, 2, dtype=torch.int32).mT}, "lengths", "stride 2", "contiguous"),
    "scale that is no number": ({"scale": "1"}, "scale", "str", "number"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_errors(bad, backend):
    changed, *parts = BAD[bad]
    arguments = dict(zip(("query", "key", "value", "lengths"), Step().inputs(), strict=True))
    arguments |= changed
    there = {
        name: on(backend, value)[0] if isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }
    with pytest.raises((ValueError, TypeError)) as caught:
        ops.decode_attention(**there)
    pattern = ".*".join(re.escape(part) for part in parts)
    assert re.search(pattern, str(caught.value), re.DOTALL), caught.value


@pytest.mark.parametrize("name", ["head_dim", "value_dim"])
def test_the_longest_rows(name, backend):
    """On CUDA a block has to hold them; the CPU has no bound."""
    dims = {"head_dim": 64, "value_dim": 64}
    for dtype in (FP32, BF16):
        check(Step(dtype=dtype, **dims | {name: 512}), backend)
    check(Step(head_dim=512, value_dim=512, group=8), backend)
    longer = Step(**dims | {name: 513})
    if backend.name == "cpu":
        check(longer, backend)
    else:
        with pytest.raises(ValueError, match=f"{name} is 513 but must be at most 512"):
            ops.decode_attention(*on(backend, *longer.inputs()))
