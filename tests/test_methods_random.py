"""Random: draws that are as good as chance, and the same everywhere."""

import torch

from aircache_ext.methods import Random
from aircache_ext.methods import random as random_method
from cases import Case
from methods_cases import compress_layers, inputs


def test_draws_are_splitmix64_s():
    """Its first numbers after seed 0, as published: the finaliser of multiples of the golden
    ratio."""
    golden = 0x9E3779B97F4A7C15
    state = torch.tensor([(i * golden + 2**63) % 2**64 - 2**63 for i in (1, 2, 3)])
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [n % 2**64 for n in random_method._mix(state).tolist()] == published


def test_random_tokens_are_spread_and_differ(backend):
    """In layers, between seeds, along the prompt: as often as chance has it."""
    case = Case(layers=40, head_dim=4, value_dim=1, kv_heads=1, group=1, window=1)
    x = inputs(case)
    kept = []
    for seed in range(10):
        ours = compress_layers(x, Random(seed=seed), {"budget": 15}, backend.device)
        kept.append(torch.stack([layer.indices[0, 0] for layer in ours]))
    sets = torch.stack(kept).flatten(0, 1)  # [400, text 18 and visual 15]
    assert len(sets.unique(dim=0)) == 400
    often = sets.flatten().bincount(minlength=79)[5:66].float()  # of 61 visual tokens
    mean = 400 * 15 / 61
    chi_squared = ((often - mean) ** 2 / (mean * (1 - 15 / 61))).sum()
    assert 30 < chi_squared < 100  # 60 degrees of freedom, within 4 sigma or so
