"""`report.html`: what it says, that nothing in it can act, and that it needs nothing else."""

from __future__ import annotations

import errno
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tunesmith import DataError, DiskError
from tunesmith.chart import line_chart, smoothed, thinned, ticks_of
from tunesmith.markup import element, escaped, table
from tunesmith.report import REPORT, write

EVIL = "<script>alert('x')</script>\"><img src=http://example.org/x onerror=alert(1)>&amp;"


def measure(value: float, low: float | None, high: float | None, better: str = "higher", **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "better": better, "n": 40, "unit": "", "per_row": [], **more}


def sample(row: str, answer: str, **more: str) -> dict[str, str]:
    return {"row": row, "prompt": f"source of {row}", "answer": answer, "reference": f"reference of {row}", **more}


def stage() -> dict[str, Any]:
    rows = [f"data.jsonl:{number}" for number in range(1, 8)]
    return {
        "name": "main",
        "before": {
            "measures": {"perplexity": measure(40.0, 30.0, 55.5, "lower"), "rouge_l": measure(0.2, 0.15, 0.25)},
            "samples": [sample(row, f"base says {row}") for row in reversed(rows)],
        },
        "after": {
            "measures": {
                "perplexity": measure(20.0, 17.25, 24.0, "lower"),
                "rouge_l": measure(0.1, 0.05, 0.15),
                "bleu": measure(12.5, None, None, unit="0-100"),
            },
            "samples": [sample(row, f"tuned says {row}") for row in rows],
        },
        "training": {
            "trainable_parameters": 1234,
            "parameters": 123400,
            "steps": 3,
            "total_steps": 3,
            "seconds": 10.0,
            "tokens": 5000,
        },
        "ledger": {
            "rows_in": 2000,
            "trained": 1990,
            "held_out": 7,
            "dropped": 2,
            "truncated": 1,
            "dropped_reasons": {"duplicate": 2},
            "truncated_reasons": {"cut at max_length = 64": 1},
        },
        "facts": {"tokens": {"tokens": 1000, "supervised_tokens": 250, "supervised_share": 0.25}, "note": "a fact"},
        "seconds": {"commit": 0.5, "load data": 1.25, "train": 10.0},
        "exports": [],
        "reused": None,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run of one stage."""
    return run_folder(tmp_path / "demo-001", {"main": stage()})


def run_folder(path: Path, stages: dict[str, Any]) -> Path:
    path.mkdir()
    plans = [
        {
            "name": name,
            "roles": [{"model": {"name": "hub", "settings": {"source": "house/base"}}, "adapter": {"name": "lora"}}],
            "trainer": {"name": "sft"},
        }
        for name in stages
    ]
    manifest = {
        "created": "2026-11-22T14:25:30+00:00",
        "plan": {"stages": plans, "plugins": {"tunesmith-lora": "0.1.0"}},
        "environment": {"python": "3.11.7", "platform": "Linux", "cpus": 2, "libraries": {"torch": "2.13.0"}},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "results.json").write_text(json.dumps(stages))
    (path / "state.json").write_text(json.dumps({"status": "running"}))
    (path / "recipe.toml").write_text('[model]\nsource = "house/base"\n')
    losses = [
        {"stage": name, "step": n, "loss": 3 - n / 2, "learning_rate": 1e-3 / n} for name in stages for n in (1, 2, 3)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses))
    entries = [
        {"summary": {}},
        {"row": "data.jsonl:9", "fate": "dropped", "reason": "duplicate", "detail": "of data.jsonl:8"},
        {"row": "data.jsonl:11", "fate": "dropped", "reason": "duplicate"},
    ]
    (path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in entries))
    return path


def text_of(path: Path) -> str:
    """The page as it reads, without tags, blanks made one."""
    body = path.read_text(encoding="utf-8").split("</head>", 1)[1]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags_of(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    tags.close()
    assert tags.open == []
    return tags


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    results = json.loads((folder / "results.json").read_text())
    change(results["main"])
    (folder / "results.json").write_text(json.dumps(results))
    return write(folder)


def test_a_trainer_that_supervises_no_tokens_has_no_share_of_them(folder: Path) -> None:
    text = text_of(changed(folder, lambda result: result["facts"]["tokens"].pop("supervised_tokens")))
    assert "supervised tokens" not in text
    assert "tokens a second 500" in text


def test_it_says_what_the_run_was_and_came_to(folder: Path) -> None:
    path = write(folder)
    assert path == folder / REPORT
    text = text_of(path)
    for said in (
        "demo-001 interrupted · started 2026-11-22 14:25 UTC",
        "lora on house/base trained with sft",
        "trainable parameters 1,234 of 123,400 (1.00%)",
        "supervised tokens 250 of 1,000 (25.0%)",
        "tokens a second 500",
        "perplexity 40 30 to 55.5 20 17.25 to 24 -50% better 40",
        "rouge_l 0.2 0.15 to 0.25 0.1 0.05 to 0.15 -50% worse 40",
        "bleu 0-100 12.5 40",
        "rows read 2,000 trained 1,990 held out 7 dropped 2 truncated 1",
        "dropped duplicate data.jsonl:9 (of data.jsonl:8), data.jsonl:11 2",
        "truncated cut at max_length = 64",
        "phase seconds load data 1.2 train 10.0 commit 0.5",
        "python 3.11.7",
        "torch 2.13.0",
        "tunesmith-lora 0.1.0",
        '[model] source = "house/base"',
        "note a fact",
    ):
        assert said in text


def test_the_status_can_be_given(folder: Path) -> None:
    assert "demo-001 done" in text_of(write(folder, "done"))


def test_five_samples_are_joined_by_row(folder: Path) -> None:
    text = text_of(write(folder))
    for number in range(1, 6):
        row = f"data.jsonl:{number}"
        assert f"source of {row} base base says {row} tuned tuned says {row} reference reference of {row}" in text
    assert "data.jsonl:6" not in text


def test_a_sample_without_a_base_answer_or_a_reference(folder: Path) -> None:
    def change(result: dict[str, Any]) -> None:
        result["before"]["samples"] = []
        result["after"]["samples"] = [sample("r", "", reference="")]

    assert "source of r tuned (nothing) Training" in text_of(changed(folder, change))


def test_nothing_that_a_model_or_a_file_says_can_act(folder: Path) -> None:
    def change(result: dict[str, Any]) -> None:
        result["after"]["samples"] = [{"row": EVIL, "prompt": EVIL, "answer": EVIL, "reference": EVIL}]
        result["before"]["samples"] = [{"row": EVIL, "prompt": EVIL, "answer": EVIL, "reference": EVIL}]
        result["after"]["measures"] = {EVIL: measure(1.0, 0.5, 2.0, unit=EVIL)}
        result["ledger"]["dropped_reasons"] = {EVIL: 1}
        result["facts"] = {EVIL: {EVIL: EVIL}}
        result["seconds"] = {EVIL: 1.0}

    (folder / "recipe.toml").write_text(f"# </pre>{EVIL}\n")
    entry = {"row": EVIL, "fate": "dropped", "reason": EVIL, "detail": EVIL}
    (folder / "ledger.jsonl").write_text(json.dumps(entry) + "\n")
    path = changed(folder, change)
    tags = tags_of(path)
    assert {"script", "img", "a", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in tags.seen)
    assert all(not name.startswith("on") for _, attributes in tags.seen for name in attributes)
    assert text_of(path).count("<script>alert('x')</script>") >= 8


def test_the_page_stands_alone_and_forbids_scripts(folder: Path) -> None:
    path = write(folder)
    tags = tags_of(path)
    assert all(name not in ("src", "href", "srcset") for _, attributes in tags.seen for name in attributes)
    policy = next(a["content"] for tag, a in tags.seen if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    page = path.read_text(encoding="utf-8")
    assert "url(" not in page
    assert "@import" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_text_that_no_page_can_hold_is_replaced(folder: Path) -> None:
    def change(result: dict[str, Any]) -> None:
        result["after"]["samples"] = [sample("r", "a\x00b\x1bc\ud800d\tkept\nkept")]

    assert "a\ufffdb\ufffdc\ufffdd kept kept" in text_of(changed(folder, change))


def test_long_answers_are_cut(folder: Path) -> None:
    def change(result: dict[str, Any]) -> None:
        result["after"]["samples"] = [sample("r", "x" * 100_000)]

    assert "x" * 2000 + "…" in text_of(changed(folder, change))


def test_a_fact_that_is_a_series_is_drawn_and_not_printed(folder: Path) -> None:
    def change(result: dict[str, Any]) -> None:
        result["facts"] = {"mean_width": [[0, 12], [4, 9.5], [8, 8]], "pairs": [[1, "a"], [2, "b"]]}

    page = changed(folder, change)
    assert "mean width: 12 at step 0, 8 at step 8" in page.read_text(encoding="utf-8")
    assert "[0, 12]" not in text_of(page)
    assert "[[1, 'a'], [2, 'b']]" in text_of(page)


def test_a_run_that_evaluated_nothing(folder: Path) -> None:
    def change(result: dict[str, Any]) -> None:
        result.update(before={}, after={}, facts={})

    text = text_of(changed(folder, change))
    assert "Measures" not in text
    assert "Answers" not in text
    assert "steps 3 of 3" in text


def test_a_run_without_any_result_or_log(folder: Path) -> None:
    for name in ("results.json", "metrics.jsonl", "ledger.jsonl"):
        (folder / name).unlink()
    assert "demo-001" in text_of(write(folder, "failed"))


def test_a_log_that_was_cut_short_is_read_as_far_as_it_goes(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "main", "step": 4, "lo')
    assert "2.5 to 1.5" in text_of(write(folder))


def test_a_loss_that_is_not_a_number_leaves_the_chart_whole(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "main", "step": 4, "loss": NaN}\n')
    page = write(folder).read_text(encoding="utf-8")
    assert "nan" not in re.findall(r'points="([^"]*)"', page)[0]


def test_several_stages_and_one_that_was_reused(tmp_path: Path) -> None:
    stages = {
        "sft": {**stage(), "reused": "runs/two-000/stages/sft"},
        "dpo": {**stage(), "after": {"measures": {"accuracy": measure(0.9, 0.8, 1.0)}, "samples": []}},
    }
    sft, dpo = text_of(write(run_folder(tmp_path / "two-001", stages))).split("Stage dpo")
    assert "Stage sft" in sft
    assert "Unchanged; taken from runs/two-000/stages/sft." in sft
    assert "perplexity 40" in sft
    assert "Unchanged" not in dpo
    assert "accuracy 0.9 0.8 to 1 40" in dpo


def test_a_full_disk_is_a_disk_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DiskError, match=r"report\.html"):
        write(folder)
    assert not (folder / REPORT).exists()


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        write(tmp_path)


@pytest.mark.parametrize(
    ("low", "high"), [(2.5, 3.7), (0, 1), (1e-5, 1e-3), (5, 5), (0, 0), (-2, 3), (0.1, 20000), (3.0000001, 3.0000002)]
)
def test_ticks_enclose_the_values(low: float, high: float) -> None:
    ticks = ticks_of(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    slack = 1e-8 * max(1.0, abs(high))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


def test_a_long_run_is_thinned_and_keeps_its_ends() -> None:
    points = [(float(step), 1.0) for step in range(1, 100_001)]
    kept = thinned(points, 400)
    assert len(kept) == 400
    assert (kept[0][0], kept[-1][0]) == (1, 100_000)
    assert {y for _, y in kept} == {1.0}
    assert len(line_chart("loss", points, "step")) < 20_000


def test_smoothing_keeps_a_straight_line_and_calms_a_saw() -> None:
    saw = [(float(step), step % 2 * 2.0) for step in range(100)]
    calm = smoothed(saw)
    assert all(abs(y - 1) < 0.2 for _, y in calm)
    assert [x for x, _ in calm] == [x for x, _ in saw]


def test_one_point_is_no_chart() -> None:
    assert line_chart("loss", [(1, 2.0)], "step") == ""
    assert line_chart("loss", [(1, 2.0), (2, float("inf"))], "step") == ""


def test_markup_escapes_all_but_its_own() -> None:
    assert element("p", "<b>", element("b", "&"), title='"') == '<p title="&quot;">&lt;b&gt;<b>&amp;</b></p>'
    assert escaped(element("b")) == "<b></b>"
    assert table(("a",), []) == ""
