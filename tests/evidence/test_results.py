"""What is committed holds the records, and nothing by question."""

import json
from random import Random

import pytest

import results
from aircache_ext.evaluate import Record
from aircache_ext.evaluate.variants import METHODS
from lineup import variants
from results import Results
from store import PROFILE

LAYERS = 6
MAIN = variants("main")


def made(chosen):
    rng = Random(0)
    records, kept = [], []
    for family in ("forms", "charts"):
        for variant in chosen:
            scores = [float(rng.random() < 0.3 + 0.6 * variant.retention) for _ in range(200)]
            tokens = [rng.random() for _ in range(200)]
            records.append(Record(family, variant.name, variant.retention, scores, tokens))
            kept.append(variant.retention)
    profile = {name: [rng.random() for _ in range(LAYERS)] for name in PROFILE}
    kinds = {"forms": ["one", "some"] * 100, "charts": ["list"] * 200}
    return Results(records, kept, kinds, {"forms": profile, "charts": profile})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "new" / "evidence.json"
    given = made(variants("all"))
    results.write(given, {"grid": 12}, path)
    return given, path


def test_rows_are_the_records(written):
    given, path = written
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == len(given.records) == 2 * len(variants("all"))
    for row, record, kept in zip(rows, given.records, given.kept, strict=True):
        assert (row["family"], row["method"], row["retention"]) == (
            record.family,
            record.method,
            record.retention,
        )
        assert row["n"] == 200 and row["kept"] == kept
        assert row["accuracy"] == pytest.approx(sum(record.scores) / 200)
        assert row["token_accuracy"] == pytest.approx(sum(record.tokens) / 200, abs=1e-5)
        low, high = row["ci95"]
        assert low < row["accuracy"] < high


def test_differences_are_paired(written):
    given, path = written
    scores = {(r.family, r.method, r.retention): r.scores for r in given.records}
    found = json.loads(path.read_text())["differences"]
    wider = "AirCache, window last 16"
    assert {row["reference"] for row in found} == {"full cache", "AirCache", wider}
    methods = [row["method"] for row in found if row["reference"] == wider]
    assert sorted(methods) == sorted(2 * 6 * [*METHODS])  # its own ablations are not among them
    against = [row for row in found if row["reference"] == "AirCache"]
    assert len(against) == 2 * (len(variants("all")) - 2 - 6)
    for row in against:
        ours = scores[row["family"], row["method"], row["retention"]]
        theirs = scores[row["family"], "AirCache", row["retention"]]
        assert row["difference"] == pytest.approx((sum(ours) - sum(theirs)) / 200, abs=1e-5)


def test_kinds(written):
    given, path = written
    found = json.loads(path.read_text())["kinds"]
    assert {row["family"]: row["n"] for row in found} == {
        "charts, list": 200,
        "forms, one": 100,
        "forms, some": 100,
    }
    assert len(found) == 3 * len(variants("all"))
    record = next(r for r in given.records if (r.family, r.method) == ("forms", "SnapKV"))
    [row] = (
        row
        for row in found
        if (row["family"], row["method"], row["retention"])
        == ("forms, one", "SnapKV", record.retention)
    )
    assert row["accuracy"] == pytest.approx(sum(record.scores[::2]) / 100)
    assert "forms, some: accuracy in % on 100 questions" in path.with_suffix(".txt").read_text()


def test_it_is_small(written):
    _, path = written
    text = path.read_text()
    assert len(text) < 500_000  # two of five families
    assert text.count("\n") > 600 and max(map(len, text.split("\n"))) < 2000


def test_tables_and_plots(written):
    _, path = written
    text = path.with_suffix(".txt").read_text()
    for name in ("full cache", "no visual", *METHODS):
        assert text.count(f"\n{name} ") >= 2
    for changed in ("window", "budgets", "heads", "alpha"):
        assert f"forms, {changed}: accuracy" in text
    for name in ("evidence.png", "evidence_layers.png"):
        assert path.with_name(name).read_bytes().startswith(b"\x89PNG")


def test_a_family_of_which_only_controls_were_asked(tmp_path):
    given = made(MAIN)
    unknown = [
        Record("pairs", name, share, [float(share)] * 50, [0.5] * 50)
        for name, share in (("full cache", 1.0), ("no visual", 0.0))
    ]
    kinds = given.kinds | {"pairs": ["list"] * 50}
    both = Results(given.records + unknown, [*given.kept, 1.0, 0.0], kinds, given.profile)
    results.write(both, {}, tmp_path / "both.json")
    assert "pairs: accuracy in % on 50 questions" in (tmp_path / "both.txt").read_text()
    results.write(given, {}, tmp_path / "known.json")  # the plot shows what was compared
    assert (tmp_path / "both.png").read_bytes() == (tmp_path / "known.png").read_bytes()
    results.write(Results(unknown, [1.0, 0.0], kinds, given.profile), {}, tmp_path / "none.json")
    assert not (tmp_path / "none.png").exists()


def test_ablations_are_left_out_where_they_were_not_run(tmp_path):
    results.write(made(MAIN), {}, tmp_path / "main.json")
    assert "window: accuracy" not in (tmp_path / "main.txt").read_text()
