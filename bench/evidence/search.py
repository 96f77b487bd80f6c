"""Search: what has to be sought all over a picture, a scene or a chart.

What has some colour, where the things of some shape are, which bar is the highest or the lowest.
"""

from random import Random

from PIL import Image

import charts
import scenes
from charts import Chart
from questions import Question
from scenes import Scene

OF_COLOUR = ["list all {} objects in reading order", "which objects are {}?"]
WHERE = ["where is {}?", "in which row and which column is {}?"]
HIGHEST = ["which bar has the highest value?", "what is the largest value, and which bar has it?"]
LOWEST = ["which bar has the lowest value?", "what is the smallest value, and which bar has it?"]
KINDS = ("of colour", "where", "extreme")


def sample(rng: Random, grid: int) -> Scene | Chart:
    """Two of three are scenes."""
    return (scenes, scenes, charts)[rng.randrange(3)].sample(rng, grid)


def draw(picture: Scene | Chart) -> list[Image.Image]:
    return (charts if isinstance(picture, Chart) else scenes).draw(picture)


def ask(rng: Random, picture: Scene | Chart) -> Question:
    return _extreme(rng, picture) if isinstance(picture, Chart) else _things(rng, picture)


def _things(rng: Random, scene: Scene) -> Question:
    if rng.random() < 0.5 and scene.unique:
        things = scenes.some(rng, scene.unique)
        answer = ", ".join(f"the {t.shape} is in row {t.row}, column {t.column}" for t in things)
        return Question("where", rng.choice(WHERE).format(scenes.named(things)), answer)
    colour = rng.choice(scene.things).colour
    found = [thing.name for thing in scene.things if thing.colour == colour]
    return Question("of colour", rng.choice(OF_COLOUR).format(colour), ", ".join(found))


def _extreme(rng: Random, chart: Chart) -> Question:
    """All bars that are as long."""
    texts, extreme = rng.choice(((HIGHEST, max), (LOWEST, min)))
    value = extreme(bar.value for bar in chart.bars)
    found = [bar for bar in chart.bars if bar.value == value]
    return Question("extreme", rng.choice(texts), charts.told(found))
