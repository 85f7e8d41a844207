"""Artifacts: what a stage keeps, and how a model comes back from it.

An artifact folder holds what the adapter saved, `tunesmith.json` (how the model was made), a model card, and
digests. When the stage started from another stage's merged model, that artifact is inside as `parent/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.adapted import Adapted, ModelHandle, ModuleAdapted, Quantization
from tunesmith.context import Context
from tunesmith.errors import DataError, PluginError, RecipeError
from tunesmith.guard import guarded, seed_everything, wrong_type
from tunesmith.labels import Labels
from tunesmith.oversight import named
from tunesmith.plan import RolePlan, Use
from tunesmith.recipe import Recipe, check_settings
from tunesmith.registry import Registry
from tunesmith.secrets import redact, redacted
from tunesmith.store import DIGESTS, commit_folder, parse_json, sha256_file, verify

CARD = "tunesmith.json"
PARENT = "parent"


@dataclass(frozen=True)
class Line:
    """How a model is made: load -> quantize -> adapt, or the merged artifact `parent` -> adapt.

    Args:
        folder: where relative paths in the settings start.
        labels: what the head tells apart, where it is one for labels.
    """

    head: str
    folder: Path
    model: Use | None = None
    quantizer: Use | None = None
    adapter: Use | None = None
    parent: Path | None = None
    labels: Labels | None = None

    def describe(self) -> dict[str, Any]:
        """The line as JSON-ready data."""
        uses = {"model": self.model, "quantizer": self.quantizer, "adapter": self.adapter}
        return {
            "head": self.head,
            "folder": str(self.folder),
            **{name: use.describe() for name, use in uses.items() if use},
            **({"parent": PARENT} if self.parent else {}),
            **({"labels": self.labels.describe()} if self.labels else {}),
        }


def line_of_role(role: RolePlan, folder: Path, artifacts: Mapping[str, Path], registry: Registry) -> Line:
    """The line of a planned role; `artifacts` are those of earlier stages."""
    if role.stage is None:
        return Line(role.role.head, folder, role.model, role.quantizer, role.adapter)
    artifact = artifacts[role.stage]
    if role.carry == "merge":
        return Line(role.role.head, folder, adapter=role.adapter, parent=artifact)
    return replace(read_line(artifact, registry), head=role.role.head)


def read_line(artifact: Path, registry: Registry) -> Line:
    """How the model of a committed artifact was made.

    Raises:
        DataError: the folder is no artifact.
        MissingError: a plugin that it needs is not installed.
    """
    card = read_card(artifact)
    line = card["line"]
    recipe = Recipe({}, artifact / CARD)
    uses: dict[str, Use | None] = {}
    for kind in ("model", "quantizer", "adapter"):
        described = line.get(kind)
        if described is None:
            uses[kind] = None
            continue
        entry = registry.find_again(kind, described["name"], described.get("distribution"), where=str(artifact / CARD))
        settings = check_settings(entry.component.settings, described["settings"], recipe, (kind,))
        uses[kind] = Use(entry.component, entry.qualified, entry.plugin.distribution, entry.plugin.version, settings)
    parent = artifact / PARENT if line.get("parent") else None
    labels = Labels.read(line["labels"]) if line.get("labels") else None
    return Line(line["head"], Path(line["folder"]), uses["model"], uses["quantizer"], uses["adapter"], parent, labels)


def read_card(artifact: Path) -> dict[str, Any]:
    """The content of an artifact's `tunesmith.json`.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = artifact / CARD
    try:
        card = parse_json(path.read_text(encoding="utf-8"))
        texts = [card["line"]["head"], card["line"]["folder"], card["base"]["digest"]]
        if labels := card["line"].get("labels"):
            texts += labels["names"]
        for kind in ("model", "quantizer", "adapter"):
            if use := card["line"].get(kind):
                texts.append(use["name"])
                dict(use["settings"])
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("its card is damaged")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{artifact} is not an artifact of Tunesmith: {error}",
            where=str(path),
            fix="Give a run folder or its `artifact` folder; `tunesmith runs` lists them.",
        ) from error
    return card


def load_base(line: Line, registry: Registry, context: Context, *, dense: bool = False) -> ModelHandle:
    """Load and quantize; the weights are frozen, so that an adapter says what moves.

    The adapter of an earlier stage is merged into the base in full precision, whatever it was trained over.

    Args:
        dense: leave quantizers out, that of a merged parent too.
    """
    context = context.with_(folder=line.folder, labels=line.labels, trusted_code=registry.trusted_code)
    quantizer = None if dense else line.quantizer
    if line.parent is not None:
        earlier = read_line(line.parent, registry)
        parent = _parent(line.parent, earlier, registry, context, dense=dense)
        if earlier.quantizer and not dense:
            context.reporter.say(
                f"the earlier stage's adapter, trained over {earlier.quantizer.component.name}, is merged into the "
                "base in full precision; this stage stands on dense weights"
            )
        elif parent.handle.quantized:
            context.reporter.warn(
                f"the base is stored as {parent.handle.quantized}: merging the earlier stage's adapter rounds it"
            )
        merging = earlier.adapter
        with guarded(merging) if merging else nullcontext():
            handle = _headed(replace(parent.handle, model=parent.merge(), drawn=(), added=()), line, context)
    else:
        assert line.model is not None
        quantization = Quantization(name="")
        if quantizer:
            with guarded(quantizer):
                quantization = quantizer.call(quantizer.settings, context)
            if not isinstance(quantization, Quantization):
                raise wrong_type(quantizer, "Quantization", quantization)
        with guarded(line.model):
            handle = line.model.call(line.model.settings, context, line.head, dict(quantization.load_options))
        if not isinstance(handle, ModelHandle):
            raise wrong_type(line.model, "ModelHandle", handle)
        if quantizer:
            with guarded(quantizer):
                handle = replace(quantization.after_load(handle), quantized=quantization.name)
    for parameter in handle.model.parameters():
        parameter.requires_grad_(False)
    return replace(handle, labels=line.labels)


