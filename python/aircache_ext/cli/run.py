"""A local checkpoint answers a question about a picture, over a compressed cache."""

from __future__ import annotations

import argparse
from pathlib import Path

try:
    from aircache_ext.hf.picture import open_picture
except ModuleNotFoundError as error:
    raise ImportError("it needs Pillow: pip install 'aircache_ext[hf]'") from error

from transformers import Cache, DynamicCache

from aircache_ext.cli import page, picture, table
from aircache_ext.cli.ask import ask, read_once, tell
from aircache_ext.cli.story import Answer, Poster, Story, percent
from aircache_ext.evaluate.variants import METHODS
from aircache_ext.hf import CompressedCache
from aircache_ext.hf.checkpoint import load, read


def main(options: argparse.Namespace) -> None:
    photo = open_picture(options.image)
    _say(f"reading {options.model} ...")
    model, processor = load(options.model, options.device, options.dtype)
    inputs = read(processor, [[photo]], [options.prompt]).to(model.device, model.dtype)

    def ask_over(name: str, cache: Cache) -> Answer:
        _say(f"\n[{name}]")
        return ask(model, processor.tokenizer, inputs, cache, options.max_new_tokens)

    full = None
    if options.compare:
        read_once(model, inputs)
        full = ask_over("full cache", DynamicCache(config=model.config))
    with CompressedCache(
        model,
        retention=options.retention,
        budget=options.budget,
        method=None if options.method == "AirCache" else METHODS[options.method],
        alpha=options.alpha,
        heads=options.heads,
        processor=processor,
    ) as cache:
        compressed = ask_over("compressed cache", cache)
        story = tell(model, processor, options.prompt, photo, inputs, cache, compressed, full)
        print(f"\n{cache.report()}")
    print(summary(story))
    write(Poster(f"What {story.model} kept of a picture", [lead(story)], [story]), options.output)


def summary(story: Story) -> str:
    """What the answers cost, side by side, where there are two."""
    if story.full is None:
        return table.costs(story)
    same = "the same answer" if story.full.text == story.compressed.text else "the answers differ"
    return f"{table.costs(story)}\n{same}"


def lead(story: Story) -> str:
    return (
        f"Of {story.visual_tokens:,} visual tokens in each of {len(story.kept)} layers "
        f"{percent(story.share)} stay, and all {story.text_tokens:,} of text."
    )


def write(poster: Poster, output: Path) -> None:
    """The same twice, as PNG and as HTML page; ``output`` is their path without ending."""
    output.parent.mkdir(parents=True, exist_ok=True)
    png, html = (output.with_name(f"{output.name}.{ending}") for ending in ("png", "html"))
    picture.draw(poster).save(png)
    html.write_text(page.render(poster), encoding="utf-8")
    print(f"\nwhat every layer kept: {png}, {html}")


def _say(text: str) -> None:
    print(text, flush=True)
