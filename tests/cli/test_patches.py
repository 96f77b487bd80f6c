"""Where visual tokens lie in a picture, worked out by hand."""

import torch
from PIL import Image

from aircache_ext.cli.patches import Grid, grid_of, kept_cells, kept_tokens, seen_part


def test_a_grid_from_merged_patches():
    inputs = {"image_grid_thw": torch.tensor([[1, 6, 8]])}
    assert grid_of(inputs, 12) == Grid(3, 4, on_photo=True)  # 2 x 2 patches a token
    assert grid_of(inputs, 48) == Grid(6, 8, on_photo=True)


def test_a_square():
    assert grid_of({}, 49) == Grid(7, 7, on_photo=True)


def test_tokens_of_unknown_places():
    assert grid_of({}, 50) == Grid(7, 8, on_photo=False)
    two = {"image_grid_thw": torch.tensor([[1, 4, 6], [1, 4, 4]])}
    assert grid_of(two, 10) == Grid(3, 4, on_photo=False)


def test_cells_of_the_survivors():
    # Text at 0 and 6, visual tokens at 1 to 5; 7 was said later.
    visual = torch.tensor([0, 1, 1, 1, 1, 1, 0]).bool()
    positions = torch.tensor([[-1, 0, 2, 5, 6, 7], [-1, 0, 2, 3, 6, 7]])  # of two heads
    assert kept_cells(positions, visual, Grid(2, 3, on_photo=False)) == [
        [False, True, True],
        [False, True, False],  # the last cell is of no token
    ]
    assert kept_tokens(positions, visual) == 2


def test_what_a_center_crop_leaves():
    class Crops:
        do_center_crop = True

    photo = Image.new("RGB", (10, 4), "red")
    photo.paste("blue", (3, 0, 7, 4))
    seen = seen_part(photo, Crops())
    assert seen.size == (4, 4) and seen.getcolors() == [(16, (0, 0, 255))]
    assert seen_part(photo, object()) is photo
