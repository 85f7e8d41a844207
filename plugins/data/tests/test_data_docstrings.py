"""Functions and docstrings: what is taken out of source, and what the loader makes of it."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, MissingError
from tunesmith_data.docstrings import check, load
from tunesmith_data.functions import first_sentence, functions
from tunesmith_data.settings import DocstringsSettings

MODULE = '''
class Stack:
    @property
    def top(self):
        """Return the item that was added last. Fails when empty."""

        # the end is the top
        return self.items[-1]

    async def café(self): "Serve one cup, é, and leave."; return 1

    def empty(self):
        """Has no body of its own."""

def outer(a,
          b=2):
    """
    Add two numbers,
    whatever they are.

    More about it.
    """
    def inner():
        """Give the sum of both arguments."""
        return a + b
    return inner()


def plain():
    return 0
'''


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """An importable package `samplepack` with the given modules."""
    root = folder / "samplepack"
    for name, text in {"__init__": "", **files}.items():
        file = root / f"{name.replace('__in__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)


def take(context: Context | None = None, **settings: Any) -> Dataset:
    return load(DocstringsSettings(**{"package": "samplepack", **settings}), context or Context())


def test_source_comes_without_its_docstring_and_else_unchanged() -> None:
    found = {function.line: function for function in functions(MODULE)}
    assert found[4].source == ("@property\ndef top(self):\n    # the end is the top\n    return self.items[-1]")
    assert found[4].sentence == "Return the item that was added last."
    assert found[10].source == "async def café(self): return 1"
    assert found[15].source == textwrap.dedent(
        '''\
        def outer(a,
                  b=2):
            def inner():
                """Give the sum of both arguments."""
                return a + b
            return inner()'''
    )
    assert found[15].sentence == "Add two numbers, whatever they are."
    assert found[23].source == "def inner():\n    return a + b"
    assert sorted(found) == [4, 10, 15, 23]


def test_functions_below_every_kind_of_statement_are_found() -> None:
    body = 'def f{}():\n    """Say which branch this is."""\n    return {}\n'
    parts = ["if a:", "elif b:", "else:", "try:", "except E:", "finally:", "with c:", "for d in e:", "while g:"]
    text = "".join(head + "\n" + textwrap.indent(body.format(index, index), "    ") for index, head in enumerate(parts))
    text += "match m:\n    case 1:\n" + textwrap.indent(body.format(9, 9), "        ")
    assert [function.source[4:6] for function in functions(text)] == [f"f{index}" for index in range(10)]


def test_carriage_returns_and_form_feeds_do_not_shift_lines() -> None:
    text = 'x = 1\n\x0c\ndef f():\r\n    """Return one, always the same."""\r\n    return 1\r\n'
    assert [function.source for function in functions(text)] == ["def f():\n    return 1"]


@pytest.mark.parametrize(
    ("doc", "sentence"),
    [
        ("Return one.", "Return one."),
        ("Return one. And two.", "Return one."),
        ("Return\n   one\n\n   And two.", "Return one"),
        ("Use it, e.g. Python's own. Then go.", "Use it, e.g. Python's own."),
        ("Version 2.5 is fine. Yes.", "Version 2.5 is fine."),
        ("Really? Yes.", "Really?"),
        ("And so on... Until done. End", "And so on... Until done."),
        (">>> f()\n1", ""),
    ],
)
def test_first_sentence(doc: str, sentence: str) -> None:
    assert first_sentence(doc) == sentence


def test_rows_are_conversations_with_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, stack=MODULE)
    dataset = take(instruction="Describe it.", system="Be brief.")
    assert dataset.type == "prompt-completion"
    assert dataset.recognised == "functions and docstrings of samplepack"
    assert dataset.train.ids == [f"samplepack/stack.py:{line}" for line in (4, 15, 23)]
    assert dataset.train.rows[2] == {
        "prompt": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Describe it.\n\ndef inner():\n    return a + b"},
        ],
        "completion": [{"role": "assistant", "content": "Give the sum of both arguments."}],
    }
    bare = take(instruction="")
    assert bare.train.rows[2]["prompt"] == [{"role": "user", "content": "def inner():\n    return a + b"}]


def test_rows_carry_their_kind_when_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, stack=MODULE)
    plain, told = take().train.rows, take(kinds=True).train.rows
    assert [row["kind"] for row in told] == ["method", "function", "function"]
    assert [{key: row[key] for key in ("prompt", "completion")} for row in told] == plain


def test_settings_select_before_rows_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, stack=MODULE)
    context = Context()
    assert len(take(context, max_source_chars=30).train) == 1
    assert (context.ledger.rows_in, context.ledger.dropped) == (1, 0)
    assert len(take(min_source_lines=1).train) == 4
    assert len(take(min_doc_chars=32).train) == 2
    assert len(take(max_doc_chars=31).train) == 1
    assert len(take(limit=2).train) == 2
    with pytest.raises(DataError, match="no function of 'samplepack' has a docstring that the settings admit"):
        take(min_doc_chars=140)


def test_equal_sources_are_dropped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, one=MODULE, two=MODULE)
    context = Context()
    dataset = take(context)
    assert len(dataset.train) == 3
    assert [(entry.row, f"{entry.reason} {entry.detail}".strip()) for entry in context.ledger.entries] == [
        (f"samplepack/two.py:{line}", f"duplicate of samplepack/one.py:{line}") for line in (4, 15, 23)
    ]
    assert context.ledger.rows_in == 6


def test_tests_and_broken_files_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, tests__in__stack=MODULE, broken="def f(:\n", good=MODULE)
    (tmp_path / "samplepack" / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "samplepack" / "nul.py").write_bytes(b"x = 1\0\n")
    assert {name.rpartition(":")[0] for name in take().train.ids} == {"samplepack/good.py"}


def test_submodule_and_single_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, one=MODULE, two=MODULE)
    assert take(package="samplepack.two").train.ids[0] == "two.py:4"
    (tmp_path / "samplemodule.py").write_text(MODULE, encoding="utf-8")
    assert take(package="samplemodule").train.ids[0] == "samplemodule.py:4"


@pytest.mark.parametrize("name", ["no_such_package", "sys", "json.no_such", "math.x", "json..decoder"])
def test_package_without_source_here_is_refused_at_plan_time(name: str) -> None:
    with pytest.raises(MissingError, match=r"not installed here|no Python source here"):
        check(DocstringsSettings(package=name), Path())


def test_one_file_alone_cannot_be_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, one=MODULE)
    dataset = take(validation=0.5, shuffle=True)
    assert len(dataset.validation) == 0
    assert len(dataset.train) == 3


@pytest.fixture(scope="module")
def standard_library() -> tuple[Dataset, Context]:
    context = Context(seed=7)
    return load(DocstringsSettings(validation=0.1), context), context


def test_standard_library_gives_thousands_of_pairs(standard_library: tuple[Dataset, Context]) -> None:
    dataset, context = standard_library
    rows = len(dataset.train) + len(dataset.validation)
    assert rows > 3000
    assert context.ledger.rows_in == rows + context.ledger.dropped
    context.ledger.check(0.05)
    assert 0.08 < len(dataset.validation) / rows < 0.12


def test_standard_library_split_keeps_files_together(standard_library: tuple[Dataset, Context]) -> None:
    dataset, _ = standard_library
    train, held = ({name.rpartition(":")[0] for name in part.ids} for part in (dataset.train, dataset.validation))
    assert not train & held
    names = [*dataset.train.ids, *dataset.validation.ids]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "/test" in name or "site-packages" in name]


def test_standard_library_rows_hold_what_they_say(standard_library: tuple[Dataset, Context]) -> None:
    dataset, _ = standard_library
    for row in dataset.train.rows:
        (asked,), (answered,) = row["prompt"], row["completion"]
        instruction, _, source = asked["content"].partition("\n\n")
        assert instruction == DocstringsSettings().instruction
        assert source.startswith(("def ", "async def ", "@"))
        assert 20 <= len(answered["content"]) <= 150
        assert answered["content"] == " ".join(answered["content"].split())


def test_standard_library_sources_are_python_still(standard_library: tuple[Dataset, Context]) -> None:
    import ast

    dataset, _ = standard_library
    for name, row in list(dataset.train)[::20]:
        tree = ast.parse(row["prompt"][0]["content"].partition("\n\n")[2])
        function = tree.body[0]
        assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)), name
        assert row["completion"][0]["content"] not in (ast.get_docstring(function) or ""), name
