"""Tokenizer and processor: text comes back as it was, and files give the same as the code."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

import dataset
import processor


@pytest.fixture(scope="module")
def tokenizer():
    return processor.tokenizer()


@pytest.mark.parametrize("family", dataset.FAMILIES)
def test_all_that_is_said_comes_back(tokenizer, family):
    for index in range(150):
        example = dataset.example(family, "test", index)
        for text in (example.instruction, example.answer):
            ids = tokenizer(text).input_ids
            assert processor.UNKNOWN not in ids, text
            assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("family", dataset.FAMILIES)
def test_lengths(tokenizer, family):
    """Instructions are mostly beside the point, answers long enough to return to the picture."""
    examples = [dataset.example(family, "test", index) for index in range(300)]
    instructions = np.array([len(tokenizer(e.instruction).input_ids) for e in examples])
    answers = np.array([len(tokenizer(e.answer).input_ids) for e in examples])
    assert 20 < np.median(instructions) and instructions.max() < 75
    assert answers.min() >= 2 and answers.mean() > 6 and 15 < answers.max() <= 45


def test_values_are_spelled_and_words_are_whole(tokenizer):
    ids = tokenizer("the price is 4K").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["the", " price", " is", " 4", "K"]


def test_vocabulary_has_no_doubles_and_fits_the_model():
    import model

    assert len(set(processor.vocabulary())) == len(processor.vocabulary()) <= model.VOCABULARY
    assert processor.vocabulary()[processor.IMAGE] == "<image>"


def test_files_give_the_same_as_the_code(tmp_path):
    made = processor.processor(12)
    made.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    example = dataset.example("pairs", "test", 0)
    text = processor.prompt(example.instruction, images=2)
    one, other = (
        p(images=[example.images], text=[text], return_tensors="pt") for p in (made, loaded)
    )
    assert int((one["input_ids"] == processor.IMAGE).sum()) == 2 * 144
    for name in one:
        assert torch.equal(one[name], other[name])
    talk = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": example.instruction}]
    turn = [{"role": "user", "content": talk}]
    assert loaded.apply_chat_template(turn, add_generation_prompt=True) == text


def test_pictures_of_the_models_size_are_not_resampled():
    example = dataset.example("scenes", "test", 0)
    pixels = processor.processor(dataset.GRID)(
        images=example.images, text=processor.prompt("hello"), return_tensors="pt"
    )["pixel_values"]
    expected = np.asarray(example.images[0]).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(pixels[0].numpy(), expected, atol=1e-6)
