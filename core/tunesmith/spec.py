"""Records that plugins yield: one frozen class per kind of component.

A record costs nothing to make: it names its factory as `"package.module:callable"`, and that module
is imported when the component is first used. Records check themselves when they are built, so a
mistake shows where it was made.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

NAME = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*\Z")
REFERENCE = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")

RecordType = Literal[
    "text",  # text
    "prompt-completion",  # prompt + completion
    "messages",  # messages: list of {role, content, ...}, see docs/reference/hooks.md
    "preference",  # prompt + chosen + rejected
    "unpaired-preference",  # prompt + completion + label
    "prompt",  # prompt
    "text-label",  # text + label
    "text-labels",  # text + labels: any number of them
    "tokens-tags",  # tokens + tags: one label a token
]

Head = Literal["causal-lm", "scalar", "sequence-labels", "token-labels", "none"]

#: The columns that each record type must have, in the names that TRL uses.
RECORD_COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("text",),
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages",),
    "preference": ("prompt", "chosen", "rejected"),
    "unpaired-preference": ("prompt", "completion", "label"),
    "prompt": ("prompt",),
    "text-label": ("text", "label"),
    "text-labels": ("text", "labels"),
    "tokens-tags": ("tokens", "tags"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of every component's settings: a frozen dataclass, one documented field per setting.

    Write constraints with `Annotated[int, Gt(0)]` (annotated-types) and a docstring under each field
    that gives its meaning and unit. Values are checked when a plan is made, never at listing.
    """


