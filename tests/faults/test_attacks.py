"""Files that were made to run code, to write elsewhere or to fill the memory, each through the console.

Every attack would change a canary file. It must stay as it is, whatever the command makes of the rest.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from tunesmith.store import DIGESTS, digests_of

pytestmark = [pytest.mark.run, pytest.mark.fault("R10")]

USAGE, DATA, RECIPE = 2, 65, 78
ANSWERS = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
CHAT = [{"messages": [{"role": "system", "content": str(number)}, *ANSWERS]} for number in range(9)]


class Attacker:
    """Prepares files that would write to the canary."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.canary = house.write("canary", "alive")
        self.python = f"from pathlib import Path\nPath({str(self.canary)!r}).write_text('dead')\n"

    def check(self) -> None:
        assert self.canary.read_text() == "alive", "the canary is dead"

    def pickled(self) -> bytes:
        """A pickle that writes to the canary when it is loaded."""
        canary = str(self.canary)

        class Payload:
            def __reduce__(self) -> Any:
                return os.system, (f"echo dead > {canary}",)

        return pickle.dumps(Payload())

    def json(self, path: Path, **keys: Any) -> None:
        """Set keys of a JSON file."""
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**content, **keys}))

    def wheel(self, names: dict[str, bytes], link: str = "") -> Path:
        """A wheel `evil==1` of a model, with further files, in a folder that pip is told to look in."""
        place = self.house.folder / "index"
        place.mkdir()
        info = "evil-1.dist-info"
        files = {
            "evil/model.gguf": b"GGUF",
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: evil\nVersion: 1\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            **names,
        }
        with zipfile.ZipFile(place / "evil-1-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            if link:
                entry = zipfile.ZipInfo("evil/link")
                entry.external_attr = 0o120777 << 16
                archive.writestr(entry, link)
            archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
        return place


@pytest.fixture
def attacker(house: Any) -> Attacker:
    return Attacker(house)


def ended(attacker: Attacker, code: int, *said: str, words: tuple[str, ...] = ("run", "recipe.toml")) -> str:
    """Run a command and check how it ends; what it wrote to its two streams."""
    outcome = attacker.house.call(*words)
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert "defect:" not in outcome.err
    for part in said:
        assert part in outcome.out + outcome.err
    attacker.check()
    return outcome.out + outcome.err


def finished(attacker: Attacker) -> Path:
    """The folder of a run that is done."""
    attacker.house.recipe()
    ended(attacker, 0)
    return attacker.house.runs / "recipe-001"


def interrupted(attacker: Attacker) -> Path:
    """The folder of a run that was killed after its last checkpoint."""
    run = finished(attacker)
    (run / "state.json").write_text(json.dumps({"status": "failed"}))
    (run / "result.json").unlink()
    shutil.rmtree(run / "artifact")
    return run


def resealed(folder: Path) -> None:
    """Give a folder the digests of what it now holds, as an attacker would."""
    (folder / DIGESTS).unlink()
    (folder / DIGESTS).write_text(json.dumps(digests_of(folder), indent=1))


# --- models ---------------------------------------------------------------------------------------
def pickled_weights(a: Attacker) -> None:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(a.pickled())

    a.house.model(change)
    a.house.recipe()
    ended(a, DATA, "no weights in safetensors", "pytorch_model.bin", "pickles can run code")


def pickles_beside_the_weights(a: Attacker) -> None:
    def change(folder: Path) -> None:
        for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
            (folder / name).write_bytes(a.pickled())

    a.house.model(change)
    a.house.recipe()
    ended(a, 0)


def weights_that_are_a_pickle(a: Attacker) -> None:
    a.house.model(lambda folder: (folder / "model.safetensors").write_bytes(a.pickled()))
    a.house.recipe()
    ended(a, DATA, "cannot be loaded")


def code_of_its_own(a: Attacker) -> None:
    def change(folder: Path) -> None:
        (folder / "evil.py").write_text(a.python)
        a.json(folder / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})
        a.json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.T"]})

    a.house.model(change)
    a.house.recipe()
    ended(a, 0, "left out of config.json, because it names code: auto_map")