def _parent(artifact: Path, line: Line, registry: Registry, context: Context, *, dense: bool) -> Adapted:
    """An earlier stage's model, to be merged: on the full base where it was trained over a quantized one.

    Raises:
        RecipeError: its adapter holds over the quantized base only.
    """
    try:
        return load_artifact(artifact, registry, context, dense=dense or line.quantizer is not None)
    except RecipeError as error:
        if line.quantizer is None or dense:
            raise
        raise RecipeError(
            f"the earlier stage's adapter cannot be merged into the base in full precision: {error.what}",
            where=str(artifact),
            details=error.details,
            fix="Go on with that adapter (leave out [adapter] in this stage), or train the earlier stage otherwise.",
        ) from error


def _headed(handle: ModelHandle, line: Line, context: Context) -> ModelHandle:
    """A merged model under the head that the line asks for.

    Raises:
        PluginError: its source cannot change heads.
    """
    if handle.head == line.head and handle.labels == line.labels:
        return handle
    if handle.with_head is None:
        raise PluginError(
            f"the model of {line.parent} has a {handle.head!r} head, and its source cannot make it a {line.head!r} one",
            fix="Name the model's source in this stage instead of the earlier stage.",
        )
    return handle.with_head(replace(handle, labels=line.labels), line.head, context.seed)


def adapt(handle: ModelHandle, use: Use | None, context: Context) -> Adapted:
    """Apply an adapter; a plain module that a factory returns gets the default handle."""
    if use is None:
        return Adapted(handle)
    seed_everything(context.seed)
    with guarded(use):
        adapted = use.call(handle, use.settings, context)
    if isinstance(adapted, Adapted):
        return named(adapted, use)
    if hasattr(adapted, "named_parameters"):
        return named(ModuleAdapted(handle, adapted), use)
    raise wrong_type(use, "Adapted or a torch module", adapted)


def load_artifact(artifact: Path, registry: Registry, context: Context, *, dense: bool = False) -> Adapted:
    """The model that a stage kept, ready to be used; checked against its digests and its base.

    Args:
        dense: put the adapter on the base in full precision, even when it was trained over a quantized one.

    Raises:
        TunesmithError: a file is damaged.
        DataError: the base is not the one that the adapter was trained on.
    """
    verify(artifact)
    line = read_line(artifact, registry)
    handle = load_base(line, registry, context, dense=dense)
    check_base(artifact, handle)
    adapted = adapt(handle, line.adapter, context.with_(folder=line.folder, fresh=False))
    if line.adapter:
        with guarded(line.adapter):
            adapted.load(artifact)
    adapted.model.eval()
    return adapted


def check_base(artifact: Path, handle: ModelHandle) -> None:
    """Check that a loaded base is the one that an artifact was made for.

    Raises:
        DataError: it is another one.
    """
    base = read_card(artifact)["base"]
    details = []
    if handle.digest != base["digest"]:
        details = [f"made for {base['digest'][:16]}", f"the source now holds {handle.digest[:16]} ({handle.source})"]
    details += changed_files(base.get("files", {}), handle.files)
    if details:
        raise DataError(
            f"the adapter in {artifact} was made for another base model",
            where=str(artifact / CARD),
            details=details,
            fix="Restore the base model that the run used.",
        )


def changed_files(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What became of the files of a base, a line each; those of one that tells none are not compared."""
    if not then or not now:
        return []
    words = {(True, False): "is gone", (False, True): "is new", (True, True): "changed"}
    return [
        f"{name} {words[name in then, name in now]}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def parent_digest(artifact: Path) -> str:
    """What tells one merged earlier stage from another: the digest over its digests; `none` without one."""
    return merged_digest(artifact / PARENT)


def merged_digest(parent: Path | None) -> str:
    """What tells the artifact `parent` from another one, wherever it lies; `none` where there is none."""
    return sha256_file(parent / DIGESTS)[:16] if parent and (parent / DIGESTS).is_file() else "none"


def commit(target: Path, line: Line, adapted: Adapted, card: Mapping[str, Any], text: str) -> Path:
    """Write an artifact atomically.

    Args:
        card: what `tunesmith.json` shall say besides the line and the base.
        text: the model card, Markdown.
    """

    def build(folder: Path) -> None:
        if line.adapter:
            with guarded(line.adapter):
                adapted.save(folder)
        describe(folder, line, adapted.handle, card, text)

    return commit_folder(target, build)


def describe(folder: Path, line: Line, handle: ModelHandle, card: Mapping[str, Any], text: str) -> None:
    """Write what makes an artifact of a folder that holds a saved adapter: card, model card, merged parent."""
    base = {
        "source": handle.source,
        "digest": handle.digest,
        "files": dict(handle.files),
        "quantized": handle.quantized,
    }
    content = {"format": 1, **card, "base": base, "line": line.describe()}
    (folder / CARD).write_text(
        redact(json.dumps(redacted(content), indent=2, ensure_ascii=False)) + "\n", encoding="utf-8"
    )
    (folder / "README.md").write_text(redact(text), encoding="utf-8")
    if line.parent is not None:
        shutil.copytree(line.parent, folder / PARENT)