@dataclass(frozen=True, kw_only=True)
class Component:
    """What every kind of component has in common.

    A record may be written with a real function in place of the `factory` reference; that suits a
    method kept in a single local file, where there is no package to name.
    """

    kind: ClassVar[str] = ""

    name: str
    """What a recipe writes after `use`; kebab-case."""
    summary: str
    """One line for listings."""
    factory: str | Callable[..., Any]
    """`"package.module:callable"`, imported at first use."""
    settings: type[Settings] = Settings
    """The settings class."""
    requires: tuple[str, ...] = ()
    """Import names that must be present; looked up without importing them."""
    check: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `check(settings, folder)` when a plan is made:
    raises a `TunesmithError` for what can be known without loading a model, and may return (or yield) sentences
    that `tunesmith plan` and a run show. With a parameter `device` it is handed the recipe's; a trainer's with
    `evaluators` the names of its stage's evaluators. Must not import torch."""
    estimate: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`: this component's part of what a stage will take, as a record of
    `tunesmith.estimate`, asked for by `tunesmith plan`; how it is called depends on the kind. Must not import torch."""

    def __post_init__(self) -> None:
        label = f"{type(self).__name__} {self.name!r}"
        if type(self) is Component:
            raise TypeError("Component is abstract: yield a Loader, Model, Adapter, Trainer, ...")
        if not isinstance(self.name, str) or not NAME.match(self.name):
            raise ValueError(f"{label}: the name must be kebab-case, such as 'my-method'")
        if not isinstance(self.summary, str) or not self.summary.strip() or "\n" in self.summary:
            raise ValueError(f"{label}: the summary must be one non-empty line")
        for option in self._references():
            value = getattr(self, option)
            if value and not callable(value) and not (isinstance(value, str) and REFERENCE.match(value)):
                raise ValueError(f"{label}: {option} must read 'package.module:callable', not {value!r}")
        if not self.factory:
            raise ValueError(f"{label}: the factory is missing")
        if isinstance(self.requires, str) or not all(isinstance(item, str) for item in self.requires):
            raise TypeError(f"{label}: requires must be a tuple of import names, such as ('peft',)")
        if not (inspect.isclass(self.settings) and issubclass(self.settings, Settings)):
            raise TypeError(f"{label}: settings must be a class that derives tunesmith.Settings")
        if not getattr(vars(self.settings).get("__dataclass_params__"), "frozen", False):
            raise TypeError(f"{label}: decorate {self.settings.__name__} with @dataclass(frozen=True, kw_only=True)")

    def _references(self) -> tuple[str, ...]:
        return ("factory", "check", "estimate")

    def resolve(self, option: str = "factory") -> Callable[..., Any]:
        """Import and return what `factory` (or another reference field) names.

        Raises:
            MissingError: the module or the name in it is not there, or its import fails.
        """
        from tunesmith.errors import MissingError

        reference = getattr(self, option)
        if callable(reference):
            return reference
        module_name, _, attribute = reference.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except (Exception, SystemExit) as error:
            raise MissingError(
                f"{self.kind} {self.name!r}: its {option} {reference!r} cannot be imported: "
                f"{type(error).__name__}: {error}",
                fix="Reinstall or update the plugin; `tunesmith plugins list` says which package it is.",
            ) from error
        if not callable(found):
            raise MissingError(
                f"{self.kind} {self.name!r}: its {option} {reference!r} is not callable",
                fix="Reinstall or update the plugin; `tunesmith plugins list` says which package it is.",
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Loader(Component):
    """Reads rows: `factory(settings, context) -> Dataset`."""

    kind: ClassVar[str] = "loader"

    sources: bool = False
    """Whether it combines other loaders: `[data.sources.NAME]` are theirs, and `context.sources` loads each."""


@dataclass(frozen=True, kw_only=True)
class Step(Component):
    """Prepares rows: `factory(settings, context) -> callable`, which takes `Row` records and yields each again."""

    kind: ClassVar[str] = "step"

    after_split: bool = False
    """Whether it runs when rows are held out already, as what adds or compares rows must; it may then drop held-out
    rows, but neither change nor add any. Other steps run before the split, on rows as they were read."""


def claims_nothing(source: str, folder: Path) -> int:
    """The default of `Model.claims`: the source is used only by name."""
    return 0


@dataclass(frozen=True, kw_only=True)
class Model(Component):
    """Loads a model and its tokenizer: `factory(settings, context, head, load_options) -> ModelHandle`."""

    kind: ClassVar[str] = "model"

    claims: Callable[[str, Path], int] = claims_nothing
    """`claims(source, folder)`: how sure this source is that it understands `[model] source`, relative
    to the recipe's folder. 0 is no; the highest wins when the recipe has no `use`."""
    quantized: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `quantized(settings, folder) -> str | None` when a plan is made:
    how the weights are stored quantized, as far as that is known without loading them. Must not import torch."""
    tokenizer: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `tokenizer(settings, context)`: returns the model's
    tokenizer without loading its weights. `tunesmith data show --mask` needs it."""
    has_template: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `has_template(settings, context) -> bool`: whether the model
    comes with a chat template, told without loading its tokenizer. Where it is left out, the tokenizer is asked."""
    config: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `config(settings, context)` when a plan is made: returns the
    model's own configuration, a mapping, or None where it cannot be read without fetching or loading anything. What
    adapters and trainers refuse of it (`fits`), the plan refuses. Must not import torch."""
    shapes: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `shapes(settings, context)` when a plan is made: returns the
    shape of each stored tensor by its name, or None where these are not known without fetching or loading anything, or
    are those of packed weights. Must not import torch."""
    fits: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `fits(settings, config, shapes, context)` when a plan is made,
    with what `config` and `shapes` give: raises a `TunesmithError` where the settings do not fit the model, and returns
    sentences that the plan shows, or None. Must not import torch."""
    skeleton: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `skeleton(settings, context, head)`: returns a `ModelHandle`
    whose parameters have shapes and no values (torch's meta device). `tunesmith plan --probe` then reads no weights."""
    identity: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `identity(settings, folder, digest) -> Mapping[str, str]` when a
    plan is made: what decides the model that these settings load, by name: the digest of each file of weights,
    configuration and tokenizer (`digest(path)` computes it, once for a file that stays as it is), the commit of a
    repository. A stage is reused, and a run resumed, only while it stays the same. Without it, the files that the
    settings name count, and every file in the folders that they name. Must not import torch."""

    def _references(self) -> tuple[str, ...]:
        own = ("quantized", "tokenizer", "has_template", "config", "shapes", "fits", "skeleton", "identity")
        return (*super()._references(), *own)


@dataclass(frozen=True, kw_only=True)
class Quantizer(Component):
    """Turns a load into a quantized one: `factory(settings, context) -> Quantization`."""

    kind: ClassVar[str] = "quantizer"

    unpack: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `unpack(settings, shape, device)`: packs a weight (out, in) and
    returns a callable that unpacks it, as each product with it does. `tunesmith plan --probe` times it."""

    def _references(self) -> tuple[str, ...]:
        return (*super()._references(), "unpack")


@dataclass(frozen=True, kw_only=True)
class Adapter(Component):
    """Chooses or adds what is trained: `factory(handle, settings, context) -> Adapted`."""

    kind: ClassVar[str] = "adapter"

    identity: bool = True
    """Whether the model's outputs are unchanged before the first step."""
    merges: bool = True
    """Whether `Adapted.merge()` folds the adapter into the base weights."""
    checkpointing: bool = True
    """Whether it can be trained with activation checkpointing; if not, `Adapted.begin` must refuse it."""
    fits: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `fits(settings, config, head)` when a plan is made, with the
    model's own configuration, None where it is not known, and the head of its role: raises a `TunesmithError` where the
    adapter does not fit, and returns the configuration as it leaves it (other positions, ...), or None where that is as
    it was. One with a parameter `shapes` is handed the shape of each stored tensor by its name, or None. Must not
    import torch."""
    trains_own: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `trains_own(settings, head) -> bool` when a plan is made: whether
    weights of the model itself, its head's included, are trained in the type in which they are held. A plan refuses
    that for float16. Must not import torch."""
    trains_added: bool = False
    """Whether it trains the tokens that `[model] add_tokens` adds to a vocabulary (`ModelHandle.added`)."""
    formula: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `formula(model, settings) -> int` with the
    unadapted model: how many parameters the method's own definition says it trains."""

    def _references(self) -> tuple[str, ...]:
        return (*super()._references(), "fits", "trains_own", "formula")


@dataclass(frozen=True, kw_only=True)
class Role:
    """One model that a trainer needs.

    Roles that are not in the recipe fall back to `default`: `"policy:disabled"` is the handle of the
    role `policy` with its adapter disabled, or as an earlier stage left it when it goes on with that stage's adapter.
    An `optional` role that is not in the recipe is not among the models that the trainer is given.
    """

    name: str
    trainable: bool = False
    head: Head = "causal-lm"
    default: str | None = None
    optional: bool = False
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Trainer(Component):
    """Trains: `factory(models, data, settings, context) -> TrainResult`."""

    kind: ClassVar[str] = "trainer"

    roles: tuple[Role, ...] = (Role(name="model", trainable=True),)
    """The models it needs; the first is the one that is evaluated and kept."""
    accepts: tuple[RecordType, ...] = ()
    """The record types that it can train on; empty for all."""
    arguments: str = ""
    """Optional `"package.module:Class"`: the wrapped library's own arguments (a dataclass), reachable
    under `[trainer.arguments]`; field names are checked when the plan is made, without importing."""
    evaluators: tuple[str | Mapping[str, Any], ...] = ()
    """What a run measures when its recipe has no [[evaluate]]: names of evaluators, or tables with `use` and settings.
    Those that are not installed, or cannot score the rows, are left out."""
    encode: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `encode(data, handles, settings, context)` with a `Dataset` and a
    `ModelHandle` for each role: the training rows as the trainer learns from them. The factory calls it too, so that
    `tunesmith data check` finds what a run finds. It tells `context.ledger` what it drops and cuts and how many rows
    are `trained`, raises as a run does, and returns a sequence with `lengths`: tokens of each example. The models of
    the handles may be without values."""
    show: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `show(data, handles, settings, context)`: the training rows token
    by token, as `Shown` records. A row that `encode` would drop goes to `context.ledger`; nothing is refused."""
    preview: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `preview(rows, record_type, settings, tokenizer)` with
    `Records`: for each row its tokens in order, `list[list[tuple[text, supervised]]]`. For a trainer without `show`."""
    fits: str | Callable[..., Any] = ""
    """Optional `"package.module:callable"`, called as `fits(settings, configs)` when a plan is made: `configs` has the
    configuration of each role's model as it is adapted, or None where it is not known, the first role first. Raises a
    `TunesmithError` where the settings do not fit. Must not import torch."""
    rate: str = ""
    """The setting that holds its learning rate, of a trainer that follows `context.schedule` and reports the loss of
    every step; empty for one that does not."""

    def _references(self) -> tuple[str, ...]:
        return (*super()._references(), "arguments", "encode", "show", "preview", "fits")

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = set(self.accepts) - set(RECORD_COLUMNS)
        if unknown:
            raise ValueError(
                f"Trainer {self.name!r}: unknown record types {sorted(unknown)}; there are {sorted(RECORD_COLUMNS)}"
            )
        if not any(role.trainable for role in self.roles):
            raise ValueError(f"Trainer {self.name!r}: at least one role must be trainable")
        if self.roles[0].optional:
            raise ValueError(f"Trainer {self.name!r}: its first role, which is kept, cannot be optional")
        if self.rate and self.rate not in {item.name for item in fields(self.settings)}:
            raise ValueError(f"Trainer {self.name!r}: its rate {self.rate!r} is no setting of it")
        earlier: list[str] = []
        for role in self.roles:
            shared, _, how = (role.default or "").partition(":")
            if role.name in earlier:
                raise ValueError(f"Trainer {self.name!r}: two roles are called {role.name!r}")
            if role.default is not None and (how != "disabled" or shared not in earlier):
                raise ValueError(
                    f"Trainer {self.name!r}: role {role.name!r} has default {role.default!r}; it must read "
                    "'ROLE:disabled' with a role that stands before it"
                )
            earlier.append(role.name)


@dataclass(frozen=True, kw_only=True)
class Evaluator(Component):
    """Measures: `factory(handle, data, settings, context) -> Evaluation` or a mapping of `Measure`.

    One with roles is called `factory(handle, data, settings, context, models)`, with `Adapted` objects by role.
    """

    kind: ClassVar[str] = "evaluator"
    accepts: tuple[RecordType, ...] = ()
    """The record types that it can score; empty for all."""
    held_out: bool = True
    """Whether it reads the held-out rows; False for one that brings rows of its own."""
    standing: tuple[Head, ...] = ()
    """Heads of models on which every run measures it without being asked; `[run] verdict = false` leaves it out."""
    roles: tuple[Role, ...] = ()
    """The models that it needs besides the one that it measures; all frozen and without a default."""
    measures: tuple[str, ...] = ()
    """Names of all measures that it may give, with `*` for what rows or settings decide; empty where it does not say.
    A plan then refuses a trainer that waits for another."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = set(self.standing) - set(get_args(Head))
        if unknown:
            raise ValueError(
                f"Evaluator {self.name!r}: unknown heads {sorted(unknown)}; there are {sorted(get_args(Head))}"
            )
        names = [role.name for role in self.roles]
        if len(set(names)) < len(names):
            raise ValueError(f"Evaluator {self.name!r}: two of its roles have one name: {', '.join(names)}")
        for role in self.roles:
            if role.trainable or role.default:
                raise ValueError(f"Evaluator {self.name!r}: role {role.name!r} must be frozen and without a default")


@dataclass(frozen=True, kw_only=True)
class Exporter(Component):
    """Writes an artifact in another form: `factory(artifact, settings, context) -> Path`."""

    kind: ClassVar[str] = "exporter"


@dataclass(frozen=True, kw_only=True)
class Launcher(Component):
    """Runs a plan elsewhere: `factory(plan, settings, context) -> int`, an exit code."""

    kind: ClassVar[str] = "launcher"


@dataclass(frozen=True, kw_only=True)
class Preset(Component):
    """A partial recipe: `factory(settings) -> dict`, pure; the recipe's own keys win over it."""

    kind: ClassVar[str] = "preset"


@dataclass(frozen=True, kw_only=True)
class Searcher(Component):
    """Proposes values of a recipe's settings: `factory(space, settings, context) -> Study`."""

    kind: ClassVar[str] = "searcher"


KINDS: dict[str, type[Component]] = {
    record.kind: record
    for record in (Loader, Step, Model, Quantizer, Adapter, Trainer, Evaluator, Exporter, Launcher, Preset, Searcher)
}
