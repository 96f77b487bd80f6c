"""How much of a prompt's end is the chat template's."""

from typing import Any


def tokens_after_question(processor: Any) -> int:
    """Tokens that the chat template puts after a user's last word, up to the answer.

    Told by a message that is a picture and nothing else. 0 without a template, or for a processor
    that does not name its image token.
    """
    image = getattr(processor, "image_token", None)
    if image is None or not getattr(processor, "chat_template", None):
        return 0
    message = {"role": "user", "content": [{"type": "image"}]}
    prompt = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    after = prompt.rpartition(image)[2]
    return len(processor.tokenizer(after, add_special_tokens=False)["input_ids"])
