"""The chat template's share of a prompt, by which a question before the picture is told."""

import warnings

import checkpoint
import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from aircache_ext.hf import CompressedCache
from aircache_ext.hf.template import tokens_after_question


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("model"))


def test_tokens_after_the_question(folder, tmp_path):
    processor = AutoProcessor.from_pretrained(folder)
    assert tokens_after_question(processor) == len("\nassistant: ")  # a token a byte
    plain = AutoProcessor.from_pretrained(checkpoint.save(tmp_path, chat_template=None))
    assert tokens_after_question(plain) == 0


@pytest.mark.parametrize(("first", "warned"), [("question", True), ("image", False)])
def test_a_question_before_the_picture_is_warned_about(first, warned, folder):
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content if first == "image" else content[::-1]}],
        add_generation_prompt=True,
    )
    picture = checkpoint.picture()
    inputs = processor(images=picture, text=prompt, return_tensors="pt")
    with CompressedCache(model, processor=processor) as cache:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.generate(**inputs, past_key_values=cache, max_new_tokens=2)
    messages = [str(w.message) for w in caught if "Ask after the image" in str(w.message)]
    assert len(messages) == warned