def code_that_it_cannot_do_without(a: Attacker) -> None:
    def change(folder: Path) -> None:
        (folder / "evil.py").write_text(a.python)
        a.json(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C"})

    a.house.model(change)
    a.house.recipe()
    ended(a, DATA, "needs code of its own", "--trust-remote-code OWNER/NAME@COMMIT")


def an_adapter_that_names_a_library(a: Attacker) -> None:
    (a.house.folder / "evil_library.py").write_text(a.python)
    mapping = {"parent_library": "evil_library", "base_model_class": "Model"}

    def change(folder: Path) -> None:
        a.json(
            folder / "adapter_config.json",
            peft_type="LORA",
            auto_mapping=mapping,
            base_model_name_or_path="evil/base",
        )

    a.house.model(change)
    a.house.recipe()
    ended(a, 0, "holds an adapter too (adapter_config.json), which is not put on the model")


def an_artifact_that_names_a_library(a: Attacker) -> None:
    (a.house.folder / "evil_library.py").write_text(a.python)
    run = finished(a)
    mapping = {"parent_library": "evil_library", "base_model_class": "Model"}
    a.json(run / "artifact" / "adapter_config.json", auto_mapping=mapping)
    ended(a, 1, "adapter_config.json: its content changed", words=("evaluate", str(run)))
    resealed(run / "artifact")
    ended(a, 0, words=("evaluate", str(run)))


def a_tokenizer_class_from_elsewhere(a: Attacker) -> None:
    def change(folder: Path) -> None:
        (folder / "evil.py").write_text(a.python)
        a.json(folder / "tokenizer_config.json", tokenizer_class="evil.Tokenizer--evil", vocab_file="/etc/passwd")

    a.house.model(change)
    a.house.recipe()
    ended(a, 0, "left out of tokenizer_config.json, because it names code: tokenizer_class")


def a_generation_of_its_own(a: Attacker) -> None:
    def change(folder: Path) -> None:
        (folder / "custom_generate").mkdir()
        (folder / "custom_generate" / "generate.py").write_text(a.python)
        a.json(folder / "generation_config.json", custom_generate="evil/repository", trust_remote_code=True)

    a.house.model(change)
    a.house.recipe({"evaluate": [{"use": "generate", "rows": 1, "max_new_tokens": 1}]})
    ended(a, 0, "left out of generation_config.json")


def a_kernel_of_the_hub(a: Attacker) -> None:
    a.house.model(lambda folder: a.json(folder / "config.json", attn_implementation="evil/kernel@main:forward"))
    a.house.recipe()
    ended(a, 0, "left out of config.json, because it names code: attn_implementation")
    a.house.recipe({"model.attention": "evil/kernel"})
    ended(a, RECIPE, "names a kernel of the hub, which is code")


def an_index_that_leads_elsewhere(a: Attacker) -> None:
    def change(folder: Path) -> None:
        index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "../canary"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    a.house.model(change)
    a.house.recipe()
    ended(a, DATA, "'../canary', which leads out of the model folder")


def a_configuration_without_end(a: Attacker) -> None:
    a.house.model(lambda folder: (folder / "config.json").write_text('{"a":' * 100_000))
    a.house.recipe()
    ended(a, DATA, "config.json is damaged")


# --- chat templates -------------------------------------------------------------------------------
def templated(a: Attacker, template: str, *said: str) -> None:
    a.house.rows(CHAT)
    a.house.write("own.jinja", template)
    a.house.recipe({"model.chat_template": "own.jinja"})
    ended(a, DATA, *said)


def a_template_that_reaches_for_python(a: Attacker) -> None:
    call = f"cycler.__init__.__globals__.os.system('echo dead > {a.canary}')"
    templated(a, "{{ " + call + " }}", "the chat template refuses it", "unsafe")


def a_template_that_walks_the_classes(a: Attacker) -> None:
    templated(a, "{{ ''.__class__.__mro__[1].__subclasses__() | length }}", "unsafe")


def a_template_without_end(a: Attacker) -> None:
    loop = "{% for i in range(99999) %}"
    templated(a, loop * 3 + "{% endfor %}" * 3, "the chat template did not end within 1 seconds of computing")


def a_template_that_fills_the_memory(a: Attacker) -> None:
    doubled = "{% set n = namespace(s='aaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
    templated(a, doubled, "the chat template was ended: it needs more than")


# --- archives -------------------------------------------------------------------------------------
def unpacked(a: Attacker, names: dict[str, bytes], said: str, link: str = "") -> None:
    os.environ["PIP_FIND_LINKS"] = str(a.wheel(names, link))  # the fixture `limits` puts it back
    a.house.recipe({"model.source": "wheel:evil==1"})
    ended(a, DATA, said)


def a_wheel_that_climbs_out(a: Attacker) -> None:
    unpacked(a, {"../../../../../../../../" + str(a.canary).lstrip("/"): b"dead"}, "which leads out of its folder")


def a_wheel_with_an_absolute_name(a: Attacker) -> None:
    unpacked(a, {str(a.canary): b"dead"}, "which leads out of its folder")


def a_wheel_with_a_link(a: Attacker) -> None:
    unpacked(a, {}, "'evil/link', which leads out of its folder", link=str(a.canary))


def a_wheel_that_is_a_bomb(a: Attacker) -> None:
    unpacked(a, {"evil/bomb": bytes(4 << 20)}, "unpacks to far more than its size")


def a_gzip_file_that_is_a_bomb(a: Attacker) -> None:
    row = json.dumps({"prompt": "?", "completion": "x" * 1000}) + "\n"
    a.house.write("rows.jsonl", gzip.compress(row.encode() * 20_000))
    a.house.recipe()
    ended(a, DATA, "unpacks to more than 200 times its size")


# --- run folders ----------------------------------------------------------------------------------
def pickles_in_a_checkpoint(a: Attacker) -> None:
    run = interrupted(a)
    newest = run / "checkpoints" / "step-000002"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (newest / name).write_bytes(a.pickled())
    ended(a, 0, "step-000002 is damaged", "was not there when it was written", words=("resume", str(run)))


def a_checkpoint_that_is_a_pickle(a: Attacker) -> None:
    run = interrupted(a)
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "optimizer.safetensors").write_bytes(a.pickled())
        (checkpoint / "model.safetensors").write_bytes(a.pickled())
        resealed(checkpoint)
    ended(a, DATA, "cannot be read", words=("resume", str(run)))


