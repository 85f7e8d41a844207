"""Steps that filter, mask, compare across the split, balance and augment; and the mixing of several sets."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, MissingError, RecipeError
from tunesmith.plan import make_plan
from tunesmith.preparation import load
from tunesmith.recipe import read
from tunesmith_data.steps.noise import Noise, spaced, typo

SENTENCE = "the old river runs down from the hills past the mill and the church to the sea near the town"


def texts(data: Dataset) -> list[str]:
    return [row["text"] for row in data.train.rows]


def fates(context: Context) -> list[tuple[str, str, str]]:
    return [(entry.row, entry.reason, entry.detail) for entry in context.ledger.entries]


# --- markup and missing values ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>One</p><P class='x'>two</P>", "\nOne\n\ntwo\n"),
        ("a <b>bold</b> &amp; <a href='x>y' id=z>link</a><input disabled>", "a bold & link"),
        ("<script>alert(1)</script>kept<!-- gone --><style>b{}</style>", "kept"),
        ("if a<b and c>d: x = <T>()", "if a<b and c>d: x = <T>()"),
        ("<script never closed", "<script never closed"),
        ("<!DOCTYPE html>x", "x"),
    ],
)
def test_markup(text: str, expected: str, prepare: Any) -> None:
    assert texts(prepare([{"text": text}], {"use": "markup"})) == [expected]


def test_missing_values_by_column(prepare: Any, context: Context) -> None:
    rows = [
        {"text": "a", "label": "x"},
        {"text": None, "label": "x"},
        {"text": "  ", "label": "x"},
        {"text": "N/A ", "label": "x"},
        {"text": "e", "label": None},
        {"text": "f"},
    ]
    step = {"use": "missing", "drop": ["text"], "values": ["n/a"], "fill": {"label": "other"}}
    data = prepare(rows, step)
    assert [(row["text"], row["label"]) for row in data.train.rows] == [("a", "x"), ("e", "other"), ("f", "other")]
    assert context.ledger.reasons() == {"missing: no 'text'": 3}
    with pytest.raises(DataError, match=r"row rows.jsonl:2 has no 'text', which the step 'missing' refuses"):
        prepare(rows, {"use": "missing", "refuse": ["text"]})


def test_what_missing_and_length_cannot_mean_is_refused_when_the_plan_is_made(registry: Any) -> None:
    for name, settings, says in (
        ("missing", {}, "names no column"),
        ("missing", {"drop": ("a",), "fill": {"a": 1}}, "names 'a' twice"),
        ("length", {"min": 3, "max": 2}, "max = 2 is below min = 3"),
        ("augment", {"templates": ("no place",)}, "has no place for the instruction"),
        ("augment", {"methods": ("synonyms",), "synonyms": Path("none.json")}, "synonyms cannot be read"),
    ):
        component = registry.find("step", name).component
        with pytest.raises((RecipeError, DataError), match=says):
            component.resolve("check")(component.settings(**settings), Path())


# --- filters ----------------------------------------------------------------------------------
def test_length_and_language(prepare: Any, context: Context) -> None:
    rows = [
        {"text": "short"},
        {"text": "The bank has changed the terms of my account without telling me."},
        {"text": "Die Bank hat die Bedingungen meines Kontos geändert, ohne es mir zu sagen."},
        {"text": "La banque a changé les conditions de mon compte sans me prévenir."},
        {"text": "12345 67890 12345 67890"},
    ]
    data = prepare(rows, {"use": "language", "keep": ["en", "fr"]})
    assert texts(data) == [rows[index]["text"] for index in (0, 1, 3, 4)]
    assert [entry[:2] for entry in fates(context)] == [("rows.jsonl:3", "language: language de")]
    data = prepare(rows, {"use": "length", "unit": "words", "min": 2, "max": 12})
    assert texts(data) == [rows[index]["text"] for index in (1, 3, 4)]
    with pytest.raises(RecipeError, match="knows no language 'english'"):
        prepare(rows, {"use": "language", "keep": ["english"]})
    with pytest.raises(DataError, match="the step 'length' leaves none of its 5 rows"):
        prepare(rows, {"use": "length", "min": 1000})


# --- personal data ----------------------------------------------------------------------------
PERSONAL = [
    ("write to ann.o'neil+x@mail.example.co.uk!", "write to ann.o'[EMAIL]!", ["email"]),
    ("card 4111 1111 1111 1111, not 4111 1111 1111 1112", "card [CARD], not 4111 1111 1111 1112", ["card"]),
    ("to DE89 3704 0044 0532 0130 00 NOW", "to [IBAN] NOW", ["iban"]),
    ("to DE88 3704 0044 0532 0130 00", "to DE88 3704 0044 0532 0130 00", []),
    ("call +44 20 7946 0018 or 123", "call [PHONE] or 123", ["phone"]),
    ("in 2024 there were 1000000 rows of 0000000000000000", None, []),
    ("a@b, @home, x@localhost, 12@34.56", None, []),
]


@pytest.mark.parametrize(("text", "masked", "kinds"), PERSONAL)
def test_personal_data(text: str, masked: str | None, kinds: list[str], prepare: Any, context: Context) -> None:
    rows = [{"text": "nothing"}, {"text": text}]
    data = prepare(rows, {"use": "personal-data", "action": "mask"})
    assert texts(data)[1] == (text if masked is None else masked)
    prepare(rows, {"use": "personal-data"})
    assert dict(context.ledger.steps[-1].reasons) == {f"noted: {kind} found": 1 for kind in kinds}
    assert len(prepare(rows, {"use": "personal-data", "action": "drop"}).train) == (1 if kinds else 2)


def test_national_phone_numbers_need_a_region(prepare: Any) -> None:
    rows = [{"text": "call (650) 253-0000"}]
    assert texts(prepare(rows, {"use": "personal-data", "action": "mask"})) == ["call (650) 253-0000"]
    assert texts(prepare(rows, {"use": "personal-data", "action": "mask", "region": "US"})) == ["call [PHONE]"]
    with pytest.raises(RecipeError, match="knows no region 'XX'"):
        prepare(rows, {"use": "personal-data", "region": "XX"})


# --- across the split -------------------------------------------------------------------------
def test_overlap_drops_on_either_side(prepare: Any, context: Context) -> None:
    train, held = [{"text": SENTENCE}, {"text": "b b b"}], [{"text": f"{SENTENCE} now"}, {"text": "c c c"}]
    near = {"use": "overlap", "method": "minhash"}
    data = prepare(train, near, held=held)
    assert [len(part) for part in (data.train, data.validation)] == [2, 1]
    assert fates(context)[0][:2] == ("held.jsonl:1", "overlap: near overlap with the training rows")
    data = prepare(train, {**near, "drop": "training"}, held=held)
    assert [texts(data), len(data.validation)] == [["b b b"], 2]
    assert fates(context)[-1][:2] == ("rows.jsonl:1", "overlap: near overlap with the held-out rows")


LABELLED = [{"text": f"row {number}", "label": "rare" if number < 3 else "common"} for number in range(15)]


def test_balance(prepare: Any, context: Context) -> None:
    def classes(**settings: Any) -> dict[str, int]:
        data = prepare(LABELLED, {"use": "balance", **settings})
        return dict(Counter(row["label"] for row in data.train.rows))

    assert classes() == {"rare": 3, "common": 12}
    assert context.ledger.steps[0].said == [
        'before: 2 classes, 15 rows: from 3 ("rare") to 12 ("common"), 4.0 times as many'
    ]
    assert classes(method="oversample") == {"rare": 12, "common": 12}
    assert classes(method="oversample", ratio=2) == {"rare": 6, "common": 12}
    assert classes(method="undersample") == {"rare": 3, "common": 3}
    weighed = prepare(LABELLED, {"use": "balance", "method": "weights"}).train.rows
    assert {row["label"]: row["weight"] for row in weighed} == {"rare": 2.5, "common": 0.625}
    assert sum(row["weight"] for row in weighed) == pytest.approx(15)
    own = [{**row, "weight": 2} for row in LABELLED]
    weighed = prepare(own, {"use": "balance", "method": "weights"}).train.rows
    assert {row["label"]: row["weight"] for row in weighed} == {"rare": 5.0, "common": 1.25}
    with pytest.raises(DataError, match="has no 'topic', by which the step 'balance' tells classes"):
        classes(column="topic")


def test_few_shots(prepare: Any, context: Context) -> None:
    def kept(repetition: int = 0, **settings: Any) -> list[str]:
        step = {"use": "few-shot", "shots": 4, **settings}
        return [row["text"] for row in prepare(LABELLED, step, repetition=repetition).train.rows]

    found = kept()
    assert len([text for text in found if int(text.split()[1]) < 3]) == 3, "a small class keeps what it has"
    assert len(found) == 7
    assert kept() == found
    assert kept(seed=7) != found
    assert kept(1) != found, "another repetition draws others"
    assert kept(1) == kept(1)
    with pytest.raises(DataError, match="by which the step 'few-shot' tells classes"):
        kept(column="topic")


# --- augmentation -----------------------------------------------------------------------------
def test_augmentation_keeps_labels_and_held_out_rows_and_repeats_itself(prepare: Any, context: Context) -> None:
    rows = [{"text": f"Please tell me where my card number {number} is", "label": f"l{number}"} for number in range(30)]
    step = {"use": "augment", "methods": ["typos", "case", "noise", "templates"], "copies": 2, "rate": 0.9}
    data = prepare(rows, step, validation=0.2)
    ledger = context.ledger
    assert ledger.added > 20
    assert ledger.rows_in + ledger.added == len(data.train) + len(data.validation)
    assert len(data.validation) == 6
    source = {f"rows.jsonl:{number}": row for number, row in enumerate(rows, 1)}
    for name, row in data.train:
        origin, _, number = name.partition("+")
        assert row["label"] == source[origin]["label"]
        assert (row["text"] == source[origin]["text"]) is (number == "")
    held = {row["label"] for row in data.validation.rows}
    assert held & {row["label"] for row in data.train.rows} == set()
    assert set(ledger.steps[0].reasons) == {f"added: {method}" for method in ("typos", "case", "noise", "templates")}
    again = prepare(rows, step, validation=0.2)
    assert texts(again) == texts(data)


def test_answers_are_not_augmented(prepare: Any) -> None:
    chat = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "There."}]
    data = prepare([{"messages": chat}], {"use": "augment", "methods": ["templates"], "templates": ["Tell: {text}"]})
    assert [row["messages"] for row in data.train.rows] == [
        chat,
        [{"role": "user", "content": "Tell: Where is it?"}, chat[1]],
    ]
    data = prepare([{"prompt": "Add", "completion": "Sum"}], {"use": "augment", "methods": ["case"]})
    assert {row["completion"] for row in data.train.rows} == {"Sum"}


def test_synonyms_of_ones_own(prepare: Any, context: Context) -> None:
    (context.folder / "words.json").write_text('{"card": ["plastic"]}')
    data = prepare([{"text": "Card lost"}], {"use": "augment", "methods": ["synonyms"], "synonyms": "words.json"})
    assert texts(data) == ["Card lost", "Plastic lost"]


def test_synonyms_of_wordnet(prepare: Any, context: Context) -> None:
    place = context.folder / "wordnet"
    place.mkdir()
    for part in ("noun", "verb", "adj", "adv"):
        for kind in ("data.{}", "index.{}", "{}.exc"):
            (place / kind.format(part)).write_text("")
    # of each sense its place in the file, its words, and nothing that it points to
    (place / "data.noun").write_text("00000000 06 n 03 car 0 automobile 0 motor_car 0 000 | a motor vehicle  \n")
    (place / "index.noun").write_text("".join(f"{word} n 1 0 1 0 00000000  \n" for word in ("car", "automobile")))
    step = {"use": "augment", "methods": ["synonyms"], "wordnet": str(place), "rate": 1.0}
    rows = [{"text": "buy a CAR now"}, {"text": "my cars"}]  # what is inflected stays, and so does all of the second
    assert texts(prepare(rows, step)) == ["buy a CAR now", "buy a AUTOMOBILE now", "my cars"]
    with pytest.raises(MissingError, match="WordNet's database is not on this machine"):
        prepare(rows, {**step, "wordnet": "nowhere"})


def test_a_typo_changes_one_place_and_noise_follows_its_formula() -> None:
    chance = random.Random(0)
    assert all(abs(len(typo("letter", chance)) - 6) <= 1 for _ in range(50))
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    changed = spaced(" ".join(words), 0.3, chance, lambda word, _: word.upper())
    assert sum(word.isupper() for word in changed.split()) == 3
    noise = Noise()
    noise.count("a b a b a c")
    # N1+(a, .) = 2 of c(a) = 3; N1+(b, .) = 1 of c(b) = 2; nothing follows c; a word is drawn by what precedes it
    drawn = Counter(word for _ in range(6000) for word in [(noise.applied("a", 1.0, chance) or "a")])
    assert drawn["a"] / 6000 == pytest.approx(1 - 2 / 3 * 2 / 3, abs=0.03)
    assert noise.applied("c", 1.0, chance) is None


# --- bad input --------------------------------------------------------------------------------
def test_a_row_of_ten_megabytes_takes_no_step_long(prepare: Any, context: Context) -> None:
    long = {"text": "a" * 8_000_000 + "<script" * 300_000 + "4 " * 50_000 + "\0\ud800 <b"}
    steps = ["normalise", "markup", "personal-data", "deduplicate", "length"]
    data = prepare([long, {"text": "b"}], *({"use": name} for name in steps), {"use": "language", "keep": ["en", "la"]})
    assert len(data.train) + context.ledger.dropped == 2


# --- mixing -----------------------------------------------------------------------------------
@pytest.fixture
def mix(registry: Any, context: Context) -> Any:
    """Load a mix of two files, of ten and of thirty rows, with the keys given."""

    def make(**keys: Any) -> Any:
        for name, count in (("few", 10), ("many", 30)):
            rows = [{"prompt": f"{name} {number}", "completion": "yes"} for number in range(count)]
            (context.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources = {"few": {"use": "jsonl", "path": "few.jsonl"}, "many": {"use": "jsonl", "path": "many.jsonl"}}
        for dotted, value in keys.pop("set", {}).items():
            sources[dotted.partition(".")[0]][dotted.partition(".")[2]] = value
        recipe = context.folder / "recipe.toml"
        import tomli_w

        import tunesmith_lora
        import tunesmith_sft
        import tunesmith_transformers

        for module in (tunesmith_lora, tunesmith_sft, tunesmith_transformers):
            if not any(plugin.name == module.__name__ for plugin in registry.plugins):
                registry.add(module, name=module.__name__)
        tree = {"data": {"use": "mix", "sources": sources, **keys}, "model": {"source": "a/b"}}
        recipe.write_text(tomli_w.dumps({**tree, "adapter": {"use": "lora"}, "trainer": {"use": "sft"}}))
        (stage,) = make_plan(read(recipe), registry).stages
        return load(stage.data, context)

    return make


def tasks(data: Any) -> dict[str, int]:
    return dict(Counter(row["task"] for row in data.train.rows))


def test_a_mix_holds_to_its_weights_and_accounts_for_every_row(mix: Any, context: Context) -> None:
    assert tasks(mix()) == {"few": 10, "many": 30}
    ledger = context.ledger
    assert (ledger.rows_in, ledger.added, ledger.dropped) == (40, 0, 0)
    data = mix(weights={"few": 1, "many": 2})
    assert tasks(data) == {"few": 10, "many": 20}
    assert ledger.reasons() == {"mix: left out by the weight of 'many'": 10}
    data = mix(weights={"few": 1, "many": 2}, stopping_strategy="all_exhausted", task="set")
    assert Counter(row["set"] for row in data.train.rows) == {"few": 15, "many": 30}
    assert ledger.added == 5
    repeated = [name for name in data.train.ids if "#" in name]
    assert sorted(repeated) == sorted(f"{name.partition('#')[0]}#2" for name in repeated)
    assert len(set(data.train.ids)) == 45
    assert [name.partition("/")[0] for name in data.train.ids] != sorted(tasks(mix()))


def test_the_sources_of_a_mix_keep_their_splits_and_become_one_type(mix: Any) -> None:
    data = mix(set={"few.validation": 0.2, "many.conversational": True}, steps=[{"use": "length", "max": 100}])
    assert (len(data.train), len(data.validation)) == (38, 2)
    assert all(isinstance(row["prompt"], list) for _, row in [*data.train, *data.validation])
    assert {row["task"] for row in data.validation.rows} == {"few"}
    with pytest.raises(DataError, match="the sources have different record types"):
        mix(set={"few.columns": {"text": "prompt"}, "few.format": "text"})


def test_a_weight_of_no_source_is_refused_when_the_plan_is_made(mix: Any) -> None:
    with pytest.raises(RecipeError, match="`weights` names 'fwe', which is no source") as refused:
        mix(weights={"fwe": 1.0})
    assert refused.value.fix == "Did you mean 'few'?"
