"""``python -m aircache_ext run`` on a checkpoint from disk."""

import re

import checkpoint
import pytest
from PIL import Image
from PIL.ExifTags import Base

from aircache_ext import cli
from aircache_ext.cli import page
from html_page import Page

QUESTION = "What is on <the> picture?"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    checkpoint.picture().save(path)
    return path


def run(model, photo, *options):
    arguments = ["run", "--model", model, "--image", photo, "--prompt", QUESTION]
    arguments += ["--max-new-tokens", "12", "--device", "cpu", *options]
    return cli.main([str(argument) for argument in arguments])


def test_both_answers_and_what_was_kept(model, photo, tmp_path, capsys):
    output = tmp_path / "new" / "kept"
    assert run(model, photo, "--compare", "--retention", "0.25", "--output", output) == 0
    said = capsys.readouterr().out
    assert said.index("[full cache]") < said.index("[compressed cache]")
    assert re.search(r"layer +tokens kept of", said)

    text = output.with_name("kept.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.figures == 3 and page.outside == []
    assert sum(page.dropped) == 3 * 64 - 48  # a quarter of three layers of 64 stays
    assert "What is on &lt;the&gt; picture?" in text and "<the>" not in text
    assert [entry.name for entry in page.entries] == ["full cache", "at 25 %"]
    assert [entry.mark for entry in page.entries] == ["", ""]  # nobody knows what is right
    picture = Image.open(output.with_name("kept.png"))
    assert picture.width > 1000


def test_keeping_everything_changes_nothing(model, photo, tmp_path, capsys):
    output = tmp_path / "kept"
    assert run(model, photo, "--compare", "--retention", "1", "--output", output) == 0
    assert "the same answer" in capsys.readouterr().out
    assert Page(output.with_name("kept.html").read_text(encoding="utf-8")).dropped == [0, 0, 0]


def test_a_budget_without_a_chat_template(photo, tmp_path, capsys):
    plain = checkpoint.save(tmp_path / "model", chat_template=None)
    assert run(plain, photo, "--budget", "5", "--output", tmp_path / "kept") == 0
    page = Page((tmp_path / "kept.html").read_text(encoding="utf-8"))
    assert sum(page.dropped) == 3 * (64 - 5)
    assert "the same answer" not in capsys.readouterr().out  # nothing to compare with


def test_another_method(model, photo, tmp_path):
    """Of 64 visual tokens, every fourth, in each layer."""
    output = tmp_path / "kept"
    assert run(model, photo, "--method", "Uniform", "--retention", "0.25", "--output", output) == 0
    assert Page(output.with_name("kept.html").read_text(encoding="utf-8")).dropped == [48, 48, 48]


@pytest.mark.parametrize("name", ["VL-Cache", "VLCache"])
def test_a_method_goes_by_its_name_and_its_class(name):
    asked = ["run", "--model", "m", "--image", "i", "--prompt", "p", "--method", name]
    assert cli.parse(asked).method == "VL-Cache"


def test_a_picture_is_turned_as_its_camera_was_held(model, tmp_path, monkeypatch):
    """The left half is black, and marked "turn me a quarter clockwise"."""
    stored = Image.new("RGB", (32, 32), "white")
    stored.paste("black", (0, 0, 16, 32))
    turned = Image.Exif()
    turned[Base.Orientation] = 6
    stored.save(tmp_path / "photo.png", exif=turned)
    shown = []
    monkeypatch.setattr(page, "render", lambda poster: shown.append(poster.stories[0].photo) or "")
    assert run(model, tmp_path / "photo.png", "--output", tmp_path / "kept") == 0
    (photo,) = shown
    assert photo.getpixel((24, 8)) == (0, 0, 0) and photo.getpixel((8, 24)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--retention", "0"), "retention"),
        (("--retention", "0.5", "--budget", "3"), "budget"),
        (("--method", "SnapKV", "--alpha", "0.5"), "alpha is 0.5 and method is SnapKV"),
        (("--image", "nowhere.jpg"), "nowhere.jpg"),
        (("--model", "."), "processing class"),  # no checkpoint lies here
    ],
)
def test_mistakes_are_told(options, message, model, photo, capsys):
    assert run(model, photo, *options) == 1
    told = capsys.readouterr().out.partition("aircache_ext run: ")[2]
    assert message in told
