"""How many kernels a call launches, and how many bytes of the cache they move."""

import ctypes

import pytest
import torch

import aircache_ext
from aircache_ext import _C, ops
from backends import CPU, SIMT, SIMT_LIBRARY
from cases import BF16, FP32, Case, make_inputs, tokens

STAGES = [
    "instruction_attention",
    "elite_window",
    "window_partials",
    "window_rows",
    "window_scores",
    "moments",
    "layer_budgets",
    "select",
    "gather_kv",
]
# Their arguments hold no table of layers.
ANY_NUMBER_OF_LAYERS = {"elite_window", "moments", "layer_budgets"}


@pytest.fixture
def launches(backend):
    """``launches(call)`` is the list of the kernels that it launched."""
    if backend is CPU:
        pytest.skip("nothing is launched")
    library = ctypes.CDLL(str(SIMT_LIBRARY))
    library.simt_launches.restype = ctypes.c_char_p

    def record_simt(call) -> list[str]:
        library.simt_record_launches(True)
        call()
        library.simt_record_launches(False)
        return [line.split()[0] for line in library.simt_launches().decode().splitlines()]

    def record_cuda(call) -> list[str]:
        _C.record_cuda_launches(True)
        call()
        _C.record_cuda_launches(False)
        return [launch["kernel"] for launch in _C.cuda_launches()]

    return record_simt if backend is SIMT else record_cuda


@pytest.mark.parametrize("layers", [1, 80, 128, 129])
def test_one_launch_a_stage(layers, launches, backend):
    """128 layers a launch at most."""
    x = Case(prompt="one, two and three visual tokens", layers=layers).inputs().to(backend.device)
    options = dict(visual=x.visual, valid=x.valid, capacity=x.keys[0].shape[2])

    def call():
        aircache_ext.compress_layers(x.keys, x.values, x.queries, **options)

    names = launches(call)
    assert list(dict.fromkeys(names)) == STAGES
    for name in STAGES:
        tables = 1 if name in ANY_NUMBER_OF_LAYERS else -(-layers // 128)
        assert names.count(name) == tables, name


@pytest.mark.parametrize("window", [128, 129, 300])
def test_a_long_window_takes_a_set_of_launches_every_128_tokens(window, launches, backend):
    """Each over the keys up to its last token."""
    x = make_inputs(*tokens("visual 300"), Case(layers=3, window=window)).to(backend.device)
    judges = x.valid[:, -window:].expand(3, -1, -1).contiguous()
    names = launches(
        lambda: ops.window_scores(x.queries, x.keys, judges, softmax="full", **x.masks)
    )
    assert names == ["window_partials", "window_rows", "window_scores"] * -(-window // 128)


@pytest.mark.parametrize("window", [16, 300])
def test_a_given_lse_spares_the_first_pass(window, launches, backend):
    x = make_inputs(*tokens("visual 300"), Case(layers=130, window=window)).to(backend.device)
    judges = x.valid[:, -window:].expand(130, -1, -1) & False
    lse = torch.zeros(130, 1, 4, window, device=backend.device)
    names = launches(
        lambda: ops.window_scores(x.queries, x.keys, judges, softmax="full", lse=lse, **x.masks)
    )
    assert names == ["window_scores"] * 2 * -(-window // 128)


def test_cpu_tensors_launch_nothing():
    x = Case().inputs()
    _C.record_cuda_launches(True)
    aircache_ext.compress(x.keys[0], x.values[0], x.queries[0], visual=x.visual)
    _C.record_cuda_launches(False)
    assert _C.cuda_launches() == []


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize(("judges", "reads"), [(1, 1), (4, 1), (5, 2)])
@pytest.mark.parametrize(
    ("softmax", "prompts", "visible"),
    [
        (
            "restricted",
            ("text 150, visual 400, text 150", "pad 9, visual 675, text 16"),
            400 + 675,
        ),
        ("full", ("visual 700", "pad 9, visual 675, text 16"), 700 + 691),
    ],
)
def test_scores_read_the_visible_keys_once_or_twice(
    softmax, prompts, visible, judges, reads, dtype, traffic
):
    """Once, if the logits of eight rows are all, which wait: four tokens x two heads of a group."""
    case = Case(layers=2, kv_heads=2, group=2, head_dim=64, dtype=dtype)
    x = make_inputs(*tokens(*prompts), case)
    elite = torch.zeros(case.layers, 2, case.window, dtype=torch.bool)
    elite[:, :, -judges:] = True  # the last tokens, in both rows
    if softmax == "restricted":
        visible += 2 * judges  # themselves
    keys = 2 * 2 * visible * 64 * dtype.itemsize  # layers, heads, visible keys

    read, written = traffic(
        lambda: ops.window_scores(x.queries, x.keys, elite, softmax=softmax, **x.masks)
    )
    # Their queries come with each tile of 128 keys.
    queries = 2 * judges / 128
    assert 0.98 * reads * keys <= read <= reads * keys * (1 + queries) * 1.02  # tiles not full
    assert written == 0


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_gather_reads_and_writes_each_survivor_once(dtype, traffic):
    x = Case(dtype=dtype).inputs()
    batch, heads, seq, dim = x.keys[0].shape
    indices = torch.arange(0, 2 * 30, 2).repeat(2, batch, 1, 1)
    counts = torch.tensor([[30, 17], [1, 0]], dtype=torch.int32)
    floor = _C.gather_bytes(
        kept=30 + 17 + 1,
        kv_heads=heads,
        key_dim=dim,
        value_dim=x.values[0].shape[-1],
        element_bytes=dtype.itemsize,
    )
    read, written = traffic(lambda: ops.gather_kv(x.keys, x.values, list(indices), counts))
    assert read == floor / 2
    slots = 4 * 30 * heads * (dim + x.values[0].shape[-1]) * dtype.itemsize
    assert written == slots  # zeros where no survivor is


def test_compaction_moves_what_is_not_in_its_place(traffic):
    x = Case().inputs()
    batch, heads, seq, dim = x.keys[0].shape
    # Ten tokens of text in front, then every other one: 20 of 30 move.
    positions = torch.cat((torch.arange(10), torch.arange(12, 52, 2)))
    indices = [positions.expand(batch, 1, 30).contiguous()] * 2
    counts = torch.full((2, batch), 30, dtype=torch.int32)
    read, written = traffic(lambda: ops.compact_kv_(x.keys, x.values, indices, counts))
    moved = 2 * batch * heads * 20 * (dim + x.values[0].shape[-1]) * x.keys[0].itemsize
    assert (read, written) == (moved, moved)
