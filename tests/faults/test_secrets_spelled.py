"""Secrets with quotes, backslashes and letters of the world: nothing that a run writes holds them, however spelled."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from faults.battery import Recorder, amount

pytestmark = [pytest.mark.run, pytest.mark.fault("R27")]

SECRETS = (
    'pass"word"91',
    "back\\slash\\91",
    "it's<secret>&91",
    'all"of\\them\'<&>91',
    "sch\u00fctze\"n\\91",
    "two\nlines\"91",
    "tab\tand\"91\\",
    "percent%41\"91",
)  # fmt: skip


def spellings(secret: str) -> set[str]:
    plain = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return {text for one in plain for text in (one, html.escape(one), html.escape(one, quote=False))} | {quote(secret)}


@pytest.mark.parametrize("secret", amount(SECRETS, SECRETS[3:5]))
def test_a_secret_is_struck_however_it_is_spelled(
    call: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Recorder,
    secret: str,
) -> None:
    monkeypatch.setenv("ANOTHER_TOKEN", secret)
    toy = "fault = 'raise'\n"
    count = fault("R27", "in rows, errors and commands; looked for in every file and both streams")
    for what in ("done", "failed"):
        with count.trial(what):
            flat = secret.replace("\n", " ").replace("\t", " ")
            (tmp_path / "pairs.txt").write_text("".join(f"question {flat} {n}|answer {n}\n" for n in range(8)))
            if flat != secret:
                monkeypatch.setenv("FLAT_TOKEN", flat)
            recipe = (tmp_path / "recipe.toml").read_text()
            (tmp_path / "made.toml").write_text(
                recipe.replace('use = "pull"', f'use = "pull"\n{toy}') if what == "failed" else recipe
            )
            said = "".join(map(str, call("run", "made.toml", "--json")))
            shown = "".join(map(str, call("runs", "--json")))
            written = {str(path): path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
            for where, text in {"said": said.encode(), "runs": shown.encode(), **written}.items():
                for spelled in spellings(secret) | spellings(flat):
                    assert spelled.encode() not in text, f"{spelled!r} stands in {where}"


@pytest.mark.parametrize("secret", SECRETS)
def test_values_are_redacted_before_they_are_encoded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: str
) -> None:
    from tunesmith.console.paint import json_text
    from tunesmith.folder import RunFolder
    from tunesmith.secrets import redact
    from tunesmith.store import write_json

    monkeypatch.setenv("ANOTHER_TOKEN", secret)
    value = {"a": [f"x {secret} y", {secret: 1}], "b": f"https://me:{secret}@host" if "\n" not in secret else ""}
    write_json(tmp_path / "x.json", value)
    folder = RunFolder(tmp_path)
    folder.event("told", what=value)
    for text in (json_text(value), (tmp_path / "x.json").read_text(), (tmp_path / "events.jsonl").read_text()):
        assert not [spelled for spelled in spellings(secret) if spelled in text]
        assert "***" in text
    for spelled in spellings(secret):
        assert redact(f"a {spelled} b") == "a *** b"
