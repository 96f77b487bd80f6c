"""The committed recordings are those that ``formulas.py`` describes."""

from __future__ import annotations

import pytest
import torch

from kvpress_fixture import Recording, formulas, recordings

RECORDINGS = recordings()


@pytest.mark.parametrize("recorded", RECORDINGS, ids=str)
def test_formulas_keep_what_kvpress_kept(recorded: Recording):
    queries = [layer[0] for layer in recorded.queries]
    keys = [layer[0] for layer in recorded.keys]
    sets, margin = formulas.kept(recorded.press, recorded.params, queries, keys)
    for found, wanted in zip(sets, recorded.kept, strict=True):
        torch.testing.assert_close(found.contiguous(), wanted, rtol=0, atol=0)
    assert margin == pytest.approx(recorded.margin)
    assert margin > 1e-4  # relative, so nothing hangs on rounding


def test_every_press_is_there_for_both_models():
    presses = {"SnapKV", "PyramidKV", "StreamingLLM", "TOVA"}
    assert {(r.model, r.press) for r in RECORDINGS} == {
        (model, press) for model in ("llama", "qwen2") for press in presses
    }
