"""A lake that lives at an address: this machine works on a copy of it.

Reading and building need a file system, so a lake given as ``s3://bucket/lake`` is a folder here
(see `settings.lake_at`): brought up to date before it is read or built, pushed when a build has
succeeded. What only this machine needs stays in the folder: unfinished work, Dagster's record.

The folder remembers which version of the address it had last. A build is pushed over that version
and over no other, so of two machines that build from one version the second is refused; on S3 by
the store itself, elsewhere by a look just before the put.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from qilin_dagster.errors import InputError
from qilin_dagster.lake import SERVED, Lake, LakeBusyError, LakeError, replace_text
from qilin_dagster.settings import Settings

RECORD = ".address.json"
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Record:
    """When folder and address last agreed: the version at the address, None where it had no lake,
    and the SHA-256 of the folder's own lake.json, whose paths may be others."""

    version: str | None = None
    served: str | None = None

    @classmethod
    def read(cls, folder: Path) -> "Record":
        try:
            return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            # Nothing is known: what is at the address is taken.
            return cls()

    def write(self, folder: Path) -> None:
        replace_text(folder / RECORD, json.dumps(asdict(self)))


def bring_up_to_date(
    settings: Settings, report: Callable[[str], None], *, to_build: bool = False
) -> None:
    """Make the working copy what its address holds; nothing for a lake without an address.

    Costs one get where nothing has changed. A reader during a build on this machine goes on with
    what there is, and is told so by ``report``; so is one of a build that was not pushed.
    With ``to_build``, inside of `Lake.building`, the address may have no lake yet, but a push must
    be able to write there.

    Raises:
        InputError: an address that cannot be used, or that has no lake to read.
        LakeError: the store cannot be read, or the folder not be written.
    """
    url = settings.lake_url
    if url is None:
        return
    from qilin_dagster.object_store import require_place, told_at

    lake = Lake(settings.lake)
    try:
        lake.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LakeError(
            f"cannot keep the working copy of {url} in {lake.root}: {error.strerror}; "
            "name another folder with QILIN_CACHE"
        ) from error
    told = require_place(url) if to_build else told_at(url)
    record = Record.read(lake.root)
    if told is None:
        if not to_build:
            _require_own(lake, record, url)
            report(_not_pushed(url))
        elif record != Record():
            # Whatever became of it there, what is here is put there whole.
            Record().write(lake.root)
        return
    if told.version == record.version and (lake.root / SERVED).exists():
        if not to_build and record.served != _served(lake.root):
            report(_not_pushed(url))
        return
    is_waiting = False
    while True:
        try:
            _pull(settings, lake, record, url, report)
            return
        except LakeBusyError as busy:
            who = str(busy).partition(";")[0]
            if lake.for_readers().tables():
                report(f"{who}: reading what it has shown before")
                return
            if not is_waiting:
                report(f"{who}: waiting until there is something to read")
                is_waiting = True
            time.sleep(LOOK_EVERY_S)


def _pull(
    settings: Settings, lake: Lake, record: Record, url: str, report: Callable[[str], None]
) -> None:
    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.object_store import pull

    with lake.building():
        served = _served(lake.root)
        if served is not None and served != record.served:
            report(f"a build of this machine that was not pushed gives way to what is at {url}")
        moved = pull(url, lake, trusts=True)
        DuckDBEngine(lake.for_readers(), settings).export_catalog()
        # Last: whatever dies before is pulled again, which moves nothing twice.
        Record(moved.version, _served(lake.root)).write(lake.root)
    report(f"pulled from {url}: {moved}")


def push_built(settings: Settings, report: Callable[[str], None]) -> None:
    """Push what readers of the working copy see, inside of the build that made it.

    Nothing moves where the address has it already, or where the lake has no address.

    Raises:
        OvertakenError: another build was pushed meanwhile; it stays.
        LakeError: the store cannot be written.
    """
    url = settings.lake_url
    if url is None:
        return
    from qilin_dagster.object_store import Base, OvertakenError, push

    lake = Lake(settings.lake)
    record = Record.read(lake.root)
    served = _served(lake.root)
    if served is None or (record.version is not None and record.served == served):
        return
    try:
        moved = push(lake, url, Base(record.version))
    except OvertakenError:
        raise
    except LakeError as error:
        raise LakeError(
            f"{error}. The build is whole in {lake.root}; qilin build again computes nothing anew "
            "and pushes it"
        ) from error
    Record(moved.version, served).write(lake.root)
    report(f"pushed to {url}: {moved}")


def wait_until_pulled(settings: Settings) -> None:
    """For a process beside the one that builds: return once that has brought the folder up to date.

    Raises:
        InputError, LakeError: as `bring_up_to_date`.
    """
    url = settings.lake_url
    if url is None:
        return
    from qilin_dagster.object_store import told_at

    while (told := told_at(url)) is not None:
        if Record.read(settings.lake).version == told.version:
            return
        time.sleep(LOOK_EVERY_S)


def is_pushed(settings: Settings) -> bool:
    """True when this machine has shown its readers nothing that its address has not had."""
    served = _served(settings.lake)
    return served is None or Record.read(settings.lake).served == served


def _require_own(lake: Lake, record: Record, url: str) -> None:
    if record.version is not None:
        raise InputError(
            f"the lake at {url} is gone; what this machine had of it is in {lake.root}, "
            "and qilin build puts it there again"
        )
    if not lake.for_readers().tables():
        raise InputError(f"there is no lake at {url}: qilin build --lake {url} makes one")


def _not_pushed(url: str) -> str:
    return f"the last build of this machine was not pushed to {url}; qilin build does it"


def _served(folder: Path) -> str | None:
    try:
        return hashlib.sha256((folder / SERVED).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
