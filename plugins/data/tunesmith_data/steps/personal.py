"""The step `personal-data`: e-mail addresses, phone numbers, payment cards and IBANs in text.

What only looks like one stays: a card must pass Luhn's check (ISO/IEC 7812), an IBAN its checksum and its country's
form (ISO 13616), both by python-stdnum; a phone number must be one that can exist, by phonenumbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from tunesmith import Context, RecipeError, Row
from tunesmith.steps import Prepare
from tunesmith_data.steps.settings import PersonalDataSettings
from tunesmith_data.steps.texts import mapped, text_of, watched

Span = tuple[int, int]

# every repetition has a bound, so that a long run of letters takes no more than linear time
EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
CARD = re.compile(r"(?<![\w.])[2-6](?:[ -]?\d){12,18}(?![\w])")
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?!\w)")


def personal_data(settings: PersonalDataSettings, context: Context) -> Prepare:
    """Report, mask or drop rows that hold personal data.

    Raises:
        RecipeError: the region is none.
    """
    finders = _finders(settings)

    def masked(text: str, kinds: set[str]) -> str:
        # in this order: the digits of an IBAN or a card are no phone number
        for kind, find in finders:
            spans = list(find(text))
            if spans:
                kinds.add(kind)
            for begin, end in reversed(spans):
                text = f"{text[:begin]}[{kind.upper()}]{text[end:]}"
        return text

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        for row in watched(rows, settings.columns, "personal-data"):
            kinds: set[str] = set()
            if settings.action == "mask":
                values = mapped(row.values, settings.columns, lambda text: masked(text, kinds))  # noqa: B023
            else:
                masked(text_of(row.values, settings.columns, declared=True), kinds)
            found = sorted(kinds)
            if not found:
                yield row
            elif settings.action == "mask":
                yield row.change(values, *(f"{kind} masked" for kind in found))
            elif settings.action == "drop":
                yield row.drop(f"holds {', '.join(found)}")
            else:
                yield row.note(*(f"{kind} found" for kind in found))

    return prepare


def _finders(settings: PersonalDataSettings) -> list[tuple[str, Callable[[str], Iterable[Span]]]]:
    finders: dict[str, Callable[[str], Iterable[Span]]] = {
        "email": lambda text: (match.span() for match in EMAIL.finditer(text)) if "@" in text else (),
        "iban": _ibans,
        "card": _cards,
        "phone": _phones(settings.region) if "phone" in settings.find else lambda text: (),
    }
    return [(kind, find) for kind, find in finders.items() if kind in settings.find]


def _cards(text: str) -> Iterator[Span]:
    from stdnum import luhn

    for match in CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if len(set(digits)) > 1 and luhn.is_valid(digits):
            yield match.span()


def _ibans(text: str) -> Iterator[Span]:
    from stdnum import iban

    for match in IBAN.finditer(text):
        # capitals that follow are no part of it: the longest beginning that is one counts
        for end in range(match.end(), match.start() + 14, -1):
            if iban.is_valid(text[match.start() : end]) and text[end - 1] not in " -":
                yield match.start(), end
                break


def _phones(region: str | None) -> Callable[[str], Iterable[Span]]:
    import phonenumbers

    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise RecipeError(
            f"the step 'personal-data' knows no region {region!r}", fix='Give a code of ISO 3166-1, such as "US".'
        )

    def find(text: str) -> Iterator[Span]:
        if region is None and "+" not in text:
            return
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            yield match.start, match.end

    return find
