"""``python -m aircache_ext evaluate`` from a checkpoint and a file to table, JSON and plot."""

import importlib.util
import json
import re
from collections import Counter

import checkpoint
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from aircache_ext import cli, methods
from aircache_ext.evaluate.variants import METHODS, Variant, variants
from aircache_ext.hf import CompressedCache
from aircache_ext.hf import checkpoint as from_disk

TOKENS = 5
QUESTIONS = {  # by id: family, pictures, question
    "a": ("docs", 1, "What is on it?"),
    "b": ("docs", 2, "Which of the two is the brighter one?"),
    "c": ("charts", 1, "How many?"),
    "d": ("docs", 1, "A rather long question, so that the others of its batch are padded."),
    "e": ("charts", 1, "Why so?"),
}
SHARES = (0.5, 0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, (_, count, _) in QUESTIONS.items():
        for place in range(count):
            checkpoint.picture().save(folder / f"{name}{place}.png")
    return folder


@pytest.fixture(scope="module")
def expected(model, pictures):
    """What is answered to each question alone, by (id, method, retention)."""
    network = AutoModelForImageTextToText.from_pretrained(model).eval()
    processor = AutoProcessor.from_pretrained(model)

    def ask(inputs, **cache):
        ids = network.generate(**inputs, **cache, max_new_tokens=TOKENS, do_sample=False)
        ids = ids[0, inputs["input_ids"].shape[1] :]
        return processor.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def ask_blind(inputs):
        """The picture is read, and then masked."""
        seen = (inputs["input_ids"] != network.config.image_token_id).long()
        out = network(**inputs, use_cache=True)
        ids, one = [], torch.ones(1, 1, dtype=torch.long)
        for place in range(seen.shape[1], seen.shape[1] + TOKENS):
            ids.append(out.logits[:, -1:].argmax(-1))
            seen = torch.cat([seen, one], 1)
            out = network(
                input_ids=ids[-1],
                attention_mask=seen,
                position_ids=place * one,
                past_key_values=out.past_key_values,
            )
        return processor.tokenizer.decode(torch.cat(ids, 1)[0], skip_special_tokens=True).strip()

    answers = {}
    for name, (_, count, text) in QUESTIONS.items():
        images = [Image.open(pictures / f"{name}{place}.png") for place in range(count)]
        prompt = "user: " + "<image>\n" * count + text + "assistant: "
        inputs = processor(images=[images], text=[prompt], return_tensors="pt")
        answers[name, "full cache", 1.0] = ask(inputs)
        answers[name, "no visual", 0.0] = ask_blind(inputs)
        for method, share in ((m, s) for m in ("AirCache", "VL-Cache") for s in SHARES):
            chosen = methods.AirCache() if method == "AirCache" else methods.VLCache()
            with CompressedCache(network, retention=share, method=chosen) as cache:
                answers[name, method, share] = ask(inputs, past_key_values=cache)
    return answers


@pytest.fixture(scope="module")
def questions(pictures, expected):
    """The file. Gold answers are those over the full cache, but for a and c."""
    path = pictures / "questions.jsonl"
    rows = []
    for name, (family, count, text) in QUESTIONS.items():
        right = expected[name, "full cache", 1.0]
        row = {"id": name, "family": family, "question": text, "answers": ["no such answer", right]}
        row["image"] = [f"{name}{place}.png" for place in range(count)]
        if name in "ac":
            row["answers"] = ["no such answer"]
        if name == "c":
            row |= {"metric": "anls", "answers": [right + right[:1]]}
        rows.append(row)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def evaluate(model, questions, out, *options):
    arguments = ["evaluate", "--model", model, "--data", questions, "--out", out]
    arguments += ["--max-new-tokens", TOKENS, "--device", "cpu"]
    arguments += ["--method", "AirCache", "VLCache", "--retention", 1, *SHARES, *options]
    return cli.main([str(argument) for argument in arguments])


def stored(out):
    first, *rows = map(json.loads, (out / "answers.jsonl").read_text().splitlines())
    return first, {(row["id"], row["method"], row["retention"]): row["answer"] for row in rows}


def results(out):
    return json.loads((out / "results.json").read_text())


def test_from_the_files_to_the_table(model, questions, expected, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert evaluate(model, questions, out, "--batch", "2") == 0
    assert stored(out)[1] == expected
    assert len(set(expected.values())) > len(QUESTIONS)  # caches do make a difference here

    found = results(out)
    rows = {(row["family"], row["method"], row["retention"]): row for row in found["rows"]}
    full = "full cache", 1.0
    length = len(expected[("c", *full)])
    assert rows[("docs", *full)]["accuracy"] == pytest.approx(2 / 3)
    assert rows[("charts", *full)]["accuracy"] == pytest.approx((length / (length + 1) + 1) / 2)
    for method, share in ((m, s) for m in ("AirCache", "VL-Cache") for s in SHARES):
        right = sum(expected[name, method, share] == expected[(name, *full)] for name in "bd")
        row = rows["docs", method, share]
        assert row["accuracy"] == pytest.approx(right / 3) and row["n"] == 3
        assert row["token_accuracy"] is None and row["ci95"][0] <= row["accuracy"] < 1
    assert len(rows) == 2 * 6
    references = Counter(d["reference"] for d in found["differences"])
    assert references == {"full cache": 10, "AirCache": 4}
    settings = found["settings"]
    assert settings["command"].startswith("python -m aircache_ext evaluate --model ")
    assert settings["max_new_tokens"] == TOKENS and settings["model"] == str(model)
    assert settings["versions"]["torch"] == torch.__version__

    said = capsys.readouterr().out
    assert "30 answers, 0 of them there already" in said and "30 of 30 answers" in said
    table = said[said.index("docs: accuracy in % on 3 questions") :].splitlines()
    assert re.fullmatch(r" +100 % +50 % +10 % +0 %", table[1])
    assert re.fullmatch(r"full cache +66\.7", table[2])
    line = [f"{100 * rows['docs', 'VL-Cache', share]['accuracy']:.1f}" for share in SHARES]
    assert table[5].split() == ["VL-Cache", *line]
    blind = f"{100 * rows['docs', 'no visual', 0.0]['accuracy']:.1f}"
    assert table[3].split() == ["no", "visual", blind]
    assert "charts: minus full cache" in said and "docs: minus AirCache" in said
    plot = Image.open(out / "accuracy.png")
    assert plot.width > plot.height > 500  # two panels, side by side


def test_an_interrupted_run_goes_on(model, questions, expected, tmp_path, capsys, monkeypatch):
    assert evaluate(model, questions, tmp_path, "--limit", "2") == 0
    path = tmp_path / "answers.jsonl"
    before = path.read_text().splitlines()
    assert len(before) == 1 + 2 * 6
    path.write_text("\n".join(before[:-1]) + "\n" + before[-1][:20])  # stopped while writing
    assert evaluate(model, questions, tmp_path, "--batch", "2") == 0
    after = path.read_text().splitlines()
    assert after[: len(before) - 1] == before[:-1]
    assert stored(tmp_path)[1] == expected
    assert "30 answers, 11 of them there already" in capsys.readouterr().out

    monkeypatch.setattr(from_disk, "load", None)  # nothing is left to ask
    first = results(tmp_path)
    assert evaluate(model, questions, tmp_path) == 0
    again = results(tmp_path)
    assert again["rows"] == first["rows"] and again["differences"] == first["differences"]
    assert (
        evaluate(model, questions, tmp_path, "--metric", "anls") == 0
    )  # the answers do not change
    assert results(tmp_path)["rows"] != first["rows"]


def test_without_a_chat_template(questions, tmp_path):
    plain = checkpoint.save(tmp_path / "model", chat_template=None)
    out = tmp_path / "out"
    assert evaluate(plain, questions, out, "--batch", "5", "--retention", "1") == 0
    answers = stored(out)[1]
    network = AutoModelForImageTextToText.from_pretrained(plain).eval()
    processor = AutoProcessor.from_pretrained(plain)
    images = [Image.open(questions.with_name(f"b{place}.png")) for place in range(2)]
    text = "<image>\n<image>\n" + QUESTIONS["b"][2]
    inputs = processor(images=images, text=text, return_tensors="pt")
    ids = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    said = processor.tokenizer.decode(
        ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert answers["b", "full cache", 1.0] == said.strip()


def told(capsys):
    return capsys.readouterr().out.partition("aircache_ext evaluate: ")[2]


def test_answers_of_other_settings_are_not_mixed(model, questions, tmp_path, capsys):
    one = ("--limit", "1", "--retention", "1")
    assert evaluate(model, questions, tmp_path, *one) == 0
    before = (tmp_path / "answers.jsonl").read_text()
    assert evaluate(model, questions, tmp_path, *one, "--max-new-tokens", "3") == 1
    assert re.search(r'has answers of .*"max_new_tokens": 5.* these are of .*: 3', told(capsys))
    other = questions.with_name("other.jsonl")
    first = json.loads(questions.read_text().splitlines()[0])
    other.write_text(json.dumps(first | {"question": "Another?"}))
    assert evaluate(model, other, tmp_path, *one) == 1
    assert "an answer to 'What is on it?' as id 'a', which is now 'Another?'" in told(capsys)
    assert (tmp_path / "answers.jsonl").read_text() == before


def test_answers_about_other_pictures_are_not_mixed(model, tmp_path, capsys, monkeypatch):
    """Two lines that differ in their picture alone, and whose ids are the lines' numbers."""
    out, one = tmp_path / "out", ("--retention", "1")
    (tmp_path / "there").mkdir()
    for name in ("a.png", "b.png"):
        checkpoint.picture().save(tmp_path / "there" / name)
    lines = [
        json.dumps({"image": name, "question": "What is shown?", "answer": "x"})
        for name in ("a.png", "b.png")
    ]
    (tmp_path / "there" / "pairs.jsonl").write_text("\n".join(lines))
    assert evaluate(model, tmp_path / "there" / "pairs.jsonl", out, *one) == 0

    monkeypatch.setattr(from_disk, "load", None)  # nothing is asked from here on
    moved = (tmp_path / "there").rename(tmp_path / "moved")
    assert evaluate(model, moved / "pairs.jsonl", out, *one) == 0
    before = (out / "answers.jsonl").read_text()
    (moved / "pairs.jsonl").write_text("\n".join(reversed(lines)))
    assert evaluate(model, moved / "pairs.jsonl", out, *one) == 1
    assert re.search(r"What is shown\?' as id '1' about other pictures than \S+b.png", told(capsys))
    (moved / "pairs.jsonl").write_text("\n".join(lines))
    checkpoint.picture().save(moved / "b.png")  # another one under the same name
    assert evaluate(model, moved / "pairs.jsonl", out, *one) == 1
    assert re.search(r"as id '2' about other pictures than \S+b.png", told(capsys))
    assert (out / "answers.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--retention", "0"), "retention is 0.0 but must be in (0, 1]"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--model", "."), "processing class"),  # no checkpoint lies here
        (("--batch", "0"), "batch is 0 but must be at least 1"),
        (("--limit", "0"), "limit is 0 but must be at least 1"),
    ],
)
def test_mistakes_are_told(options, message, model, questions, tmp_path, capsys):
    assert evaluate(model, questions, tmp_path, *options) == 1
    assert message in told(capsys)


def test_what_is_not_installed_is_told_first(model, questions, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    hidden = ("matplotlib", "PIL")
    monkeypatch.setattr(importlib.util, "find_spec", lambda x: None if x in hidden else find(x))
    assert evaluate(model, questions, tmp_path / "out") == 1
    assert told(capsys) == "it needs Pillow, matplotlib: pip install 'aircache_ext[demo]'\n"
    assert not (tmp_path / "out").exists()


def test_every_method_has_a_name():
    """The name that the paper gave it: the class's, but for a hyphen."""
    classes = [getattr(methods, name) for name in methods.__all__]
    expected = {c for c in classes if issubclass(c, methods.Method) and c is not methods.Method}
    assert {type(method) for method in METHODS.values()} == expected
    assert all(name.replace("-", "") == type(m).__name__ for name, m in METHODS.items())


def test_variants():
    assert variants(["SnapKV", "AirCache"], [0.1, 1, 0.5, 0.1]) == [
        Variant("full cache", 1.0),
        Variant("no visual", 0.0),
        Variant("AirCache", 0.5),
        Variant("AirCache", 0.1),
        Variant("SnapKV", 0.5),
        Variant("SnapKV", 0.1),
    ]
