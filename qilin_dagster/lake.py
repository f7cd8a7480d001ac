"""Snapshots and manifests: the only writer of stored tables.

A stored table is a folder ``<lake>/<schema>/<table>/`` with immutable snapshots, each a folder
named by the hash of its inputs and its code, and one ``manifest.json`` that names the present
snapshot. Publishing writes the snapshot aside, syncs it to disk and replaces the manifest with one
atomic rename: a reader sees the old table or the new one, never a mixture.

What a table means, and how SQL makes it, is not known here.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

STAGING = ".staging"
SPILL = ".spill"
LOCK = ".lock"


class LakeError(Exception):
    """The lake's folder cannot be read or written as it should; the message says which part."""


@dataclass(frozen=True)
class File:
    """One file of a snapshot; ``path`` is absolute for published files that stay where they are."""

    path: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a stored table consists of, and what it was made from.

    ``inputs`` maps each parent to its version; ``facts`` is JSON about the content: decisions and
    evidence, training history, whatever the maker records.
    """

    table: str
    snapshot_id: str
    files: tuple[File, ...]
    n_rows: int
    columns: tuple[tuple[str, str], ...]
    inputs: dict[str, str]
    code_version: str
    created_at: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        fields = json.loads(text)
        fields["files"] = tuple(File(**file) for file in fields["files"])
        fields["columns"] = tuple((name, type_) for name, type_ in fields["columns"])
        return cls(**fields)


@dataclass(frozen=True)
class Written:
    """What a writer says of the files it put into the folder it was given."""

    n_rows: int
    columns: tuple[tuple[str, str], ...]
    facts: dict[str, Any] = field(default_factory=dict)
    external_files: tuple[File, ...] = ()


def write_rows(rows: "pa.Table", folder: Path, facts: dict[str, Any] | None = None) -> Written:
    """Write an Arrow table into the folder as one zstd Parquet file."""
    import pyarrow.parquet as pq

    pq.write_table(rows, folder / "part-0.parquet", compression="zstd")
    columns = tuple((field.name, str(field.type)) for field in rows.schema)
    return Written(rows.num_rows, columns, facts or {})


def version_of(inputs: Mapping[str, str], code_version: str) -> str:
    """Sixteen hex digits that name the result of this code on these inputs."""
    digest = hashlib.sha256()
    for key in sorted(inputs):
        digest.update(f"{key}={inputs[key]}\n".encode())
    digest.update(code_version.encode())
    return digest.hexdigest()[:16]


class Lake:
    """A folder of stored tables. Reading makes nothing; the folder appears with the first write."""

    def __init__(self, root: Path):
        self.root = root.expanduser().absolute()

    def table_folder(self, table: str) -> Path:
        schema, _, name = table.partition(".")
        return self.root / schema / name

    def tables(self) -> list[str]:
        """Names ``schema.table`` of all published tables."""
        return sorted(
            f"{path.parent.parent.name}.{path.parent.name}"
            for path in self.root.glob("[!.]*/*/manifest.json")
        )

    def manifest(self, table: str) -> Manifest | None:
        """The present manifest, or None when the table was never published."""
        path = self.table_folder(table) / "manifest.json"
        try:
            return Manifest.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LakeError(f"cannot read the lake {self.root}: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise LakeError(f"{path} is not a manifest of this lake: {error}") from error

    def files(self, manifest: Manifest, suffix: str = ".parquet") -> list[Path]:
        """Absolute paths of the snapshot's files with this suffix, in order."""
        folder = self.table_folder(manifest.table)
        return [folder / file.path for file in manifest.files if file.path.endswith(suffix)]

    def snapshot_folder(self, table: str) -> Path:
        """Folder of the present snapshot; raises LakeError when the table was never published."""
        manifest = self.manifest(table)
        if manifest is None:
            raise LakeError(f"{table} is not in the lake {self.root}; build it first")
        return self.table_folder(table) / manifest.snapshot_id

    def is_current(self, table: str, inputs: Mapping[str, str], code_version: str) -> bool:
        """True when the published table was made by this code from these inputs."""
        manifest = self.manifest(table)
        return manifest is not None and manifest.snapshot_id == version_of(inputs, code_version)

    def publish(
        self,
        table: str,
        *,
        inputs: Mapping[str, str],
        code_version: str,
        write: Callable[[Path], Written],
    ) -> Manifest:
        """Make a snapshot with ``write(empty folder)`` and make it the present one.

        The old table stays present until the last step, whatever ``write`` raises. A snapshot of
        the same inputs and code that is already there is kept and ``write`` is not called again.
        """
        snapshot_id = version_of(inputs, code_version)
        present = self.manifest(table)
        if present is not None and present.snapshot_id == snapshot_id:
            return present
        folder = self.table_folder(table)
        staging = self.root / STAGING / f"{table}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        try:
            staging.mkdir(parents=True)
            written = write(staging)
            names = sorted(p.relative_to(staging) for p in staging.rglob("*") if p.is_file())
            local = tuple(
                File(f"{snapshot_id}/{name.as_posix()}", *_size_and_hash(staging / name))
                for name in names
            )
            manifest = Manifest(
                table=table,
                snapshot_id=snapshot_id,
                files=written.external_files + local,
                n_rows=written.n_rows,
                columns=written.columns,
                inputs=dict(inputs),
                code_version=code_version,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                facts=written.facts,
            )
            for path in [*(staging / name for name in names), staging]:
                _sync(path)
            with self._lock():
                present = self.manifest(table)
                if present is not None and present.snapshot_id == snapshot_id:
                    return present  # another build made the same while we wrote
                folder.mkdir(parents=True, exist_ok=True)
                target = folder / snapshot_id
                if not _holds(target, staging, names):
                    # Nothing there, or of a dead build and with other bytes than just hashed.
                    shutil.rmtree(target, ignore_errors=True)
                    os.rename(staging, target)
                    _sync(folder)
                # Else the same bytes were published before: readers of that time may have them
                # open, so they stay as they are.
                replace_text(folder / "manifest.json", manifest.to_json())
        except OSError as error:
            raise LakeError(f"cannot write {table} into the lake {self.root}: {error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return manifest

    def collect_garbage(self, *, older_than_s: float) -> list[Path]:
        """Delete snapshots that no manifest names, and what dead builds left of their own.

        Younger ones stay: a reader may have opened them just before they were replaced.
        """
        deleted = []
        limit = time.time() - older_than_s
        with self._lock():
            for folder in sorted(p for p in self.root.glob("[!.]*/*") if p.is_dir()):
                manifest = self.manifest(f"{folder.parent.name}.{folder.name}")
                for snapshot in sorted(p for p in folder.iterdir() if p.is_dir()):
                    is_present = manifest is not None and snapshot.name == manifest.snapshot_id
                    if not is_present and snapshot.stat().st_mtime < limit:
                        shutil.rmtree(snapshot)
                        deleted.append(snapshot)
            for left in sorted([*self.root.glob(f"{STAGING}/*"), *self.root.glob(f"{SPILL}/*")]):
                if left.stat().st_mtime < limit:
                    shutil.rmtree(left, ignore_errors=True)
                    deleted.append(left)
        return deleted

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Publishers take turns for the moment in which names change; readers never wait."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def connect(lake: Path | None = None) -> "duckdb.DuckDBPyConnection":
    """A DuckDB connection with every relation of the lake, comments included, for ad-hoc work.

    ``lake`` defaults to QILIN_LAKE, then to .qilin/lake in the current folder. The connection is
    private and in memory: nothing done on it changes the lake.
    """
    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.settings import Settings

    settings = Settings.from_environment()
    root = Lake(lake if lake is not None else settings.lake)
    return DuckDBEngine(root, settings).connect(comments=True)


def replace_text(path: Path, text: str) -> None:
    """Write a file aside, sync it, and rename it over the old one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        _sync(aside)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _holds(target: Path, staging: Path, names: list[Path]) -> bool:
    """True when the folder has exactly the staged files, byte for byte."""
    present = sorted(p.relative_to(target) for p in target.rglob("*") if p.is_file())
    return (
        target.is_dir()
        and present == names
        and all(_size_and_hash(target / name) == _size_and_hash(staging / name) for name in names)
    )


def _size_and_hash(path: Path) -> tuple[int, str]:
    return path.stat().st_size, sha256_of(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
