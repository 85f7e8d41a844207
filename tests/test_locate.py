"""Line numbers of keys agree with what tomli reads, whatever way the TOML is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tomli
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.locate import KeyPath, key_lines, line_of

WRITTEN = '''\
# a comment with = and [brackets]
preset = "qlora"                     # trailing [comment]
plugins = [
    "./one.py",  # the first ] bracket
    "./two]=.py",
]
trainer.use = "sft"
trainer.arguments.warmup = 3

text = """
[not.a.table]
rank = 5
""\\"quoted\\" [ {
"""
literal = \'\'\'
rank = 'x'
\'\'\'
nested = [[1, 2], [
    3]]

[adapter] # header
use = "lora"
"quoted key" = 1
'literal.key' = { a = 1, "b c" = [ { d = 2 } ], e.f = 3 }
  rank = 16

[ "stages" . sft . data ]
path = "a#b=c"
escaped = "quote \\" [ end"

[[evaluate]]
use = "perplexity"
[[evaluate]]
use = "generate"
[evaluate.options]
beam = 2
[[evaluate.inner]]
x = 1
[[evaluate.inner]]
x = 2
'''

EXPECTED: dict[KeyPath, int] = {
    ("preset",): 2,
    ("plugins",): 3,
    ("plugins", 0): 4,
    ("plugins", 1): 5,
    ("trainer",): 7,
    ("trainer", "use"): 7,
    ("trainer", "arguments", "warmup"): 8,
    ("text",): 10,
    ("literal",): 15,
    ("nested",): 18,
    ("nested", 1, 0): 19,
    ("adapter",): 21,
    ("adapter", "use"): 22,
    ("adapter", "quoted key"): 23,
    ("adapter", "literal.key", "a"): 24,
    ("adapter", "literal.key", "b c", 0, "d"): 24,
    ("adapter", "literal.key", "e", "f"): 24,
    ("adapter", "rank"): 25,
    ("stages",): 27,
    ("stages", "sft", "data", "path"): 28,
    ("stages", "sft", "data", "escaped"): 29,
    ("evaluate",): 31,
    ("evaluate", 0, "use"): 32,
    ("evaluate", 1): 33,
    ("evaluate", 1, "use"): 34,
    ("evaluate", 1, "options", "beam"): 36,
    ("evaluate", 1, "inner", 0, "x"): 38,
    ("evaluate", 1, "inner", 1, "x"): 40,
}


@pytest.mark.parametrize(("path", "line"), EXPECTED.items())
def test_keys_of_a_written_file(path: KeyPath, line: int) -> None:
    assert key_lines(WRITTEN)[path] == line


def test_windows_line_ends_change_nothing() -> None:
    assert key_lines(WRITTEN.replace("\n", "\r\n")) == key_lines(WRITTEN)


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_newlines_end_a_line(mark: str) -> None:
    # str.splitlines would count these too, and every line below would be wrong
    if ord(mark) < 0x20:
        with pytest.raises(tomli.TOMLDecodeError):
            tomli.loads(f'a = "{mark}"')
    else:
        assert key_lines(f'a = "{mark}"\nb = 1\n')[("b",)] == 2


def test_escapes_in_keys_are_read() -> None:
    assert key_lines('"a\\u0042\\"" = 1\n')[('aB"',)] == 1
    assert key_lines("'a\\u0042' = 1\n")[("a\\u0042",)] == 1
    assert key_lines('"" = 1\n')[("",)] == 1


def test_nothing_comes_of_nothing() -> None:
    assert key_lines("") == key_lines("\n# only words\n") == {}


def test_an_unknown_path_is_placed_at_the_table_that_holds_it() -> None:
    lines = key_lines(WRITTEN)
    assert line_of(lines, ("adapter", "alpha")) == 21
    assert line_of(lines, ("evaluate", 1, "nothing", "deep")) == 33
    assert line_of(lines, ("export",)) is None


# --- the property -----------------------------------------------------------------------------
keys = st.one_of(st.sampled_from(["a", "use", "rank", "b-c", "1", "true"]), st.text(min_size=0, max_size=6)).filter(
    lambda key: not any(0xD800 <= ord(letter) < 0xE000 for letter in key)
)
texts = st.one_of(
    st.text(alphabet="ab\"'[]{}=#.,\\\n \t", max_size=12),
    st.sampled_from(['"""', "'''", "[x]\na = 1\n", '\n"""\n[y]', "# no comment", "\\"]),
)
scalars = st.one_of(st.integers(-9, 9), st.booleans(), st.floats(-1e6, 1e6), texts, st.dates())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
trees = st.dictionaries(keys, values, max_size=5)


def paths(node: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from paths(child, (*path, key))


def written_as(key: str | int) -> set[str]:
    """The ways in which a key may stand in a line."""
    if isinstance(key, int):
        return {""}
    quoted = tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
    return {quoted, f'"{key}"', f"'{key}'"}


@settings(max_examples=150, deadline=None)
@given(trees, st.booleans(), st.booleans())
def test_every_key_stands_on_the_line_given_for_it(tree: dict[str, Any], multiline: bool, comments: bool) -> None:
    text = tomli_w.dumps(tree, multiline_strings=multiline)
    if comments and not multiline:  # a comment and a blank line before each header and key
        text = "".join(
            f"\n# [no.table] x = 'y\n{line}\n" if line[:1] not in ("", " ", "]", "}") else f"{line}\n"
            for line in text.split("\n")
        )
    parsed = tomli.loads(text)
    lines = key_lines(text)
    rows = text.split("\n")
    for path in paths(parsed):
        line = line_of(lines, path)
        assert line is not None, path
        assert any(form in rows[line - 1] for form in written_as(path[-1])), (path, rows[line - 1])
        assert path in lines or isinstance(path[-1], int), path


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(keys, scalars, min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_inline_tables_and_dotted_keys(table: dict[str, Any], newline: str) -> None:
    pairs = [tomli_w.dumps({key: value}).rstrip("\n") for key, value in table.items()]
    text = f"first = 1\ninline = {{ {', '.join(pairs)} }}\n" + "".join(f"dotted.{pair}\n" for pair in pairs)
    text = text.replace("\n", newline)
    assert tomli.loads(text)["inline"] == tomli.loads(text)["dotted"]
    lines = key_lines(text)
    for number, key in enumerate(table, 3):
        assert lines[("inline", key)] == 2
        assert lines[("dotted", key)] == number
