"""Loaders of rows from files, from the hub and from docstrings, and the steps that prepare rows."""

from collections.abc import Iterator

from tunesmith import Loader, Step, hookimpl
from tunesmith_data.settings import (
    ConllSettings,
    CsvSettings,
    DocstringsSettings,
    HubSettings,
    JsonlSettings,
    JsonSettings,
    MixSettings,
    ParquetSettings,
    TextSettings,
)
from tunesmith_data.steps.settings import (
    AugmentSettings,
    BalanceSettings,
    DeduplicateSettings,
    FewShotSettings,
    LanguageSettings,
    LengthSettings,
    MarkupSettings,
    MissingSettings,
    NormaliseSettings,
    OverlapSettings,
    PersonalDataSettings,
)


@hookimpl
def tunesmith_loaders() -> Iterator[Loader]:
    yield Loader(
        name="jsonl",
        summary="JSON Lines: one object a line, plain or gzip",
        factory="tunesmith_data.loaders:jsonl",
        settings=JsonlSettings,
        check="tunesmith_data.checks:jsonl",
    )
    yield Loader(
        name="json",
        summary="JSON: an array of objects, an object that holds one, or one object a file, plain or gzip",
        factory="tunesmith_data.loaders:json",
        settings=JsonSettings,
        check="tunesmith_data.checks:json",
    )
    yield Loader(
        name="csv",
        summary="CSV or TSV with a header line, plain or gzip",
        factory="tunesmith_data.loaders:csv",
        settings=CsvSettings,
        check="tunesmith_data.checks:csv",
    )
    yield Loader(
        name="parquet",
        summary="Parquet",
        factory="tunesmith_data.loaders:parquet",
        settings=ParquetSettings,
        requires=("pyarrow",),
        check="tunesmith_data.checks:parquet",
    )
    yield Loader(
        name="text",
        summary="Plain text: a row a line, a paragraph or a file",
        factory="tunesmith_data.loaders:text",
        settings=TextSettings,
        check="tunesmith_data.checks:text",
    )
    yield Loader(
        name="conll",
        summary="Words with tags in columns, a word a line (CoNLL)",
        factory="tunesmith_data.loaders:conll",
        settings=ConllSettings,
        check="tunesmith_data.checks:conll",
    )
    yield Loader(
        name="hub",
        summary="A dataset of the Hugging Face hub by its id, or a folder of data files",
        factory="tunesmith_data.hub:load",
        settings=HubSettings,
        requires=("datasets",),
        check="tunesmith_data.checks:hub",
    )
    yield Loader(
        name="docstrings",
        summary="Functions and their docstrings out of an installed package; needs no file and no network",
        factory="tunesmith_data.docstrings:load",
        settings=DocstringsSettings,
        check="tunesmith_data.docstrings:check",
    )
    yield Loader(
        name="mix",
        summary="Several loaders together, by weight",
        factory="tunesmith_data.mix:load",
        settings=MixSettings,
        check="tunesmith_data.mix:check",
        sources=True,
    )


@hookimpl
def tunesmith_steps() -> Iterator[Step]:
    yield Step(
        name="normalise",
        summary="Unicode form, whitespace, control characters",
        factory="tunesmith_data.steps.normalise:normalise",
        settings=NormaliseSettings,
    )
    yield Step(
        name="markup",
        summary="Remove the tags of HTML",
        factory="tunesmith_data.steps.markup:markup",
        settings=MarkupSettings,
    )
    yield Step(
        name="missing",
        summary="Fill, drop or refuse what is missing, by column",
        factory="tunesmith_data.steps.missing:missing",
        settings=MissingSettings,
        check="tunesmith_data.steps.missing:check",
    )
    yield Step(
        name="length",
        summary="Drop rows that are too short or too long",
        factory="tunesmith_data.steps.filters:length",
        settings=LengthSettings,
        check="tunesmith_data.steps.filters:check_length",
    )
    yield Step(
        name="language",
        summary="Keep rows in some languages, recognised by py3langid",
        factory="tunesmith_data.steps.filters:language",
        settings=LanguageSettings,
        requires=("py3langid",),
    )
    yield Step(
        name="personal-data",
        summary="Report, mask or drop e-mail addresses, phone numbers, cards and IBANs",
        factory="tunesmith_data.steps.personal:personal_data",
        settings=PersonalDataSettings,
        requires=("stdnum", "phonenumbers"),
    )
    yield Step(
        name="deduplicate",
        summary="Drop rows that repeat others, exactly or nearly (MinHash)",
        factory="tunesmith_data.steps.duplicates:deduplicate",
        settings=DeduplicateSettings,
        requires=("datasketch",),
    )
    yield Step(
        name="overlap",
        summary="Drop what stands in training and held-out rows, exactly or nearly (MinHash)",
        factory="tunesmith_data.steps.duplicates:overlap",
        settings=OverlapSettings,
        requires=("datasketch",),
        after_split=True,
    )
    yield Step(
        name="balance",
        summary="Report, weigh or resample the classes of the training rows",
        factory="tunesmith_data.steps.balance:Balance",
        settings=BalanceSettings,
        after_split=True,
    )
    yield Step(
        name="few-shot",
        summary="Leave a few training rows of each class, drawn anew in each repetition",
        factory="tunesmith_data.steps.few_shot:few_shot",
        settings=FewShotSettings,
        after_split=True,
    )
    yield Step(
        name="augment",
        summary="Add changed copies of training rows that keep their answers and labels",
        factory="tunesmith_data.steps.augment:augment",
        settings=AugmentSettings,
        requires=("nltk",),
        check="tunesmith_data.steps.augment:check",
        after_split=True,
    )


#: Settings for the conformance kit, of steps that need some and of those with branches worth a trial.
tunesmith_examples = {
    "normalise": [{}, {"unicode": "NFKC", "whitespace": "collapse"}, {"control": "keep"}],
    "missing": [{"drop": ["text"]}, {"fill": {"text": "none", "label": 0}}, {"refuse": ["text"], "values": ["n/a"]}],
    "length": [{}, {"unit": "words", "min": 2, "max": 50}],
    "language": [{"keep": ["en"]}, {"keep": ["en"], "among": ["de", "fr"]}],
    "personal-data": [{}, {"action": "mask", "region": "US"}, {"action": "drop"}],
    "deduplicate": [{}, {"method": "minhash"}],
    "overlap": [{}, {"method": "minhash", "drop": "training"}],
    "balance": [{}, {"method": "weights"}, {"method": "oversample"}, {"method": "undersample"}],
    "few-shot": [{"shots": 2}],
    "augment": [{}, {"methods": ["noise", "templates"], "copies": 2, "share": 0.5}],
}
