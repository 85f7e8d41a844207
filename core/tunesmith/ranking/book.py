"""The answers that were drawn, kept beside the file of rankings, so that going on draws none again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError, UsageError
from tunesmith.ranking.order import choices
from tunesmith.ranking.prompts import Question
from tunesmith.store import DIGESTS, sha256_file, write_json

FORMAT = 1
#: What is added to the name of the file of rankings.
SUFFIX = ".answers.json"


@dataclass(frozen=True)
class Participant:
    """A model whose answers are compared.

    Args:
        artifact: the folder it is loaded from.
        digest: of the artifact's digests.
        base: whether the artifact's base answers, without its adapter.
    """

    name: str
    artifact: str
    digest: str
    base: bool = False


@dataclass
class Book:
    """What was asked of whom, and what they answered.

    Args:
        path: the file.
        prompts: where the prompts come from, in words.
        source: digest of the file of prompts; empty for the rows of a run.
        use: the evaluator that lets the models answer.
        settings: its settings.
        draws: answers of each participant to each prompt.
        left_out: questions that not every participant can be asked, with the reason.
    """

    path: Path
    prompts: str
    source: str
    seed: int
    rows: int
    use: str
    settings: dict[str, Any]
    draws: int
    participants: list[Participant]
    questions: list[Question]
    left_out: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Book:
        """The book in a file.

        Raises:
            DataError: the file is damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError("its format is another one")
            participants = [Participant(**described) for described in content.pop("participants")]
            asked = [Question(**described) for described in content.pop("questions")]
            return cls(path=path, participants=participants, questions=asked, **content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"the answers in {path} cannot be read: {error}",
                where=str(path),
                fix="Restore the file from a copy, or begin anew with another --to.",
            ) from error

    def write(self) -> None:
        """Replace the file atomically.

        Raises:
            DiskError: it cannot be written; what was there is still there.
        """
        content = asdict(self)
        del content["path"]
        write_json(self.path, {"format": FORMAT, **content})

    @property
    def names(self) -> list[str]:
        """The participants, in the order in which they were named."""
        return [participant.name for participant in self.participants]

    @property
    def complete(self) -> bool:
        """Whether every participant has answered what it was asked."""
        return all(self.has(participant) for participant in self.participants)

    def has(self, participant: Participant) -> bool:
        """Whether a participant's answers are all here."""
        return all(len(question.answers.get(participant.name, ())) == self.draws for question in self.asked)

    @property
    def asked(self) -> list[Question]:
        """The questions that every participant answers."""
        return [question for question in self.questions if question.row not in self.left_out]

    @property
    def alike(self) -> list[Question]:
        """Those to which all gave the same answer, so that there is nothing to judge."""
        return [question for question in self.asked if len(choices(question, self.seed)) < 2]

    @property
    def to_judge(self) -> list[Question]:
        """Those with two different answers or more."""
        alike = {question.row for question in self.alike}
        return [question for question in self.asked if question.row not in alike]

    def check_same(self, wanted: Mapping[str, Any], participants: list[Participant]) -> None:
        """Refuse to go on with another comparison than the one that was begun.

        Args:
            wanted: what the command line says, by the option's name; None for what it leaves open.
            participants: those that it names; none for those that are here.

        Raises:
            UsageError: with each difference.
        """
        here: dict[str, Any] = {"--rows": self.rows, "--seed": self.seed, "--answers": self.draws, "--use": self.use}
        here |= {f"--{name.replace('_', '-')}": value for name, value in self.settings.items()}
        here["--prompts"] = self.source
        details = [
            f"{option}: begun with {_shown(here.get(option))}, now {_shown(value)}"
            for option, value in wanted.items()
            if value is not None and here.get(option) != value
        ]
        if participants and participants != self.participants:
            known = {participant.name: participant for participant in self.participants}
            for one in participants:
                if one.name not in known:
                    details.append(f"{one.name}: was not among {', '.join(known)}")
                elif one.digest != known[one.name].digest or one.base != known[one.name].base:
                    details.append(f"{one.name}: is another model now ({one.artifact})")
            gone = [name for name in known if name not in {one.name for one in participants}]
            details += [f"{name}: is not named now" for name in gone]
        if details:
            raise UsageError(
                f"{self.path.name.removesuffix(SUFFIX)} belongs to another comparison",
                where=str(self.path),
                details=details,
                fix="Write to another file with --to, or leave these out to go on with what was begun.",
            )


def book_path(rankings: Path) -> Path:
    """Where the answers for a file of rankings are kept."""
    return rankings.with_name(rankings.name + SUFFIX)


def participant(name: str, artifact: Path, *, base: bool = False) -> Participant:
    """A participant as its artifact is now."""
    return Participant(name, str(artifact.absolute()), sha256_file(artifact / DIGESTS), base)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
