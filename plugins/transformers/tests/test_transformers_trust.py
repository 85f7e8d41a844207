"""Code of a model: run only for a commit that the command line trusts, and left out of sight otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, DataError, MissingError, RecipeError
from tunesmith.console import main
from tunesmith_transformers.loading.sandbox import left_out, screened
from tunesmith_transformers.sources import claims
from tunesmith_transformers.sources import factories as sources
from tunesmith_transformers.training.settings import ModelSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = f"somebody/model@{COMMIT}"
CODE = """\
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({canary!r}).write_text("ran")

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""
CLASSES = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}


class Hub:
    """A snapshot in the hub's cache of a model that needs code of its own."""

    def __init__(self, cache: Path, model: Path) -> None:
        self.canary = cache / "canary"
        self.folder = cache / "models--somebody--model" / "snapshots" / COMMIT
        shutil.copytree(model, self.folder)
        (self.folder / "own.py").write_text(CODE.format(canary=str(self.canary)))
        self.config(model_type="own", auto_map=CLASSES)

    def config(self, **keys: Any) -> None:
        path = self.folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))

    @property
    def ran(self) -> bool:
        return self.canary.is_file()


@pytest.fixture
def hub(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return Hub(tmp_path / "hub", tiny_folder)


def load(context: Context, source: str = SOURCE) -> Any:
    return sources.hub(ModelSettings(source=source), context, "causal-lm", {}).model


def test_code_is_not_run_unless_trusted(hub: Hub, context: Context) -> None:
    with pytest.raises(DataError, match="needs code of its own") as refused:
        load(context)
    assert "--trust-remote-code" in str(refused.value)
    assert not hub.ran


@pytest.mark.parametrize("trusted", ["somebody/model@" + "f" * 40, f"somebody/other@{COMMIT}", "somebody/model"])
def test_trust_in_another_model_or_commit_is_none(hub: Hub, context: Context, trusted: str) -> None:
    with pytest.raises(DataError, match="needs code of its own"):
        load(context.with_(trusted_code=(trusted,)))
    assert not hub.ran


def test_trusted_code_is_run(hub: Hub, context: Context) -> None:
    model = load(context.with_(trusted_code=(SOURCE,)))
    assert type(model).__name__ == "OwnModel"
    assert hub.ran


def test_trust_does_not_reach_into_another_repository(hub: Hub, context: Context) -> None:
    hub.config(auto_map={name: f"evil/elsewhere--{place}" for name, place in CLASSES.items()})
    with pytest.raises(DataError, match="code of another repository, 'evil/elsewhere'"):
        load(context.with_(trusted_code=(SOURCE,)))
    assert not hub.ran
    hub.config(auto_map={name: f"somebody/model--{place}" for name, place in CLASSES.items()})
    assert type(load(context.with_(trusted_code=(SOURCE,)))).__name__ == "OwnModel"


def test_a_run_that_trusts_code_says_so_in_its_manifest(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNESMITH_CONFIG", str(tmp_path / "config"))
    rows = [{"prompt": f"{number}?", "completion": "yes"} for number in range(8)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("recipe.toml").write_text(
        f"""
        run = {{device = "cpu", threads = 1}}
        model = {{source = "{SOURCE}"}}
        data = {{use = "jsonl", path = "rows.jsonl"}}
        adapter = {{use = "lora", rank = 2}}
        trainer = {{use = "sft", max_steps = 1, batch_size = 2}}
        """
    )
    assert main(["run", "recipe.toml"]) == 65
    assert f"--trust-remote-code {SOURCE}" in capsys.readouterr().err
    assert main(["--trust-remote-code", SOURCE, "run", "recipe.toml"]) == 0
    assert f"code of {SOURCE} is run" in capsys.readouterr().err
    manifest = json.loads(Path("runs/recipe-002/manifest.json").read_text())
    assert manifest["trusted_code"] == [SOURCE]
    # what a folder says about itself grants nothing
    assert main(["chat", "runs/recipe-002", "--prompt", "1?", "--max-new-tokens", "1"]) == 65
    words = ["chat", "runs/recipe-002", "--prompt", "1?", "--max-new-tokens", "1", f"--trust-remote-code={SOURCE}"]
    assert main(words) == 0


def test_a_snapshot_without_safetensors_is_refused(hub: Hub, context: Context) -> None:
    (hub.folder / "model.safetensors").rename(hub.folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="no weights in safetensors"):
        load(context.with_(trusted_code=(SOURCE,)))


# --- what is shown of a folder ----------------------------------------------------------------------
def test_what_is_shown_of_a_folder_has_no_code(hub: Hub) -> None:
    hub.config(quantization_config={"custom_pipelines": 1, "bits": 4}, attn_implementation="sdpa", x_file="/etc/passwd")
    (hub.folder / "adapter_config.json").write_text("{}")
    (hub.folder / "pytorch_model.bin").write_text("x")
    (hub.folder / "below").mkdir()
    with screened(hub.folder) as shown:
        names = {path.name for path in shown.iterdir()}
        config = json.loads((shown / "config.json").read_text())
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not {"auto_map", "attn_implementation", "x_file"} & set(config)
    assert config["quantization_config"] == {"bits": 4}
    assert left_out(hub.folder) == [
        "left out of config.json, because it names code: attn_implementation, auto_map, custom_pipelines",
        "the folder holds an adapter too (adapter_config.json), which is not put on the model",
    ]


def test_a_folder_without_code_loses_nothing(tiny_folder: Path) -> None:
    assert left_out(tiny_folder) == []
    with screened(tiny_folder) as shown:
        for path in tiny_folder.glob("*.json"):
            assert json.loads((shown / path.name).read_text()) == json.loads(path.read_text())


# --- what a plan says -------------------------------------------------------------------------------
def test_a_source_that_may_change_is_said(tmp_path: Path) -> None:
    assert claims.check_hub(ModelSettings(source=SOURCE), tmp_path) == []
    (said,) = claims.check_hub(ModelSettings(source="somebody/model"), tmp_path)
    assert said.startswith("no revision is named, so somebody/model may change")
    (said,) = claims.check_hub(ModelSettings(source="somebody/model@main"), tmp_path)
    assert said.startswith("'main' is a branch or a tag")


def test_an_attention_that_would_fetch_a_kernel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith_transformers.sources.claims.find_spec", lambda name: None)
    for name in ("kernels-community/flash-attn", "evil/kernel@main:forward"):
        with pytest.raises(RecipeError, match="names a kernel of the hub"):
            claims.check_attention(ModelSettings(source="x", attention=name))
    with pytest.raises(MissingError, match="needs the package flash_attn"):
        claims.check_attention(ModelSettings(source="x", attention="flash_attention_2"))
    claims.check_attention(ModelSettings(source="x", attention="eager"))
