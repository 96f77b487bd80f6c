"""The comparison: what is compared, and that interrupting it changes nothing."""

import json
from typing import ClassVar

import pytest
import torch

import compare
import model as small
import processor
from aircache_ext import methods
from aircache_ext.evaluate import Record
from aircache_ext.evaluate.variants import METHODS
from aircache_ext.methods import AirCache, Method, Prompt, Tokens
from compare import Comparison, Progress
from exam import Verdict
from full_softmax import FullSoftmax
from lineup import ABLATIONS, CONTROLS, NAMES, RETENTIONS, Variant, variants
from store import PROFILE, Store
from windows import LastVisual

CHOSEN = CONTROLS + [
    Variant(name, METHODS[name], 0.05) for name in ("AirCache", "VL-Cache", "H2O", "Random")
]


class TestVariants:
    def test_every_method_is_there(self):
        exported = [getattr(methods, name) for name in methods.__all__]
        classes = {x for x in exported if isinstance(x, type) and issubclass(x, Method)} - {Method}
        assert {type(method) for method in METHODS.values()} == classes

    def test_at_equal_bytes(self):
        """Defaults, and nobody evicts text."""
        assert all(method == type(method)() for method in METHODS.values())
        assert not any(method.evict_text for method in NAMES)

    def test_nothing_is_run_twice(self):
        every = variants("all")
        assert len({(v.method, v.retention) for v in every}) == len(every)
        assert len({v.key for v in every}) == len(every)
        assert len(every) == 2 + (11 + 1 + 3 + 4 + 1 + 1 + 5 + 1) * len(RETENTIONS)
        assert set(every) == set(variants("main")) | set(variants("ablations"))

    def test_ablations_have_the_papers_values(self):
        for values in ABLATIONS.values():
            assert AirCache() in values.values()
            assert all(method in NAMES for method in values.values())
        assert NAMES[AirCache()] == "AirCache"


