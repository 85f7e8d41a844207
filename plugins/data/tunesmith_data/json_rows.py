"""Rows out of JSON Lines and JSON documents. A row that cannot be read comes out with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tunesmith import DataError
from tunesmith_data import files
from tunesmith_data.raw import NOT_UTF8, Raw, bare, checked, kind, turn


def read_jsonl(path: Path) -> Iterator[Raw]:
    """One row a line, an object or a bare conversation; blank lines are no rows. Names carry line numbers.

    Raises:
        DataError: the file is damaged, or is no JSON Lines but a JSON document.
    """
    numbered = ((number, line) for number, line in enumerate(files.lines(path), 1) if line.strip())
    for number, line in _after_first(path, numbered):
        yield _json_line(f"{path.name}:{number}", line.strip(), ended=line.endswith(b"\n"))


def _after_first(path: Path, numbered: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """All lines again, once the first ones do not show that the file is a JSON document."""
    held: list[tuple[int, bytes]] = []
    for entry in numbered:
        held.append(entry)
        if len(held) > 1 or not _unfinished(entry[1]):
            break
    if not held:
        return iter(())
    (number, line), further = held[0], held[1:]
    said = ""
    if _unfinished(line) and further and not isinstance(_parsed(further[0][1]), dict):
        said = f"line {number} begins a JSON document over several lines, not one object a line"
    elif isinstance(rows := _parsed(line), list) and rows and isinstance(rows[0], dict) and not bare(rows):
        said = f"line {number} is a list of rows, not one object a line"
    if said:
        raise DataError(said, where=str(path), fix='Write use = "json", or store one object a line.')
    return chain(held, numbered)


def _unfinished(line: bytes) -> bool:
    """Whether a line is the beginning of a JSON document and no whole one."""
    try:
        json.loads(text := line.decode("utf-8").strip())
    except json.JSONDecodeError as error:
        return text[:1] in ("[", "{") and error.pos >= len(text)
    except (ValueError, RecursionError):
        return False
    return False


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _json_line(name: str, line: bytes, *, ended: bool) -> Raw:
    try:
        return checked(name, json.loads(line.decode("utf-8")))
    except UnicodeDecodeError:
        return Raw(name, None, NOT_UTF8)
    except json.JSONDecodeError as error:
        if not ended:
            return Raw(name, None, "bad JSON in the last line, which has no line end: the file may be cut")
        return Raw(name, None, f"bad JSON: {error.msg}")
    except RecursionError:
        return Raw(name, None, "bad JSON: nested too deeply")
    except ValueError:
        return Raw(name, None, "bad JSON: a number has too many digits")


def use_of(path: Path) -> str:
    """The loader of a file that is JSON by its first line, or "" for one that is not."""
    first = next((line for line in files.lines(path) if line.strip()), b"")
    found = _parsed(first)
    if isinstance(found, dict) or bare(found):
        return "jsonl"
    return "json" if _unfinished(first) or (_array(found) and bool(found) and isinstance(found[0], dict)) else ""


def read_json(path: Path, field: str) -> Iterator[Raw]:
    """The rows of an array, of the array under `field` of an object, or the object itself as a row.

    A path that names a folder or a pattern gives the rows of each file. Names carry positions from 1.

    Raises:
        DataError: a file is damaged, not UTF-8, not JSON, or holds no array of rows.
    """
    for name, file in files.several(path, JSON_ENDINGS):
        for number, value in enumerate(_rows(file, _documents(file), field), 1):
            yield checked(f"{name}:{number}", value)


BLANKS = " \t\r\n"  # of JSON
#: What the files of a folder end with, for a loader to read them.
JSON_ENDINGS = (".json", ".json.gz")


def _documents(path: Path) -> list[Any]:
    """The JSON documents of a file: one, or several that stand behind each other."""
    content = files.whole(path)
    if not content.strip(BLANKS.encode()):
        raise DataError("the file holds only blanks", where=str(path))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("not UTF-8", where=f"{path}:{line}", fix="Save the file as UTF-8.") from error
    decoder, place, found = json.JSONDecoder(), 0, []
    while rest := text[place:].lstrip(BLANKS):
        place = len(text) - len(rest)
        try:
            document, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise DataError(
                f"bad JSON: {error.msg} (column {error.colno})",
                where=f"{path}:{error.lineno}",
                fix="Mend the file from this place on."
                if text[:place] or rest[0] in "[{"
                else 'Plain text is read by use = "text", a table by use = "csv".',
            ) from error
        except (RecursionError, ValueError) as error:
            raise DataError(f"bad JSON: {error}", where=str(path)) from error
        found.append(document)
        behind = text[place:].strip(BLANKS)
        if len(found) == 1 and behind and "\n" not in text[:place].strip() and checked("", document).row is not None:
            raise DataError(
                "bad JSON: Extra data after the first line, which is whole",
                where=f"{path}:{text[:place].count(chr(10)) + 2}",
                fix='For one object a line write use = "jsonl".',
            )
    return found


def _rows(path: Path, documents: list[Any], field: str) -> list[Any]:
    """The rows of a file's documents; several documents are a row each."""
    if len(documents) > 1:
        return list(chain.from_iterable(one if _array(one) else [one] for one in documents))
    (document,) = documents
    if isinstance(document, list):
        return [document] if document and turn(document[0]) else document
    if isinstance(document, dict) and isinstance(document.get(field), list):
        return list(document[field])
    if isinstance(document, dict) and _is_row(document) and field == "data":
        return [document]
    found = f"; its keys are: {', '.join(list(document)[:20])}" if isinstance(document, dict) else ""
    lists = [key for key, value in document.items() if _listed(value)] if isinstance(document, dict) else []
    raise DataError(
        f"no array of rows: the file is {kind(document)}{found}",
        where=str(path),
        fix=f"Name the key that holds the array: field = {json.dumps(lists[0] if lists else 'KEY')}.",
    )


def _array(document: Any) -> bool:
    return isinstance(document, list) and not bare(document)


def _listed(value: Any) -> bool:
    """Whether a value is a list of rows, and no conversation."""
    return isinstance(value, list) and bool(value) and checked("", value[0]).row is not None and not turn(value[0])


def _is_row(document: dict[str, Any]) -> bool:
    """Whether an object is a row itself, and does not hold rows."""
    from tunesmith_data.formats import recognise

    return recognise([document]) is not None or not any(isinstance(value, list) for value in document.values())
