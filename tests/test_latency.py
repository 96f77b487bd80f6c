"""The latency benchmark at toy size, on a CPU: what its rows carry, and that it goes on."""

from __future__ import annotations

import json

import pytest

from in_bench import run

pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

TOO_MUCH = 10**17  # tokens: no address space holds them

# The benchmark is run again and again in one process: what each run gave, and what is reckoned.
STORY = """
import json
import sys
from pathlib import Path

import latency
import latency_piece
from latency_table import ideal_saving, largest_batches, paper_saving, weights, with_savings

path, too_much = Path(sys.argv[1]), sys.argv[2]
measure, measured, runs, failing = latency_piece.measure, [], [], False
refused, tries, found = None, [], []


def watched(setup, piece):
    measured.append([piece.form, piece.batch])
    if failing:
        raise ValueError("planted")
    return measure(setup, piece)


def run(*options):
    measured.clear()
    sys.argv = ["latency.py", "--toy", "--json", str(path), "--keep", "0.5", *options]
    status = latency.main()
    report = json.loads(path.read_text())
    runs.append({"status": status, "measured": measured[:], "report": report})
    return report


latency_piece.measure = watched
shapes = ["--shape", "2x64", "--shape", "1x" + too_much]
run(*shapes)
report = run(*shapes)  # nothing is missing
path.write_text(json.dumps(report | {"results": report["results"][1:]}))
failing = True
run(*shapes)
failing = False
run(*shapes)
run("--largest-batch", "64", "--most", "3", "--form", "ours dynamic")
path.write_text(json.dumps(report | {"torch": "1.0"}))
try:
    run(*shapes)
except SystemExit as error:
    refused = str(error)

toy, real = latency.toy_setup("cpu"), latency.full_setup("cuda")
model = latency_piece.build(toy)
read = sum(p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name)

for limit in range(13):
    tries.append([])
    fits = lambda batch: tries[limit].append(batch) or batch <= limit
    found.append(latency.largest(fits, 12))

row = {"batch": 8, "visual": 32768, "keep": 0.1, "form": "ours static", "result": "measured"}
row |= {"only_fits": False, "decode_s": 3.0}
full = [
    row | {"keep": 1.0, "form": form, "decode_s": seconds}
    for form, seconds in [("ours static", 4.0), ("transformers static", 12.0)]
]
lost = row | {"form": "transformers dynamic", "keep": 1.0, "result": "out of memory"}
del lost["decode_s"]
does_not = [row | {"batch": batch, "result": "out of memory"} for batch in (8, 6)]
print(json.dumps({
    "runs": runs,
    "refused": refused,
    "weights_of_toy_model": read,
    "weights": [weights(toy.geometry), weights(real.geometry)],
    "ideal": ideal_saving(toy, {"batch": 2, "visual": 64, "keep": 0.5}),
    "paper": [paper_saving(row), paper_saving(row | {"visual": 4096})],
    "tries": tries,
    "found": found,
    "saved_of": with_savings(real, [*full, lost, row])[-1]["saved_of"],
    "batches": largest_batches([row | {"batch": 5}, *does_not, lost]),
}))
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    path = tmp_path_factory.mktemp("latency") / "toy.json"
    return json.loads(run("-c", STORY, path, TOO_MUCH).splitlines()[-1]) | {"path": path}


def test_a_row_carries_what_it_should(story):
    report = story["runs"][0]["report"]
    assert report["setup"]["geometry"]["layers"] == 2 and report["command"] and report["cpu"]
    rows = {row["form"]: row for row in report["results"] if row["batch"] == 2}
    assert {form: row["keep"] for form, row in rows.items()} == {
        "transformers dynamic": 1.0,
        "transformers static": 1.0,
        "ours dynamic": 0.5,
        "ours static": 0.5,
    }
    for form, row in rows.items():
        assert row["result"] == "measured" and row["commit"] and row["date"]
        assert row["prefill"]["samples"] == 2 and row["decode"]["samples"] == 6
        assert row["tokens_per_s"] == pytest.approx(2 * 6 / row["decode_s"])
        assert row["compiled"] == form.endswith("static") and row["graphs"] is False
        assert (row["compression"] is None) == form.startswith("transformers")
    # 16 text tokens, 6 of the answer and 4 before; in fp32 a token is 2 x 16 numbers in each of 2
    # KV heads of 2 layers. A row: 64 visual ones, or half of them.
    assert [row["cache_bytes"] for row in rows.values()] == [2 * n * 512 for n in (90, 90, 58, 58)]
    for form in ("ours dynamic", "ours static"):
        other = rows["transformers dynamic"]["decode_s"]
        saved = rows[form]["saved_of"]["transformers dynamic"]
        assert saved == pytest.approx(1 - rows[form]["decode_s"] / other)
        assert rows[form]["saved_in_the_paper"] is None


def test_no_memory_is_a_result(story):
    rows = [row for row in story["runs"][0]["report"]["results"] if row["visual"] == TOO_MUCH]
    assert len(rows) == 4 and {row["result"] for row in rows} == {"out of memory"}
    assert story["path"].with_suffix(".md").read_text().count("out of memory") == 4
    assert story["path"].with_suffix(".png").stat().st_size > 0


def test_a_second_run_repeats_nothing(story):
    first, second = story["runs"][:2]
    assert (len(first["measured"]), second["measured"]) == (8, [])
    assert first["report"]["results"] == second["report"]["results"]


def test_it_goes_on_where_it_stopped(story):
    """Also behind a piece that failed, whose row stays missing."""
    missing = ["transformers dynamic", 2]
    failed, repaired = story["runs"][2:4]
    assert (failed["status"], failed["measured"]) == (1, [missing])
    assert len(failed["report"]["results"]) == 7
    assert (repaired["status"], repaired["measured"]) == (0, [missing])
    assert len(repaired["report"]["results"]) == 8


def test_the_largest_batch_is_tried_in_pieces(story):
    search = story["runs"][4]
    assert search["measured"] == [["ours dynamic", batch] for batch in (1, 2, 3)]
    assert len(search["report"]["results"]) == 8
    tries = search["report"]["tries"]
    assert [row["decode"]["samples"] for row in tries] == [2, 2, 2]
    (found,) = search["report"]["largest_batches"]
    assert (found["fits"], found["does_not"]) == (3, None)


def test_rows_of_another_torch_are_refused(story):
    assert "was measured with torch 1.0, but this run has" in story["refused"]
    assert json.loads(story["path"].read_text())["torch"] == "1.0"


def test_weights_are_those_of_the_model(story):
    """And those of the published Qwen2-7B but the embeddings."""
    published = 7_615_616_512 - 152_064 * 3_584
    assert story["weights"] == [story["weights_of_toy_model"], published]


def test_the_ideal_by_hand(story):
    """90,688 weights of 4 bytes; two rows of 512 bytes a token: 16 text, 3.5 of the answer on
    average, 64 visual tokens or 32."""
    assert story["weights"][0] == 90_688
    assert story["ideal"] == pytest.approx(1 - (362_752 + 52_736) / (362_752 + 85_504), abs=1e-12)


def test_savings(story):
    assert story["saved_of"] == {
        "ours static": pytest.approx(0.25),  # 3 s of 4
        "transformers dynamic": None,  # did not fit
        "transformers static": pytest.approx(0.75),  # 3 s of 12
    }
    assert story["paper"] == [pytest.approx(0.657, abs=5e-4), None]  # the paper prints 65.7 %


def test_the_search_doubles_then_bisects(story):
    assert story["found"] == list(range(13))
    assert story["tries"][5] == [1, 2, 4, 8, 6, 5]
    assert story["tries"][12] == [1, 2, 4, 8, 12]
    assert story["tries"][0] == [1]
    ours, theirs = story["batches"]
    assert (ours["form"], ours["fits"], ours["does_not"]) == ("ours static", 5, 6)
    assert (theirs["form"], theirs["fits"], theirs["does_not"]) == ("transformers dynamic", 0, 8)


@pytest.mark.full
def test_a_piece_in_a_process_of_its_own():
    asked = "latency.toy_setup('cpu'), latency.Piece('ours static', 0.1, 1, 64)"
    program = f"import json, latency; print(json.dumps(latency.in_own_process({asked})))"
    row = json.loads(run("-c", program))
    assert row["result"] == "measured" and row["decode"]["samples"] == 6
