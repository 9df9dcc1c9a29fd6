"""Documents or rows of one local file: text, JSON, JSON lines, CSV or Parquet; all but Parquet also gzipped."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.errors import RequestError

_PROSE = {".txt", ".text", ".md", ".rst", ".tex", ".html", ".htm", ".xml"}
_SOURCE = {
    ".py",
    ".pyi",
    ".c",
    ".h",
    ".cc",
    ".cpp",
    ".cs",
    ".java",
    ".js",
    ".ts",
    ".go",
    ".rs",
    ".rb",
    ".sh",
    ".sql",
}


def read(path: Path, field: str) -> Iterator[str]:
    """The documents of a file in their order; blank ones are left out, and so is a null in place of text.

    Args:
        path: a file. Its name says how it is read: `.jsonl`, `.json`, `.csv`, `.parquet` hold one document a
            row, anything else is one document of text.
        field: which column or key holds the text.

    Raises:
        RequestError: the file can't be read, is damaged, is not UTF-8, or its `field` is missing or not text.
    """
    if kind(path) in _TABLES:
        texts = (check_text(row["data.field"], field, place) for place, row in rows(path, {"data.field": field}))
        yield from (text for text in texts if text.strip())
    else:
        with _damage_named(path):
            yield from (text for text in _whole(path) if text.strip())


def rows(path: Path, fields: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row of a table stands (`FILE, line 3`), and its values.

    Args:
        path: a `.jsonl`, `.json`, `.csv` or `.parquet` file.
        fields: for each value the column or key that holds it; `a.b` is the key `b` within `a`. The values are
            named as in the configuration: `{"data.source": "en"}` comes from `data.source=en`.

    Raises:
        RequestError: the file can't be read, is damaged, is not UTF-8 or no table, or has not all fields.
    """
    if kind(path) not in _TABLES:
        raise RequestError(f"{path}: rows with named fields are needed, from a {', '.join(_TABLES)} file")
    with _damage_named(path):
        for place, row in _TABLES[kind(path)](path, fields):
            if not isinstance(row, dict):
                raise RequestError(f"{place}: a row is an object with named fields, got {type(row).__name__}")
            yield place, {key: pick(row, field, place, key) for key, field in fields.items()}


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RequestError(f"{path}: the gzip data is damaged ({error})") from error
    except OSError as error:
        raise RequestError(f"{path}: can't be read ({error.strerror or error})") from error


def lines(path: Path) -> Iterator[str]:
    """The lines of a text file, without their ends; a byte-order mark is dropped.

    Raises:
        RequestError: the file can't be read, is damaged, or is not UTF-8.
    """
    with _damage_named(path):
        for line in _lines(path):
            yield line.rstrip("\r\n")


def kind(path: Path) -> str:
    """The suffix that says how a file is read: `.csv` for both `a.csv` and `a.csv.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def readable(path: Path) -> bool:
    """Whether a file found in a folder is taken for text or a table, going by its name."""
    return not path.name.startswith(".") and kind(path) in _PROSE | _SOURCE | _TABLES.keys()


def _whole(path: Path) -> Iterator[str]:
    with _open(path) as file:
        yield _decode(file.read(), path, 0)


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    with _open(path) as file:
        for line in file:
            yield _decode(line, path, offset)
            offset += len(line)


def _open(path: Path):
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _decode(data: bytes, path: Path, offset: int) -> str:
    """Text of bytes that begin `offset` bytes into the (unpacked) file; a byte-order mark is dropped."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"at byte {offset + error.start:,} (0x{data[error.start]:02x})"
        raise RequestError(f"{path}: not UTF-8 {where}; text is read as UTF-8, convert the file first") from error
    return text.removeprefix("\ufeff") if offset == 0 else text


Rows = Iterator[tuple[str, Any]]


def _json_lines(path: Path, fields: Mapping[str, str]) -> Rows:
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            yield f"{path}, line {number}", _parse(line, f"{path}, line {number}")


def _json(path: Path, fields: Mapping[str, str]) -> Rows:
    """A file that begins with `[` is a list of objects; any other is read as JSON lines, as many are."""
    with _open(path) as file:
        is_list = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    if not is_list:
        yield from _json_lines(path, fields)
        return
    for number, row in enumerate(_parse("".join(_whole(path)), str(path)), 1):
        yield f"{path}, row {number}", row


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number may have too many digits
        raise RequestError(f"{place}: broken JSON ({error})") from error


def _csv(path: Path, fields: Mapping[str, str]) -> Rows:
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(_lines(path), strict=True)
    try:
        header = next(rows, [])
        for row in rows:
            place = f"{path}, line {rows.line_num}"
            if row and len(row) != len(header):
                raise RequestError(f"{place}: {len(row)} columns, the header has {len(header)}")
            if row:
                yield place, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise RequestError(f"{path}, line {rows.line_num}: broken CSV ({error})") from error


def _parquet(path: Path, fields: Mapping[str, str]) -> Rows:
    import pyarrow
    from pyarrow import parquet

    if path.suffix.lower() == ".gz":
        raise RequestError(f"{path}: a Parquet file is compressed within; unpack it with gunzip")
    try:
        with parquet.ParquetFile(path) as file:
            columns = {column(field, file.schema_arrow.names) for field in fields.values()}
            for key, field in fields.items():
                check_field(column(field, file.schema_arrow.names), file.schema_arrow.names, str(path), key)
            found = (row for batch in file.iter_batches(1024, columns=sorted(columns)) for row in batch.to_pylist())
            for number, row in enumerate(found, 1):
                yield f"{path}, row {number}", row
    except pyarrow.ArrowException as error:
        raise RequestError(f"{path}: the Parquet data is damaged ({str(error).splitlines()[0]})") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: holds text that is not UTF-8 ({error})") from error


def check_field(field: str, there: Collection[str], place: str, key: str = "data.field") -> None:
    """Raises `RequestError`, naming the fields there are, where `field`, the value of `key`, is none of them."""
    if field not in there:
        listed = ", ".join(there) or "none"
        raise RequestError(f"{key}={field!r}: not in {place}; the fields there: {listed}")


def column(field: str, columns: Collection[str]) -> str:
    """The column that holds a field: `translation` for `translation.en`, unless a column is called so."""
    return field if field in columns else field.partition(".")[0]


def pick(row: Mapping[str, Any], field: str, place: str, key: str = "data.field") -> Any:
    """The value of a field, `a.b` being the key `b` within `a`.

    Raises:
        RequestError: it is not there.
    """
    if field in row or "." not in field:
        check_field(field, row, place, key)
        return row[field]
    first, _, rest = field.partition(".")
    check_field(first, row, place, key)
    if not isinstance(row[first], Mapping):
        raise RequestError(f"{key}={field!r}: {first} in {place} has no keys of its own")
    return pick(row[first], rest, place, key)


def check_text(value: object, field: str, place: str, key: str = "data.field") -> str:
    """The value of a text field; null counts as an empty document.

    Raises:
        RequestError: it is of another type, or holds half of a surrogate pair, which no encoding can write.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RequestError(f"{key}={field!r}: {place} holds {type(value).__name__}, text is needed")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(f"{place}: half a surrogate pair at character {error.start}, not text") from error
    return value


_TABLES: dict[str, Callable[[Path, Mapping[str, str]], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def check_group(value: object, by: str, place: str) -> str:
    """The value, as text, of the field that says which rows are held out together. Errors as of `check_text`."""
    return check_text(str(value), by, place, "split.by")
