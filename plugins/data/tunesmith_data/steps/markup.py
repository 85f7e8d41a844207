"""The step `markup`: HTML out of text. What only looks like a tag, as in `a<b`, stays."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from tunesmith import Context, Row
from tunesmith.steps import Prepare
from tunesmith_data.steps.settings import MarkupSettings
from tunesmith_data.steps.texts import mapped, watched

BLOCK_NAMES = (
    "address article aside blockquote br center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "header hr li main nav ol option p pre section table tbody td tfoot th thead tr ul"
)
INLINE_NAMES = (
    "a abbr acronym audio b bdi bdo big body button canvas caption cite code col colgroup data datalist del details "
    "dfn dialog em embed font frame head html i iframe img input ins kbd label legend link map mark meta meter "
    "noscript object optgroup output param picture progress q rp rt ruby s samp select small source span strike "
    "strong sub summary sup svg template textarea time title track tt u var video wbr"
)
BLOCKS = frozenset(BLOCK_NAMES.split())
INLINE = frozenset(INLINE_NAMES.split())
#: Attributes that may stand without a value; `<b and c>` is no tag.
ALONE = (
    "allowfullscreen|async|autoplay|checked|controls|default|defer|disabled|hidden|loop|multiple|muted|open|readonly"
)
VALUE = r"""(?:"[^"]{0,9999}"|'[^']{0,9999}'|[^\s<>"'=]{1,9999})"""
ATTRIBUTE = rf"""\s+(?:[\w:.-]{{1,99}}\s?=\s?{VALUE}|{ALONE})"""
TAG = re.compile(rf"</?({'|'.join(sorted(BLOCKS | INLINE))})(?:{ATTRIBUTE}){{0,99}}\s{{0,9}}/?>", re.IGNORECASE)
DECLARATION = re.compile(r"<(?:!doctype|\?xml)[^<>]*>", re.IGNORECASE)
#: What goes with all that stands in it.
SILENT = (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>"))


def markup(settings: MarkupSettings, context: Context) -> Prepare:
    """Remove the tags of HTML; those of blocks become line ends."""

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        for row in watched(rows, settings.columns, "markup"):
            plain = mapped(row.values, settings.columns, _without_tags)
            why = ["tags"] if plain != row.values else []
            if settings.entities:
                named = mapped(plain, settings.columns, html.unescape)
                why += ["entities"] if named != plain else []
                plain = named
            yield row.change(plain, *why) if why else row

    return prepare


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    for begin, end in SILENT:
        text = _without(text, begin, end)
    return TAG.sub(lambda tag: "\n" if tag[1].lower() in BLOCKS else "", DECLARATION.sub("", text))


def _without(text: str, begin: str, end: str) -> str:
    """The text without what stands between two marks; a first mark without a second stays."""
    lower, kept, place = text.lower(), [], 0
    if len(lower) != len(text):  # a character or two grow in lower case: places would not fit
        lower = text
    while (start := lower.find(begin, place)) >= 0 and (stop := lower.find(end, start)) >= 0:
        kept.append(text[place:start])
        place = stop + len(end)
    return "".join((*kept, text[place:]))