class TestWindows:
    """Scores in plain torch: a row judges what is visual, and other judges, up to itself."""

    @pytest.fixture
    def prompt(self):
        torch.manual_seed(0)
        visual = torch.zeros(2, 30, dtype=torch.bool)
        visual[0, 4:16] = visual[1, 8:12] = visual[1, 15:22] = True
        valid = torch.ones(2, 30, dtype=torch.bool)
        valid[1, :5] = False
        queries = [torch.randn(2, 4, 30, 8) for _ in range(2)]
        keys = [torch.randn(2, 2, 30, 8) for _ in range(2)]
        return Prompt(queries, keys, Tokens(visual, valid))

    @staticmethod
    def expected(prompt, judges, text=False):  # [L, B, S]; with all text in the softmax, or none
        scores = torch.zeros(2, 2, 30, dtype=torch.float64)
        visual = prompt.tokens.visual
        for layer, (q, k) in enumerate(zip(prompt.queries, prompt.keys, strict=True)):
            for row, mine in enumerate(judges):
                for head in range(4):
                    for judge in mine:
                        read = visual[row].clone()
                        read[torch.tensor(mine)] = True
                        read |= text & prompt.tokens.valid[row]
                        read[judge + 1 :] = False
                        logits = k[row, head // 2].double() @ q[row, head, judge].double()
                        logits = (logits * 8**-0.5).masked_fill(~read, -torch.inf)
                        scores[layer, row] += logits.softmax(0) / (4 * len(mine))
        return scores * visual

    @pytest.mark.parametrize(
        "method, judges",
        [
            (AirCache(window_size=3), [[27, 28, 29], [27, 28, 29]]),
            (AirCache(window_size=11), [list(range(19, 30)), list(range(22, 30))]),
            (LastVisual(size=5), [list(range(11, 16)), list(range(17, 22))]),
            (LastVisual(size=9), [list(range(7, 16)), [10, 11, *range(15, 22)]]),
        ],
        ids=str,
    )
    def test_scores(self, prompt, method, judges):
        (scores,) = method.observe(prompt).scores
        expected = self.expected(prompt, judges).float()
        torch.testing.assert_close(scores[:, :, 0], expected, atol=1e-6, rtol=1e-5)

    def test_the_models_own_softmax(self, prompt):
        """With all of the instruction as judges."""
        (scores,) = FullSoftmax(alpha=0.0).observe(prompt).scores
        judges = [[*range(16, 30)], [*range(22, 30)]]
        expected = self.expected(prompt, judges, text=True).float()
        torch.testing.assert_close(scores[:, :, 0], expected, atol=1e-6, rtol=1e-5)

    def test_a_window_of_all_text_is_alpha_0(self, prompt):
        ours, theirs = AirCache(window_size=30).observe(prompt), AirCache(alpha=0.0).observe(prompt)
        assert torch.equal(ours.scores[0], theirs.scores[0])
        assert all(map(torch.equal, ours.statistics, theirs.statistics))


class TestStore:
    SETUP: ClassVar[dict] = {"grid": 6}

    @staticmethod
    def verdict(*rows):
        exact, tokens, kept = map(torch.tensor, zip(*rows, strict=True))
        return Verdict(exact, tokens, kept)

    def filled(self, folder, questions=4):
        """Two batches in no order, the second variant only in the last of them."""
        store = Store(folder, "forms", questions, self.SETUP)
        one, other = CHOSEN[:2]
        profile = {name: [[0.25, 0.5], [0.75, 1.5]] for name in PROFILE}
        first = {one.key: self.verdict((True, 1.0, 0.1), (False, 0.25, 0.3))}
        store.add([3, 0], ["one", "some"], first, profile)
        last = {
            one.key: self.verdict((False, 0.5, 0.2), (True, 1.0, 0.4)),
            other.key: self.verdict((True, 1.0, 0.0), (True, 1.0, 0.0)),
        }
        store.add([2, 1], ["some", "copy"], last, profile)
        return store

    def test_a_record_is_in_the_order_of_the_questions(self, tmp_path):
        one, other = CHOSEN[:2]
        for store in (self.filled(tmp_path), Store(tmp_path, "forms", 4, self.SETUP)):
            assert store.record(one) == Record(
                "forms", one.name, one.retention, [0.0, 1.0, 0.0, 1.0], [0.25, 1.0, 0.5, 1.0]
            )
            assert store.kept(one) == pytest.approx((0.1 + 0.3 + 0.2 + 0.4) / 4)
            assert store.missing(one) == set() and store.missing(other) == {0, 3}
            assert store.profile()["share"] == [0.5, 1.0]
            assert store.kinds == ["some", "copy", "some", "one"]

    def test_fewer_and_more_questions(self, tmp_path):
        one, _ = CHOSEN[:2]
        self.filled(tmp_path)
        assert Store(tmp_path, "forms", 3, self.SETUP).record(one).scores == [0.0, 1.0, 0.0]
        assert Store(tmp_path, "forms", 6, self.SETUP).missing(one) == {4, 5}


class Interrupted(Exception):
    pass


class AtOnce(Progress):
    """Stops after so many batches."""

    batches = 0

    def say(self, *told):
        self.batches += 1
        if self.batches == self.answers:
            raise Interrupted


@pytest.fixture
def comparison(monkeypatch):
    monkeypatch.setattr(compare, "BATCH", 3)
    monkeypatch.setattr(compare, "SORTED", 6)
    return Comparison(small.build(6, seed=0).eval(), processor.processor(6), clauses=2)


def run(comparison, folder, questions=8, chosen=CHOSEN, stop=0):
    """The store after so many batches, or all."""
    store = Store(folder, "charts", questions, comparison.setup())
    try:
        comparison.run(store, chosen, AtOnce(stop))
    except Interrupted:
        pass
    return store


def answers(store):
    return [(store.record(v), store.kept(v)) for v in CHOSEN], store.profile()


def same(one, other):
    for (mine, kept), (theirs, as_much) in zip(one[0], other[0], strict=True):
        assert (mine.family, mine.method, mine.retention) == (
            theirs.family,
            theirs.method,
            theirs.retention,
        )
        assert mine.scores == theirs.scores
        assert mine.tokens == pytest.approx(theirs.tokens)
        assert kept == pytest.approx(as_much)
    for name in one[1]:
        assert one[1][name] == pytest.approx(other[1][name], rel=1e-4)


def test_interrupted_equals_uninterrupted(comparison, tmp_path):
    """Between batches, in the middle of a line, with variants or questions that come later."""
    whole = run(comparison, tmp_path / "whole")
    kept = dict(zip((v.name for v in CHOSEN), (kept for _, kept in answers(whole)[0]), strict=True))
    assert (kept["full cache"], kept["no visual"]) == (1, 0)
    assert kept["AirCache"] == kept["Random"] == pytest.approx(0.05, abs=0.5 / (6 * 36))
    lines = whole.path.read_text().count("\n")
    assert lines == 1 + 3  # twice 3 of the first 6 questions, and 2

    run(comparison, tmp_path / "cut", stop=1)
    rest = run(comparison, tmp_path / "cut")
    same(answers(rest), answers(whole))
    assert rest.path.read_text().count("\n") == lines

    rest.path.write_text(rest.path.read_text()[:-40])  # in the last line
    again = run(comparison, tmp_path / "cut")
    same(answers(again), answers(whole))
    assert again.path.read_text().count("\n") == lines
    same(answers(Store(tmp_path / "cut", "charts", 8, comparison.setup())), answers(whole))

    run(comparison, tmp_path / "grown", questions=4, chosen=CHOSEN[:5])
    grown = run(comparison, tmp_path / "grown")
    same(answers(grown), answers(whole))
    fewer = Store(tmp_path / "grown", "charts", 5, comparison.setup())
    assert fewer.record(CHOSEN[3]).scores == whole.record(CHOSEN[3]).scores[:5]


def test_nothing_is_asked_twice(comparison, tmp_path, monkeypatch):
    asked = []
    judge = compare.Exam.judge
    monkeypatch.setattr(
        compare.Exam, "judge", lambda *a, **options: asked.append(options) or judge(*a, **options)
    )
    run(comparison, tmp_path, chosen=CHOSEN[:5])
    assert len(asked) == 3 * 5  # batches
    run(comparison, tmp_path)
    assert len(asked) == 3 * len(CHOSEN)
    monkeypatch.setattr(compare, "Exam", None)
    run(comparison, tmp_path)


def test_only_a_family_that_the_model_knows_is_compared(comparison, tmp_path, capsys):
    store = run(comparison, tmp_path, questions=4, chosen=CONTROLS)
    full = sum(store.record(CONTROLS[0]).scores) / 4
    progress = Progress(answers=4 * len(CHOSEN))
    assert comparison.compare(store, CHOSEN, full + 0.01, progress) == CONTROLS
    assert f"charts: {full:.1%} exact" in capsys.readouterr().out
    assert store.missing(CHOSEN[2]) == set(range(4)) and progress.answers == 4 * len(CONTROLS)
    assert comparison.compare(store, CHOSEN, full, progress) == CHOSEN
    assert not any(store.missing(variant) for variant in CHOSEN)


def test_questions_stay_in_their_order(comparison, tmp_path):
    """Though those with answers of like length are read together."""
    store = run(comparison, tmp_path)
    for index in (0, 3, 7):
        example = comparison.example("charts", index)
        with torch.inference_mode(), compare.Exam(
            comparison.model, comparison.process, [example]
        ) as exam:  # fmt: skip
            for variant in CHOSEN[:4]:
                verdict = exam.judge(method=variant.method, retention=variant.retention or 1.0)
                record = store.record(variant)
                assert record.tokens[index] == pytest.approx(float(verdict.tokens), abs=1e-4)
                assert record.scores[index] == float(verdict.exact)


def test_what_is_missing_is_no_record(comparison, tmp_path):
    store = run(comparison, tmp_path, stop=1)
    with pytest.raises(ValueError, match="full cache 1 has not answered 5 charts"):
        store.record(CHOSEN[0])


def test_answers_of_another_model_are_refused(comparison, tmp_path):
    run(comparison, tmp_path, stop=1)
    other = Comparison(small.build(6, seed=1), comparison.process, clauses=2)
    with pytest.raises(ValueError, match="holds answers of another model"):
        Store(tmp_path, "charts", 8, other.setup())
    fewer = Comparison(comparison.model, comparison.process, clauses=1)
    with pytest.raises(ValueError, match="to other questions"):
        Store(tmp_path, "charts", 8, fewer.setup())
    assert json.loads((tmp_path / "charts.jsonl").read_text().split("\n")[0])["clauses"] == 2
