"""Models of a plan without their weights: every parameter has its shape and no value, so that nothing big is read."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.adapted import Adapted, ModelHandle
from tunesmith.artifact import Line, adapt
from tunesmith.context import Context, SilentReporter
from tunesmith.errors import MissingError, PluginError, TunesmithError
from tunesmith.guard import guarded, wrong_type
from tunesmith.labels import LABEL_HEADS, Labels
from tunesmith.plan import Plan, RolePlan, StagePlan, Use
from tunesmith.spec import Model


def line_of(plan: Plan, role: RolePlan, context: Context) -> Line:
    """How a role's model is made, without the artifacts of earlier stages, which are not there yet."""
    if role.stage is None:
        return Line(role.role.head, context.folder, role.model, role.quantizer, role.adapter)
    earlier = line_of(plan, plan.stage(role.stage).main_role, context)
    if role.carry == "merge":  # into the base in full precision
        return replace(earlier, head=role.role.head, quantizer=None, adapter=role.adapter)
    return replace(earlier, head=role.role.head)


def unloaded(line: Line, context: Context) -> Adapted | None:
    """The adapted model without weights; None where source, quantizer or adapter need them."""
    use = line.model
    assert use is not None
    assert isinstance(use.component, Model)
    if not use.component.skeleton or line.quantizer or _stored_quantized(use, line):
        return None
    try:
        return adapt(_skeleton(use, line, context), line.adapter, context)
    except PluginError:  # it looks at values that are not there; loaded, it shows what is wrong, if anything
        return None


def roles(plan: Plan, stage: StagePlan, labels: Labels | None, context: Context) -> dict[str, Adapted]:
    """Each role of a stage with its tokenizer and its limits, as its adapter leaves them, and without weights.

    Args:
        labels: those of the rows, for a head that has one output for each.

    Raises:
        MissingError: the source of a model offers none without its weights.
        TunesmithError: a model cannot be had, or its adapter does not fit it.
    """
    context = context.with_(reporter=SilentReporter(), fresh=False)
    found: dict[str, Adapted] = {}
    for name, role in stage.roles.items():
        if role.shares is not None:
            found[name] = found[role.shares]
            continue
        line = line_of(plan, role, context)
        own = context.with_(folder=line.folder, labels=labels if line.head in LABEL_HEADS else None)
        found[name] = _unweighed(replace(line, labels=own.labels), own)
    return found


def _unweighed(line: Line, context: Context) -> Adapted:
    """As `unloaded`, and without the adapter where that needs weights: it then changes neither tokens nor limits.

    A quantizer changes neither, and is left out.
    """
    use = line.model
    if use is None or not isinstance(use.component, Model) or not use.component.skeleton:
        named = f"model source {use.component.name!r}" if use else "this stage's model"
        raise MissingError(f"{named} offers no model without its weights", fix="Its record's `skeleton` would.")
    handle = _skeleton(use, line, context)
    try:
        return adapt(replace(handle), line.adapter, context)
    except PluginError:  # it looks at values that are not there
        return Adapted(handle)
    except TunesmithError:
        if line.quantizer is None:
            raise
        return Adapted(handle)  # an adapter for packed weights


def _skeleton(use: Use, line: Line, context: Context) -> ModelHandle:
    with guarded(use):
        handle = use.component.resolve("skeleton")(use.settings, context, line.head)
    if not isinstance(handle, ModelHandle):
        raise wrong_type(use, "ModelHandle", handle)
    for parameter in handle.model.parameters():
        parameter.requires_grad_(False)
    return replace(handle, labels=line.labels)


def _stored_quantized(use: Use, line: Line) -> bool:
    assert isinstance(use.component, Model)
    if not use.component.quantized:
        return False
    with guarded(use):
        return use.component.resolve("quantized")(use.settings, line.folder) is not None
