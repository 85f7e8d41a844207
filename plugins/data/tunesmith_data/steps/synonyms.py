"""Synonyms of words: from a file of one's own, or from WordNet (Miller 1995), read by NLTK."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunesmith import DataError, MissingError
from tunesmith_data.steps.settings import AugmentSettings

#: Where Debian's package wordnet-base puts the database.
DEBIAN = Path("/usr/share/wordnet")
NEEDED = ("data.noun", "data.verb", "data.adj", "data.adv", "index.noun", "index.verb", "index.adj", "index.adv")
#: Senses of a word that are looked at, the most frequent first: rare ones mislead.
SENSES = 2


def synonyms_of(settings: AugmentSettings, folder: Path) -> Callable[[str, random.Random], str | None]:
    """A function that draws a synonym of a word, in the word's case; None where there is none.

    Raises:
        DataError: the file is not there, or is no table of lists.
        MissingError: WordNet is not on this machine.
    """
    find = (
        _table(folder / settings.synonyms.expanduser())
        if settings.synonyms is not None
        else _wordnet(where_wordnet_is(settings.wordnet and folder / settings.wordnet.expanduser()))
    )

    def draw(word: str, chance: random.Random) -> str | None:
        found = find(word.lower())
        if not found:
            return None
        made = chance.choice(found)
        if word.isupper() and len(word) > 1:
            return made.upper()
        return made[:1].upper() + made[1:] if word[:1].isupper() else made

    return draw


def where_wordnet_is(named: Path | None) -> Path:
    """The folder of WordNet's database.

    Raises:
        MissingError: it is not on this machine.
    """
    from nltk import data

    places = [named] if named else [*(Path(str(place)) / "corpora" / "wordnet" for place in data.path), DEBIAN]
    for place in places:
        if all((place / name).is_file() for name in NEEDED):
            return place
    raise MissingError(
        "WordNet's database is not on this machine",
        where=str(named) if named else None,
        fix="Install it (`apt install wordnet-base`, or `python -m nltk.downloader wordnet`), name its folder with "
        "`wordnet`, or give a table of your own with `synonyms`.",
    )


def _wordnet(place: Path) -> Callable[[str], list[str]]:
    import warnings

    from nltk import data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        """NLTK's reader for a database wherever it is; Debian's has no `lexnames`, which nothing here needs."""

        def open(self, file: str) -> Any:
            if file == "lexnames":
                return io.StringIO("".join(f"{number:02d}\tfile{number}\t1\n" for number in range(45)))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """No mapping to the version that NLTK downloads."""

    if str(place) not in data.path:
        data.path.append(str(place))  # NLTK opens no file elsewhere
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of languages other than English
        reader = Reader(str(place), None)

    @lru_cache(maxsize=100_000)
    def find(word: str) -> list[str]:
        senses = [sense.lemma_names() for sense in reader.synsets(word)[:SENSES]]
        # an inflected word is looked up by its base, and a synonym of that would not fit in its place
        names = [name for names in senses if word in map(str.lower, names) for name in names]
        # names of more words, and those with digits, seldom fit in the place of one
        return [name for name in dict.fromkeys(names) if name.isalpha() and name.lower() != word]

    return find


def _table(path: Path) -> Callable[[str], list[str]]:
    try:
        table = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"the synonyms cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise DataError(f"the synonyms are no JSON: {error}", where=str(path)) from error
    if not isinstance(table, dict) or not all(
        isinstance(value, list) and all(isinstance(item, str) for item in value) for value in table.values()
    ):
        raise DataError(
            "the synonyms are no table of lists", where=str(path), fix='Write {"card": ["debit card", "plastic"]}.'
        )
    lower = {word.lower(): [item for item in value if item.lower() != word.lower()] for word, value in table.items()}
    return lambda word: lower.get(word, [])
