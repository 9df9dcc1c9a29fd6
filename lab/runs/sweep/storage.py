"""Where a sweep's study is kept: a file in its folder, or a database that many machines reach.

Optuna's own storages, so that optuna-dashboard opens them: a journal by default, SQLite or PostgreSQL by their URL.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from lab.console import say
from lab.errors import RequestError

if TYPE_CHECKING:
    from sqlalchemy import Engine

JOURNAL = "study.journal"
ACCEPTED = "accepted: sqlite:///FILE.db, postgresql://USER@HOST/DATABASE"
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds between attempts to reach a storage."""
HEARTBEAT = 20
"""Seconds between signs of life in a database; who gives none for three of them has lost its trial."""
BUSY = 60_000
"""Milliseconds that a worker waits for another's transaction in SQLite."""

Result = TypeVar("Result")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def _gone() -> tuple[type[Exception], ...]:
    """What a storage that can't be reached raises. SQLAlchemy takes a while to import, and only databases need it."""
    database = sys.modules.get("sqlalchemy.exc")
    errors = (optuna.exceptions.StorageInternalError, ConnectionError)
    return errors if database is None else (*errors, database.DBAPIError)


class KernelLock:
    """A lock of Optuna's kind that a killed process cannot leave behind."""

    def __init__(self, path: Path) -> None:
        self.lock = FileLock(path)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self.lock.acquire()
        return True

    def release(self) -> None:
        """Give it back."""
        self.lock.release()


def patient(call: Callable[..., Result]) -> Callable[..., Result]:
    """Try again for a while where a storage can't be reached.

    Raises:
        RequestError: it stays out of reach.
    """

    @wraps(call)
    def tried(*args: Any, **kwargs: Any) -> Result:
        for pause in PAUSES:
            try:
                return call(*args, **kwargs)
            except _gone() as error:
                say(f"storage: {_first_line(error)}; trying again in {pause:g} s")
                time.sleep(pause)
        try:
            return call(*args, **kwargs)
        except _gone() as error:
            raise RequestError(
                f"storage: can't be reached ({_first_line(error)}); what runs have found is in their folders, and the same"
                " command goes on from there"
            ) from None

    return tried


def open_journal(folder: Path) -> JournalStorage:
    """The file in a sweep's folder.

    Raises:
        RequestError: it is damaged, or can't be written.
    """
    path = folder / JOURNAL
    try:
        with KernelLock(path.with_suffix(".lock")).lock:
            _drop_half_a_line(path)
        lock: Any = KernelLock(path.with_suffix(".lock"))
        return JournalStorage(JournalFileBackend(str(path), lock))
    except OSError as error:
        raise RequestError(f"{path}: cannot be written ({error.strerror or error})") from None
    except (ValueError, KeyError) as error:
        raise RequestError(f"{path}: damaged ({error}); delete it, the runs' own results stay") from None


def _drop_half_a_line(path: Path) -> None:
    """Of a process that was killed while it wrote."""
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def open_database(url: str) -> BaseStorage:
    """A database by its URL, whose tables are made where they are missing.

    Raises:
        RequestError: no such database, no driver for it, or it can't be reached.
    """
    if "://" not in url:
        raise RequestError(f"--storage: {url!r} is no URL of a database; {ACCEPTED}")
    return get_storage(_connect(_with_driver(url), url))


def is_new(url: str) -> bool:
    """Whether a database is a file that is not there yet."""
    path = url.removeprefix("sqlite:///")
    return path != url and not Path(path).exists()


@patient
def study_names(storage: BaseStorage) -> list[str]:
    """Of all sweeps that it holds."""
    return optuna.get_all_study_names(storage)


@patient
def _connect(url: str, asked: str) -> RDBStorage:
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            storage = RDBStorage(
                url,
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT,
                grace_period=3 * HEARTBEAT,
            )
        except (ArgumentError, NoSuchModuleError, RuntimeError) as error:
            raise RequestError(f"--storage: {asked!r} can't be used ({_first_line(error)}); {ACCEPTED}") from None
        except ImportError:
            raise RequestError(
                f"--storage: {asked!r} needs a driver: pip install 'architecture-lab[postgresql]'"
            ) from None
    if storage.engine.dialect.name == "sqlite":
        _lock_from_the_first_read(storage.engine)
    return storage


def _lock_from_the_first_read(engine: Engine) -> None:
    """Make a transaction of SQLite begin with a lock.

    It knows no `SELECT ... FOR UPDATE`, and Python's driver begins a transaction at the first write: two workers would
    both read that a trial waits, and both claim it.
    """
    from sqlalchemy import event

    def begin_by_hand(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY}")

    event.listen(engine, "connect", begin_by_hand)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()


def _with_driver(url: str) -> str:
    """PostgreSQL by psycopg 3, where the URL names no driver."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0][:200] if str(cause).strip() else type(cause).__name__
