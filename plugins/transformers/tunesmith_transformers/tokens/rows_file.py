"""Encoded rows in an Arrow file: read back row by row, so that a set may be larger than the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from tunesmith import Records
from tunesmith_transformers.tokens.example import IGNORED, Encoded

BATCH = 256  # rows of a record batch

Row = TypeVar("Row")
Value = TypeVar("Value")


def write(path: Path, rows: Iterable[Encoded]) -> int:
    """Write examples as an Arrow stream with the columns `row`, `part`, `input_ids`, `labels`, and `weights` (null
    where all weigh 1); returns how many."""
    return _write(path, ((item.row, item.ids, item.labels, item.part, item.weights or None) for item in rows))


def write_lists(path: Path, rows: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> int:
    """Write each row's name, tokens and labels, which need not be one a token; returns how many."""
    return _write(path, ((*row, 0, None) for row in rows))


def _write(path: Path, rows: Iterable[tuple[str, Sequence[int], Sequence[int], int, Sequence[float] | None]]) -> int:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    schema = pa.schema(
        [
            ("row", pa.binary()),
            ("part", pa.int32()),
            ("input_ids", ids),
            ("labels", ids),
            ("weights", pa.list_(pa.float64())),
        ]
    )
    count = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in _batches(rows):
            columns = {
                "row": [name.encode("utf-8", "surrogatepass") for name, *_ in batch],
                "part": [part for *_, part, _ in batch],
                "input_ids": [list(ids) for _, ids, *_ in batch],
                "labels": [list(labels) for _, _, labels, *_ in batch],
                "weights": [None if weights is None else list(weights) for *_, weights in batch],
            }
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(batch)
    return count


class TokenRows(Sequence[Encoded]):
    """The rows of such a file, mapped into memory: nothing is read before it is asked for.

    Args:
        path: the file; it may be removed once it is open.
        columns: of each row, what the model takes besides its tokens.
    """

    def __init__(self, path: Path, columns: Sequence[Mapping[str, int]] | None = None) -> None:
        import pyarrow as pa

        self.table: Any = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        self.columns = columns

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | Sequence[Encoded]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        (row,) = self.table.slice(index, 1).to_pylist()
        return self._encoded(index, row)

    def __iter__(self) -> Iterator[Encoded]:
        rows = (row for batch in self.table.to_batches(max_chunksize=BATCH) for row in batch.to_pylist())
        for index, row in enumerate(rows):
            yield self._encoded(index, row)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        import pyarrow.compute as pc

        return pc.list_value_length(self.table.column("input_ids")).to_pylist()

    @property
    def weighted(self) -> bool:
        """Whether a token's prediction weighs something else than 1."""
        return self.table.column("weights").null_count < len(self)

    def lists(self) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
        """Name, tokens and labels of each row, as `write_lists` took them."""
        for batch in self.table.to_batches(max_chunksize=BATCH):
            yield from map(_lists, batch.to_pylist())

    def _encoded(self, index: int, row: Mapping[str, Any]) -> Encoded:
        name, ids, labels = _lists(row)
        supervised = tuple(label != IGNORED for label in labels)
        columns = self.columns[index] if self.columns else {}
        return Encoded(name, ids, supervised, columns, tuple(row["weights"] or ()), row["part"])


def _lists(row: Mapping[str, Any]) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    return row["row"].decode("utf-8", "surrogatepass"), tuple(row["input_ids"]), tuple(row["labels"])


def values_of(records: Records, kept: Iterable[str], read: Callable[[Mapping[str, Any]], Value]) -> list[Value]:
    """What `read` makes of the row of each example that was kept; both come in one order, and some rows were dropped.

    Args:
        kept: the row of each example; those of one row stand together.
    """
    wanted = iter(kept)
    found: list[Value] = []
    name = next(wanted, None)
    for row_name, row in records:
        if row_name == name:
            value = read(row)
            while row_name == name:
                found.append(value)
                name = next(wanted, None)
    return found


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
