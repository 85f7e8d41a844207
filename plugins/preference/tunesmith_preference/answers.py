"""Single answers, wanted or unwanted, as KTO learns from them, for a run and for `tunesmith data`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunesmith import Context, DataError, Dataset, Ledger, ModelHandle, Shown
from tunesmith_preference.reference import limit_of
from tunesmith_preference.settings import KtoSettings, one_or_last
from tunesmith_transformers.tokens import cache as token_cache
from tunesmith_transformers.tokens import encoding as tokens
from tunesmith_transformers.tokens.contract import contract
from tunesmith_transformers.tokens.example import Encoded, weight_of
from tunesmith_transformers.tokens.pairs import UNEVEN
from tunesmith_transformers.tokens.showing import shown

Handles = Mapping[str, ModelHandle]


@dataclass(frozen=True)
class Answers:
    """Answers, in the order of the rows.

    Args:
        rows: prompts with their answers.
        wanted: whether each answer is.
        weights: how much each row counts in the loss.
        mismatched: each prompt with another row's answer, where the loss takes those.
    """

    rows: Sequence[Encoded]
    wanted: Sequence[bool]
    weights: Sequence[float]
    mismatched: Sequence[Encoded]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each."""
        return [len(row.ids) for row in self.rows]


def encode(data: Dataset, handles: Handles, settings: KtoSettings, context: Context) -> Answers:
    """Encode the training rows and check them; the ledger, the facts and the console are told.

    Raises:
        DataError: too many rows are lost, all answers are of one kind, or all prompts are one.
        RecipeError: max_length is more than the models take.
    """
    policy = handles["policy"]
    limit = limit_of(handles, settings)
    found = token_cache.encode(
        data.train,
        "prompt-completion",
        policy.tokenizer,
        context,
        max_length=limit,
        overlong=settings.overlong,
        turns=one_or_last(settings),
        columns=policy.columns,
        keep=settings.token_cache,
    )
    labels = {name: bool(row["label"]) for name, row in data.train}
    kept = {item.row for item in found}
    weights = {name: weight_of(row) for name, row in data.train if name in kept}
    even = _even(found, weights, context.ledger)
    rows = without_contradictions(even, labels, limit, context.ledger)
    context.check_rows()
    context.facts["tokens"] = facts = contract(rows, policy.tokenizer)
    context.ledger.trained = len(rows)
    wanted = [labels[row.row] for row in rows]
    _check_kinds(wanted)
    context.reporter.say(
        f"{sum(wanted)} wanted and {len(wanted) - sum(wanted)} unwanted answers, {facts['tokens']} tokens"
    )
    others = mismatched(rows, limit) if settings.loss_type == "kto" else []
    return Answers(rows, wanted, [weights[row.row] for row in rows], others)


def show(data: Dataset, handles: Handles, settings: KtoSettings, context: Context) -> list[Shown]:
    """The training rows token by token: the prompt with its answer, and whether that is wanted."""
    tokenizer = handles["policy"].tokenizer
    found = tokens.encode(
        data.train,
        "prompt-completion",
        tokenizer,
        max_length=limit_of(handles, settings),
        overlong=settings.overlong,
        turns=one_or_last(settings),
        ledger=context.ledger,
    )
    rows = dict(data.train)
    even = _even(found, {item.row: weight_of(rows[item.row]) for item in found}, context.ledger)
    return [shown(item, tokenizer, "wanted" if rows[item.row]["label"] else "unwanted") for item in even]


def _even(found: Iterable[Encoded], weights: Mapping[str, float], ledger: Ledger) -> list[Encoded]:
    """The answers whose tokens all weigh as their row does; others go to the ledger."""
    kept = []
    for item in found:
        if set(item.weights) <= {0.0, weights[item.row]}:
            kept.append(replace(item, weights=()))
        else:
            ledger.drop(item.row, UNEVEN)
    return kept


def without_contradictions(
    encoded: Sequence[Encoded], labels: Mapping[str, bool], limit: int | None, ledger: Ledger
) -> list[Encoded]:
    """The answers without those that are wanted in one row and unwanted in another; these go to the ledger.

    Args:
        labels: by row, whether its answer is wanted.
        limit: longest row, in tokens; two answers may be the same because they were cut there.
        ledger: knows which were.
    """
    cut = {entry.row for entry in ledger.of("truncated")}
    seen: dict[tuple[int, ...], set[bool]] = {}
    for row in encoded:
        seen.setdefault(row.ids, set()).add(labels[row.row])
    kept = []
    for row in encoded:
        if len(seen[row.ids]) == 1:
            kept.append(row)
        elif row.row in cut:
            ledger.drop(row.row, f"wanted and unwanted are identical after the cut at max_length = {limit}")
        else:
            ledger.drop(row.row, "the same answer is wanted and unwanted")
    return kept


def mismatched(encoded: Sequence[Encoded], limit: int | None) -> list[Encoded]:
    """Each prompt with the answer of the next row whose prompt is another one, around the end to the start.

    Args:
        limit: longest row, in tokens; the answer is cut.

    Raises:
        DataError: all rows have one prompt, so that no answer is out of place.
    """
    starts = [row.supervised.index(True) for row in encoded]
    prompts = [row.ids[:start] for row, start in zip(encoded, starts, strict=True)]
    count = len(encoded)
    following = [0] * count  # the next row with another prompt, found from the end on, twice around
    found: int | None = None
    for step in range(2 * count - 1, -1, -1):
        here, after = step % count, (step + 1) % count
        if prompts[here] != prompts[after]:
            found = after
        if step < count and found is None:
            raise DataError(
                "all rows have one prompt: KTO estimates the drift from the reference by answers to other prompts",
                fix='Add rows with other prompts, or set loss_type = "apo_zero_unpaired" in [trainer].',
            )
        following[here] = found if found is not None else 0
    result = []
    for index, row in enumerate(encoded):
        other = following[index]
        answer = encoded[other].ids[starts[other] :]
        ids = (*prompts[index], *answer)[:limit]
        supervised = (*row.supervised[: starts[index]], *encoded[other].supervised[starts[other] :])[:limit]
        result.append(replace(row, ids=ids, supervised=supervised))
    return result


def _check_kinds(wanted: Sequence[bool]) -> None:
    if len(set(wanted)) < 2:
        raise DataError(
            f"every row's label is {str(wanted[0]).lower()}: KTO learns from wanted and unwanted answers",
            fix="Add rows of the other kind.",
        )
