"""Training is the same every time, whether it was interrupted or not."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.nn import functional as F
from torch.utils.data import DataLoader

import batches
import dataset
import evaluate
import model as small
import muon
import processor
import train
from plan import Stage

FIRST = Stage("first", 6, 1, 4, 1, 2, 2e-3, {"scenes": 1})
SECOND = Stage("second", 12, 1, 4, 2, 2, 1e-3, {"scenes": 1, "forms": 1, "pairs": 1})


PLAN = [FIRST, SECOND]


def steps(training, count):
    losses = []
    for _ in range(count):
        if training.step == training.plan[training.stage].steps:
            assert training.next_stage()
        stage = training.plan[training.stage]
        losses.append(training.advance(train.Steps(stage, part=2)[training.step])[0])
    return losses


def test_interrupted_equals_uninterrupted(tmp_path):
    whole = train.Training(PLAN)
    expected = steps(whole, 4)
    for cut in (1, 3):
        part = train.Training(PLAN)
        before = steps(part, cut)
        part.save(tmp_path / "state.pt")
        rest = train.Training(PLAN)
        rest.load(tmp_path / "state.pt")
        assert before + steps(rest, 4 - cut) == pytest.approx(expected, abs=1e-6)
    for name, weight in whole.model.state_dict().items():
        assert torch.allclose(weight, rest.model.state_dict()[name], atol=1e-6), name


def test_a_step_does_not_depend_on_its_parts_or_on_where_the_run_began():
    """Parts only cut the work up; a run that goes on at a step draws that step's examples."""
    losses = [
        train.Training(PLAN).advance(train.Steps(FIRST, first, part)[1 - first])[0]
        for first, part in ((0, 4), (0, 2), (1, 4))
    ]
    assert losses == pytest.approx(losses[:1] * 3, abs=1e-5)


def _share(rank, folder):
    """Two steps of one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    training = train.Training(PLAN)
    shares = train.Steps(FIRST, part=2, rank=training.rank, processes=training.processes)
    losses = [training.advance(shares[step]) for step in range(2)]
    torch.save((losses, training.model.state_dict()), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_half_a_step_in_each_of_two_processes_is_the_whole_step(tmp_path):
    whole = train.Training(PLAN)
    expected = [whole.advance(train.Steps(FIRST, part=2)[step]) for step in range(2)]
    multiprocessing.start_processes(_share, (tmp_path,), nprocs=2)
    for rank in range(2):
        losses, weights = torch.load(tmp_path / f"{rank}.pt")
        for loss, reference in zip(losses, expected, strict=True):
            assert loss == pytest.approx(reference, abs=1e-5)
        for name, weight in whole.model.state_dict().items():
            assert torch.allclose(weight, weights[name], atol=1e-5), name


def test_more_processes_than_parts():
    with pytest.raises(ValueError, match="processes is 3 but must be at most 2, .* of first"):
        train.Steps(FIRST, part=2, rank=0, processes=3)


def test_workers_draw_the_same_examples():
    examples = train.Steps(FIRST, 0, 2)
    loader = DataLoader(examples, None, num_workers=1, collate_fn=list)
    for step, made in enumerate(loader):
        for one, other in zip(made, examples[step], strict=True):
            assert torch.equal(one.input_ids, other.input_ids)
            assert torch.equal(one.pixel_values, other.pixel_values)
    assert step + 1 == len(examples) == FIRST.steps


def test_growing_keeps_what_was_learned():
    model = small.build(6, seed=1)
    grown = small.grow(model, 12)
    old, new = small.positions(model).weight, small.positions(grown).weight
    assert new.shape == (144, 128) and grown.config.image_seq_length == 144
    assert torch.equal(new[[0, 11, 132, 143]], old[[0, 5, 30, 35]])  # the corners stay corners
    between = old[0] + (old[1] - old[0]) * 5 / 11  # 12 places where there were 6
    assert torch.allclose(new[1], between, atol=1e-5)
    ours, theirs = model.state_dict(), grown.state_dict()
    same = [name for name in ours if "position_embedding" not in name]
    assert len(same) == len(ours) - 1
    assert all(torch.equal(ours[name], theirs[name]) for name in same)


def test_every_step_has_pictures_of_one_of_the_sizes():
    stage = Stage("sizes", 6, 1, 3, 2, 12, 2e-3, {"scenes": 1}, grids=(6, 9))
    sizes = {
        tuple({part.pixel_values.shape[-1] // 8 for part in parts})
        for parts in (train.Steps(stage, part=2)[step] for step in range(stage.steps))
    }
    assert sizes == {(6,), (9,)}


def test_positions_of_a_picture_of_another_size_are_interpolated():
    """As in a model that has them in its table."""
    model = small.build(6, seed=0).eval()
    table = small.positions(model).weight.detach().T.reshape(1, 128, 6, 6)
    table = F.interpolate(table, size=(9, 9), mode="bicubic").flatten(2)[0].T
    grown = small.grow(model, 9).eval()
    with torch.no_grad():
        small.positions(grown).weight.copy_(table)
    group = dataset.examples("scenes", "train", 0, questions=2, grid=9)
    batch = batches.make([group], processor.processor(9))
    with torch.inference_mode():
        ours, theirs = (batches.answer_logits(each, batch)[0] for each in (model, grown))
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.fixture
def groups():
    """Three questions about each of two pairs and two scenes."""
    return [
        dataset.examples(family, "train", index, questions=3, grid=6)
        for family in ("pairs", "scenes")
        for index in range(2)
    ]


def test_only_the_answers_are_targets(groups):
    process = processor.processor(6)
    batch = batches.make(groups, process)
    for row, group in enumerate(groups):
        targets = batch.targets[row]
        for number, example in enumerate(group, 1):
            asked = (targets != batches.IGNORED) & (batch.questions[row] == number)
            (places,) = asked.nonzero(as_tuple=True)
            assert process.tokenizer.decode(targets[places]) == example.answer + "<|end|>"
            assert torch.equal(batch.input_ids[row, places + 1], targets[places])


def test_questions_about_a_picture_are_answered_as_if_each_stood_alone(groups):
    """The reference: the whole prompt and answer as one text, without a mask or positions."""
    process, model = processor.processor(6), small.build(6, seed=0).eval()
    with torch.inference_mode():
        together, _ = batches.answer_logits(model, batches.make(groups, process))
        alone = []
        for example in (example for group in groups for example in group):
            prompt = processor.prompt(example.instruction, len(example.images))
            text = f"{prompt}{example.answer}<|end|>"
            inputs = process(images=[example.images], text=[text], return_tensors="pt")
            answer = len(process.tokenizer(f"{example.answer}<|end|>").input_ids)
            alone.append(model(**inputs).logits[0, -answer - 1 : -1])
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_exact_means_that_greedy_decoding_gives_the_answer():
    """The model's own greedy answers are right by definition; one token less is not."""
    process, model = processor.processor(6), small.build(6, seed=0).eval()
    example = dataset.example("scenes", "train", 0, grid=6)
    inputs = process(
        images=[example.images], text=[processor.prompt(example.instruction)], return_tensors="pt"
    )
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=5, do_sample=False, eos_token_id=-1)
    ids = out[0, inputs["input_ids"].shape[1] :]
    row = torch.cat([inputs["input_ids"][0], ids])
    targets = torch.full_like(row, batches.IGNORED)
    targets[-6:-1] = ids
    batch = batches.Batch(
        row[None],
        torch.ones_like(row)[None],
        torch.arange(len(row))[None],
        inputs["pixel_values"],
        targets[None],
    )
    with torch.inference_mode():
        right = batches.Right.judge(*batches.answer_logits(model, batch), batch)
        assert right.exact.tolist() == [True]
        batch.targets[0, -2] = (ids[-1] + 1) % small.VOCABULARY
        right = batches.Right.judge(*batches.answer_logits(model, batch), batch)
    assert right.exact.tolist() == [False] and right.tokens.tolist() == pytest.approx([0.8])


