"""Whether a model has a chat template is told by its files, as its tokenizer tells it."""

from __future__ import annotations

import json
import shutil
import struct
from functools import partial
from pathlib import Path

import pytest

from tunesmith import Context
from tunesmith.testing import tiny_tokenizer
from tunesmith_transformers.sources import factories, has_template
from tunesmith_transformers.training.settings import ModelSettings


def without(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def in_configuration(folder: Path, value: object) -> None:
    without(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": value}))


def beside(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "chat_template.jinja").rename(folder / "additional_chat_templates" / "tools.jinja")


CASES = [
    (lambda folder: None, True),
    (without, False),
    (beside, False),
    (partial(in_configuration, value="{{ messages }}"), True),
    (partial(in_configuration, value=[{"name": "default", "template": "{{ messages }}"}]), True),
    (partial(in_configuration, value=None), False),
]


@pytest.mark.parametrize(("change", "expected"), CASES)
def test_a_folder_tells_what_its_tokenizer_tells(tmp_path, change, expected):
    tiny_tokenizer().save_pretrained(tmp_path)
    change(tmp_path)
    settings, context = ModelSettings(source=str(tmp_path)), Context(folder=tmp_path)
    assert has_template.directory(settings, context) is expected
    assert bool(factories.directory_tokenizer(settings, context).chat_template) is expected


def test_a_template_of_the_recipe_counts(tmp_path):
    settings = ModelSettings(source=str(tmp_path), chat_template=Path("own.jinja"))
    for source in (has_template.directory, has_template.gguf, has_template.wheel, has_template.hub):
        assert source(settings, Context(folder=tmp_path)) is True


def test_the_header_of_a_gguf_file_tells(tmp_path):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def write(*keys):
        body = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in keys)
        (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + body)
        return has_template.gguf(ModelSettings(source="m.gguf"), Context(folder=tmp_path))

    assert write(("general.architecture", "llama")) is False
    assert write(("general.architecture", "llama"), ("tokenizer.chat_template", "{{ messages }}")) is True
    (tmp_path / "m.gguf").write_bytes(b"no such file")
    assert has_template.gguf(ModelSettings(source="m.gguf"), Context(folder=tmp_path)) is False


def test_rows_follow_the_model_of_a_stage_and_of_those_before_it(house):
    """Also where a stage goes on with an earlier one, whose model has no template of its own here."""
    from tunesmith.plan import make_plan
    from tunesmith.recipe import read
    from tunesmith.stage import load_data

    text = (house.folder / "recipe.toml").read_text().replace("dropout", "#")
    stages = text.replace("[model]", "[stages.one.model]").replace("[data]", "[stages.one.data]")
    stages = stages.replace("[adapter]", "[stages.one.adapter]").replace("[trainer]", "[stages.one.trainer]")
    stages = stages.replace("[[evaluate]]", "[[stages.one.evaluate]]")
    stages += """
            [stages.two]
            model = { from = "one" }
            data = { use = "jsonl", path = "rows.jsonl" }
            trainer = { use = "sft" }
            """
    (house.folder / "recipe.toml").write_text(stages)
    folder = shutil.copytree(json.loads(text.partition("source = ")[2].partition("\n")[0]), house.folder / "model")
    for change, kind in ((lambda _: None, list), (without, str)):
        change(folder)
        sets = [f"stages.one.model.source={json.dumps(str(folder))}"]
        plan = make_plan(read(house.folder / "recipe.toml", sets), house.make_registry())
        for stage in plan.stages:
            data = load_data(stage, Context(folder=house.folder, max_lost_rows=1.0))
            assert {type(row["prompt"]) for row in data.train.rows} == {kind}
