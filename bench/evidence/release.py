"""Makes a trained model ready to be shipped: half precision, its processor, its model card.

    python bench/evidence/release.py --training FOLDER --out bench/evidence/weights

The card's numbers are measured on the way, with the weights as they are shipped.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

import batches
import evaluate
import train
from plan import PLAN

CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# A small vision-language model for measuring KV-cache compression

{weights:,} weights, a `LlavaForConditionalGeneration`: SigLIP tower with learned positions (2
layers, patches of 8 pixels), Llama decoder ({layers} layers, {heads} query heads over {kv_heads} KV
heads). A picture is {side} x {side} pixels and {visual} visual tokens. It was trained from random
weights with `bench/evidence/train.py`, on pictures that a program draws (scenes of coloured shapes,
forms, bar charts), and knows nothing else: it is there so that what a compressed cache loses can be
measured with a model whose answers mean something.

```python
from transformers import AutoProcessor, LlavaForConditionalGeneration

model = LlavaForConditionalGeneration.from_pretrained(FOLDER, dtype="float32")
processor = AutoProcessor.from_pretrained(FOLDER)
```

It reads lower-case English of {words} words; digits and capital letters are tokens of their own.

## Accuracy over the full cache

Test pictures, none of which is a training picture; the weights in half precision, computed in fp32.

| family | question | n | exact answers | tokens |
|---|---|---:|---:|---:|
{rows}

`exact`: greedy decoding gives the whole answer to the last token. `tokens`: share of an answer's
tokens that are right when those before them are given, the mean over answers.
"""


SAMPLE = 50  # questions per family that a test asks again


def first_losses(steps: int = 3) -> list[float]:
    """Of a training that begins anew."""
    training, batches_of = train.Training(PLAN), train.Steps(PLAN[0])
    return [training.advance(batches_of[step])[0] for step in range(steps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=Path, required=True, help="train.py's folder")
    parser.add_argument("--stage", default=PLAN[-1].name)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)

    stage = next(stage for stage in PLAN if stage.name == options.stage)
    trained = options.training / stage.name
    model = LlavaForConditionalGeneration.from_pretrained(trained)
    process = AutoProcessor.from_pretrained(trained)
    model.half().save_pretrained(options.out)
    process.save_pretrained(options.out)
    model = LlavaForConditionalGeneration.from_pretrained(options.out, dtype=torch.float32).eval()

    vision, text = model.config.vision_config, model.config.text_config
    results = {
        family: evaluate.accuracy(
            model, process, family, options.questions, stage.grid, stage.clauses
        )
        for family in stage.mix
    }
    record = {
        "stage": stage.name,
        "grid": stage.grid,
        "clauses": stage.clauses,
        "first_losses": first_losses(),
        "accuracy": results,
        "sample": {
            family: evaluate.accuracy(model, process, family, SAMPLE, stage.grid, stage.clauses)
            for family in stage.mix
        },
    }
    (options.out / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    card = CARD.format(
        weights=batches.parameters(model),
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        side=vision.image_size,
        visual=stage.grid**2,
        words=sum(token.isalpha() and token.islower() for token in process.tokenizer.get_vocab()),
        rows="\n".join(
            f"| {family} | {kind} | {row['n']} | {row['exact']:.1%} | {row['tokens']:.1%} |"
            for family, kinds in results.items()
            for kind, row in kinds.items()
        ),
    )
    (options.out / "README.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