@pytest.mark.parametrize("family", ["scenes", "charts"])
def test_every_question_is_counted_once_in_all_and_once_in_its_kind(family):
    rows = evaluate.accuracy(
        small.build(6, seed=0).eval(), processor.processor(6), family, 60, grid=6, clauses=0
    )
    assert rows.pop("all")["n"] == 60 == sum(row["n"] for row in rows.values())


def test_learning_rate():
    stage = Stage("s", 6, 1, 64, 1, 250, 2e-3, {})
    assert train.rate(stage, 0) == pytest.approx(2e-3 / 50)
    assert train.rate(stage, 49) == pytest.approx(2e-3)
    assert train.rate(stage, 150) == pytest.approx(2e-3 * (0.05 + 0.95 * 0.5))
    assert train.rate(stage, 250) == pytest.approx(1e-4)
    assert math.isclose(max(train.rate(stage, step) for step in range(250)), 2e-3)


@pytest.mark.parametrize("shape", [(12, 12), (8, 30), (30, 8)])
def test_orthogonalised_has_the_singular_vectors_and_values_of_about_one(shape):
    """Against numpy's decomposition. The iteration aims at 0.7-1.2, not at 1."""
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    for before, after in zip(matrices, muon.orthogonalised(matrices), strict=True):
        u, _, v = np.linalg.svd(before.double().numpy(), full_matrices=False)
        inner = u.T @ after.double().numpy() @ v.T
        values = np.diag(inner)
        assert (values > 0.6).all() and (values < 1.25).all()
        assert np.abs(inner - np.diag(values)).max() < 1e-4


def test_muon_makes_the_steps_of_torchs():
    """torch's own, which computes in bf16, is near; so is Adam's step in size."""
    start = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    one = muon.Muon([ours], lr=0.1)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        gradient = torch.randn(16, 40, generator=torch.Generator().manual_seed(step + 1))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    assert (ours - theirs).abs().max() < 0.02 * (ours - start).abs().max()
    assert (ours - start).square().mean().sqrt() < 3 * 0.1


def test_every_weight_has_one_optimizer():
    model = small.build(6, seed=0)
    matrices, others = small.matrices(model)
    assert len({*matrices, *others}) == len(matrices) + len(others) == len([*model.parameters()])
    assert all(weight.dim() == 2 for weight in matrices)
    names = {name for name, weight in model.named_parameters() if weight in {*others}}
    assert {n for n in names if "norm" not in n and "bias" not in n} == {
        "lm_head.weight",
        "model.language_model.embed_tokens.weight",
        "model.vision_tower.embeddings.patch_embedding.weight",
        "model.vision_tower.embeddings.position_embedding.weight",
    }