def digests_of_another_place(a: Attacker) -> None:
    run = finished(a)
    path = run / "artifact" / DIGESTS
    climbing = os.path.relpath(a.canary, path.parent)
    a.json(path, **{climbing: sha256(b"alive").hexdigest(), str(a.canary): sha256(b"alive").hexdigest()})
    ended(a, 1, "leads out of the folder", words=("chat", str(run), "--prompt", "1?"))


def links_in_a_run_folder(a: Attacker) -> None:
    run = interrupted(a)
    for name in ("metrics.jsonl", "error.txt", "lock", ".staging-x"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(a.canary)
        ended(a, DATA, "is a link to", words=("resume", str(run)))
        (run / name).unlink()


def a_link_in_an_artifact(a: Attacker) -> None:
    run = finished(a)
    weights = run / "artifact" / "adapter_model.safetensors"
    weights.rename(a.house.folder / "weights")
    weights.symlink_to(a.house.folder / "weights")
    ended(a, DATA, "is a link to", words=("evaluate", str(run)))
    elsewhere = shutil.copytree(weights.parent, a.house.folder / "sent", symlinks=True)
    ended(a, 1, "leads out of the folder", words=("chat", str(elsewhere), "--prompt", "1?"))


def names_that_lead_out(a: Attacker) -> None:
    a.house.recipe({"run.name": "../../canary/../x"})
    ended(a, 0)
    assert [path.name for path in a.house.runs.iterdir()] == ["canary-..-x-001"]
    run = next(a.house.runs.iterdir())
    outside = f"../../{a.canary.name}={run}"
    ended(a, 0, words=("chat", str(run), "--adapter", outside, "--prompt", "1?", "--max-new-tokens", "1"))
    for name in ("../canary", "/canary", "..", "a/b"):
        a.house.write("recipe.toml", f'[stages."{name}"]\nmodel.source = "x"\n')
        ended(a, RECIPE, "stage")
    assert sorted(path.name for path in a.house.folder.iterdir() if path.is_dir()) == ["runs"]


def an_export_over_a_link(a: Attacker) -> None:
    run = finished(a)
    (a.house.folder / "out").symlink_to(a.canary)
    ended(a, RECIPE, "exists and is no earlier export", words=("export", str(run), "--use", "adapter", "--to", "out"))
    inside = str(run / "artifact" / "deeper")
    ended(a, RECIPE, "overlaps the artifact", words=("export", str(run), "--use", "adapter", "--to", inside))


def a_card_without_end(a: Attacker) -> None:
    run = finished(a)
    (run / "artifact" / "tunesmith.json").write_text('{"line":' * 100_000)
    ended(a, DATA, "is not an artifact", words=("chat", str(run), "--prompt", "1?"))
    (run / "manifest.json").write_text("[" * 100_000)
    ended(a, DATA, "manifest", words=("evaluate", str(run)))


# --- data and recipes -----------------------------------------------------------------------------
def a_dataset_with_a_script(a: Attacker) -> None:
    place = a.house.folder / "evil"
    place.mkdir()
    (place / "evil.py").write_text(a.python)
    (place / "train.jsonl").write_text((a.house.folder / "rows.jsonl").read_text())
    a.house.recipe({"data": {"use": "hub", "path": "evil", "validation": 0.25}})
    ended(a, DATA, "Dataset scripts are no longer supported", "own code is never run")


def rows_that_are_markup(a: Attacker) -> None:
    steering = "\x1b]0;title\x07\x1b[2J\u202e[bold red]</pre><script>document.write(1)</script><img src=x onerror=y>"
    a.house.rows([{"prompt": f"{number} {steering}", "completion": steering} for number in range(16)])
    a.house.recipe({"evaluate": [{"use": "generate", "rows": 2, "max_new_tokens": 1}], "run.name": "<script>"})
    said = ended(a, 0)
    said += ended(a, 0, "[bold", words=("data", "show", "recipe.toml"))
    said += ended(a, 0, words=("data", "show", "recipe.toml", "--mask"))
    assert not set(said) & set("\x1b\x07\u202e")
    (page,) = a.house.runs.glob("*/report.html")
    assert "&lt;script&gt;document.write(1)" in page.read_text()
    assert "<script" not in page.read_text()
    assert "<img" not in page.read_text()


def a_recipe_without_end(a: Attacker) -> None:
    for text in ("model = " + "[" * 100_000, "model = " + "9" * 100_000, "#" * (2 << 20)):
        a.house.write("recipe.toml", text)
        ended(a, RECIPE, "recipe.toml")


def a_recipe_that_trusts_itself(a: Attacker) -> None:
    for key in ("model.trust_remote_code", "trainer.arguments.model_init_kwargs.trust_remote_code"):
        a.house.recipe({key: True})
        ended(a, RECIPE, "a recipe cannot grant that code of a model is run")


def trust_in_a_branch(a: Attacker) -> None:
    a.house.recipe()
    for trusted in ("evil/model@main", "evil/model", "evil/model@" + "a" * 39, "./model@" + "A" * 40):
        words = ("run", "recipe.toml", "--trust-remote-code", trusted)
        ended(a, USAGE, "does not read OWNER/NAME@COMMIT", words=words)


ATTACKS: tuple[Callable[[Attacker], None], ...] = (
    pickled_weights,
    pickles_beside_the_weights,
    weights_that_are_a_pickle,
    code_of_its_own,
    code_that_it_cannot_do_without,
    an_adapter_that_names_a_library,
    an_artifact_that_names_a_library,
    a_tokenizer_class_from_elsewhere,
    a_generation_of_its_own,
    a_kernel_of_the_hub,
    an_index_that_leads_elsewhere,
    a_configuration_without_end,
    a_template_that_reaches_for_python,
    a_template_that_walks_the_classes,
    a_template_without_end,
    a_template_that_fills_the_memory,
    a_wheel_that_climbs_out,
    a_wheel_with_an_absolute_name,
    a_wheel_with_a_link,
    a_wheel_that_is_a_bomb,
    a_gzip_file_that_is_a_bomb,
    pickles_in_a_checkpoint,
    a_checkpoint_that_is_a_pickle,
    digests_of_another_place,
    links_in_a_run_folder,
    a_link_in_an_artifact,
    names_that_lead_out,
    an_export_over_a_link,
    a_card_without_end,
    a_dataset_with_a_script,
    rows_that_are_markup,
    a_recipe_without_end,
    a_recipe_that_trusts_itself,
    trust_in_a_branch,
)
#: What `make test` leaves to `make faults`: near relatives of others, and those that take seconds.
LONG = (
    pickles_beside_the_weights,
    a_generation_of_its_own,
    a_template_that_walks_the_classes,
    a_wheel_with_an_absolute_name,
    a_wheel_with_a_link,
    a_wheel_that_is_a_bomb,
    a_checkpoint_that_is_a_pickle,
)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller limits, so that an attack reaches them in less time; and a place for wheels instead of an index."""
    from tunesmith_data import files
    from tunesmith_transformers.loading import chat_template as template

    monkeypatch.setattr(files, "HARMLESS", 1 << 20)
    monkeypatch.setattr(template, "SECONDS", 1)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    template.RENDERER.stop()


@pytest.mark.parametrize(
    "attack", amount(ATTACKS, tuple(a for a in ATTACKS if a not in LONG)), ids=lambda attack: attack.__name__
)
def test_an_attack_changes_nothing(
    attacker: Attacker, limits: None, fault: Recorder, attack: Callable[[Attacker], None]
) -> None:
    with fault("R10", attack.__name__.replace("_", " ")).trial(attack.__name__):
        attack(attacker)
