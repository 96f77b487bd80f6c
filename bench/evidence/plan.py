"""How the model is trained: stages of growing pictures, longer instructions, more families.

Looking is learned where there is little to look at: on 6 x 6 patches and short instructions. The
learned positions are then interpolated, and a few hundred steps on the large pictures suffice. In
the end pictures are of several sizes, so that nothing can be had from how many patches are empty.
"""

from dataclasses import dataclass

SEED = 0


@dataclass(frozen=True)
class Stage:
    name: str
    grid: int  # patches a side
    clauses: int  # at most so many that do not matter in an instruction
    pictures: int  # a step
    questions: int  # about each of them
    steps: int
    peak: float  # learning rate
    mix: dict[str, int]  # family: its share of the examples
    grids: tuple[int, ...] = ()  # the pictures of a step have one of these sizes; none: grid


SIZES = (12, 14, 16, 18, 20)  # patches a side

# Each family is learned almost alone, a little of what is known already kept in hand, then all
# together: what has to be looked up by its name is hardly learned among other things. Reading
# wants many pictures; a large one has enough on it for several questions.
LOOKING = {"scenes": 5, "search": 3, "forms": 1, "charts": 1}
PLAN = [
    Stage("scenes-6", 6, 1, 64, 1, 450, 3e-3, {"scenes": 5, "search": 3}),
    Stage("look-6", 6, 2, 64, 1, 600, 3e-3, {"scenes": 5, "search": 3}),
    Stage("forms-6", 6, 2, 64, 1, 600, 3e-3, {"scenes": 1, "forms": 7}),
    Stage("charts-6", 6, 2, 64, 1, 300, 3e-3, {"scenes": 1, "forms": 1, "charts": 6}),
    Stage("all-6", 6, 2, 64, 1, 400, 3e-3, {"scenes": 5, "search": 3, "forms": 2, "charts": 2}),
    Stage("scenes-12", 12, 4, 16, 4, 400, 3e-3, LOOKING),
    Stage("forms-12", 12, 4, 16, 4, 600, 3e-3, {"scenes": 1, "forms": 6, "charts": 1}),
    Stage("look-12", 12, 4, 16, 4, 500, 3e-3, LOOKING),
    Stage("all-12", 12, 4, 16, 4, 1200, 3e-3, {"scenes": 7, "search": 4, "forms": 9, "charts": 2}),
    Stage("grow-18", 18, 4, 16, 4, 600, 3e-3, {"scenes": 9, "forms": 7}, SIZES),
    Stage("read-18", 18, 4, 16, 4, 700, 3e-3, {"scenes": 9, "forms": 6, "charts": 1}, SIZES),
    Stage("all-18", 18, 4, 16, 4, 600, 2e-3, {"scenes": 4, "forms": 8, "charts": 4}, SIZES),
    Stage("last-18", 18, 4, 16, 4, 400, 2e-3, {"scenes": 7, "forms": 8, "charts": 1}, SIZES),
    Stage("end-18", 18, 4, 16, 4, 200, 1e-3, {"scenes": 8, "forms": 8, "charts": 1}, SIZES),
    Stage("charts-18", 18, 4, 16, 4, 300, 3e-3, {"scenes": 3, "forms": 3, "charts": 10}, SIZES),
    Stage("known-18", 18, 4, 16, 4, 500, 3e-3, {"scenes": 4, "forms": 5, "charts": 7}, SIZES),
    Stage("done-18", 18, 4, 16, 4, 450, 2e-3, {"scenes": 6, "forms": 5, "charts": 5}, SIZES),
]
