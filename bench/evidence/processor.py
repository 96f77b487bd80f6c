"""Tokenizer and processor: real ones of transformers, made from a list of words.

A lower-case word is one token, with or without the space before it; every digit and every capital
letter is a token of its own. So values that stand in a picture are spelled, and what is said about
them costs as many tokens as it would with a large vocabulary.
"""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import paper

# One word a line. Append only: a token's number is its place in the list.
WORDS = Path(__file__).with_name("words.txt")

SPECIAL = ["<pad>", "<unk>", "<|start|>", "<|end|>", "<image>"]
PAD, UNKNOWN, START, END, IMAGE = range(len(SPECIAL))
SINGLE = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PUNCTUATION = ["\n", " ", ".", ",", "?", ":", ";", "!", "-", '"', ' "', "'", "(", ")", " ("]
PIECE = Regex(r""" ?[a-z]+| ?[A-Z0-9]| ?["(]|.|\n""")

SYSTEM = "<|start|>system\nyou are a helpful assistant who looks at pictures and answers.<|end|>\n"
PICTURES = SYSTEM + "<|start|>user\n{images}\n"
QUESTION = "{instruction}<|end|>\n<|start|>assistant\n"
TEMPLATE = (
    SYSTEM + "{% for message in messages %}<|start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def vocabulary() -> list[str]:
    words = WORDS.read_text().split()
    pieces = [*SINGLE, *words]
    return [*SPECIAL, *PUNCTUATION, *(p for piece in pieces for p in (piece, " " + piece))]


def tokenizer() -> PreTrainedTokenizerFast:
    numbers = {token: number for number, token in enumerate(vocabulary())}
    fast = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Split(PIECE, "isolated")
    fast.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def processor(grid: int) -> LlavaProcessor:
    """For pictures of ``grid`` x ``grid`` patches; others are resized to that."""
    size = {"height": grid * paper.PATCH, "width": grid * paper.PATCH}
    return LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size=size),
        tokenizer=tokenizer(),
        patch_size=paper.PATCH,
        vision_feature_select_strategy="full",
        image_token="<image>",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )


def pictures(images: int) -> str:
    """A prompt's beginning: what the assistant is told, and ``images`` pictures."""
    return PICTURES.format(images="\n".join(["<image>"] * images))


def question(instruction: str) -> str:
    """The rest of it."""
    return QUESTION.format(instruction=instruction)


def prompt(instruction: str, images: int = 1) -> str:
    """What the chat template makes of ``images`` pictures and an instruction."""
    return pictures(images) + question(instruction)
