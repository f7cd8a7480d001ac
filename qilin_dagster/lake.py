"""Snapshots and manifests: the only writer of stored tables.

A stored table is a folder ``<lake>/<schema>/<table>/`` with immutable snapshots, each a folder
named by the hash of its inputs and its code, and one ``manifest.json`` that names the newest
snapshot. Publishing writes the snapshot aside, syncs it to disk and replaces the manifest with one
atomic rename, so a build that dies goes on where it stopped.

Readers do not follow these manifests but ``<lake>/lake.json``, a copy of all of them that a
complete build leaves behind with one atomic rename: they see every table of one build or every
table of the next, never a mixture, and nothing of a build that failed.

One process at a time builds a lake. Its lock dies with it.

What a table means, and how SQL makes it, is not known here.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import threading
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
# Published tables once more, as another engine reads them: no relations of the catalog.
LANDED = "landed"
SPILL = ".spill"
UNFINISHED = ".unfinished"
# Tables that say when they were written, or what was here before: the same build gives other bytes.
DATED = ("reports.", "evaluation.history", "evaluation.data_drift")
LOCK = ".build.lock"
SERVED = "lake.json"
MANIFEST = "manifest.json"

log = logging.getLogger("qilin")

# Lakes this process holds the lock of, so that a step of a build does not wait for its own build.
_held: set[Path] = set()
_one_thread_builds = threading.RLock()


class LakeError(Exception):
    """The lake's folder cannot be read or written as it should; the message says which part."""


class LakeBusyError(LakeError):
    """Another process builds this lake now; the message says which."""


@dataclass(frozen=True)
class File:
    """One file of a snapshot; ``path`` is absolute for published files that stay where they are,
    else relative to the table's folder: of this snapshot, or of an earlier one that it shares."""

    path: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a stored table consists of, and what it was made from.

    ``inputs`` maps each parent to its version; ``facts`` is JSON about the content: decisions and
    evidence, training history, whatever the maker records. ``n_kept_files`` of the files are those
    of the snapshot before, the others are new.
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
    n_kept_files: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        return cls.from_fields(json.loads(text))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Manifest":
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
    """A folder of stored tables. Reading makes nothing; the folder appears with the first write.

    As it comes, this is the builder's view: the newest manifest of each table. `for_readers` gives
    the tables of the last complete build.
    """

    def __init__(self, root: Path, served: Mapping[str, Manifest] | None = None):
        self.root = root.expanduser().absolute()
        self._served = served

    def for_readers(self) -> "Lake":
        """The lake as the last complete build left it; stays so, whatever is built meanwhile."""
        return Lake(self.root, self._read_served())

    def table_folder(self, table: str) -> Path:
        schema, _, name = table.partition(".")
        return self.root / schema / name

    def tables(self) -> list[str]:
        """Names ``schema.table`` of all published tables."""
        if self._served is not None:
            return sorted(self._served)
        return sorted(
            f"{path.parent.parent.name}.{path.parent.name}"
            for path in self.root.glob(f"[!.]*/*/{MANIFEST}")
        )

    def manifest(self, table: str) -> Manifest | None:
        """The present manifest, or None when the table was never published."""
        if self._served is not None:
            return self._served.get(table)
        text = self._read(path := self.table_folder(table) / MANIFEST)
        try:
            return None if text is None else Manifest.from_json(text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
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

    @contextlib.contextmanager
    def building(self, *, wait: bool = False) -> Iterator[None]:
        """Be the one process that builds this lake; what dead builds left aside is removed first.

        Readers see nothing of the build before `serve` is called in it; if it never is, they keep
        what they have, and only where they have nothing they get what was built.

        Raises:
            LakeBusyError: another process builds the lake, and ``wait`` is not set.
            LakeError: the folder cannot be written, or its file system has no locks.
        """
        if self._served is not None:
            raise ValueError("this is what readers see; build through Lake(root)")
        if not _one_thread_builds.acquire(blocking=wait):
            raise LakeBusyError(f"another thread of this process builds the lake {self.root}")
        try:
            if self.root in _held:
                yield
                return
            with self._locked(wait):
                _held.add(self.root)
                try:
                    self._sweep()
                    yield
                finally:
                    _held.discard(self.root)
                    if not (self.root / SERVED).exists():
                        self.serve()
        finally:
            _one_thread_builds.release()

    def serve(self) -> None:
        """Show readers all tables as they are now, at once."""
        if self.tables() and not self.is_served():
            try:
                replace_text(self.root / SERVED, self._served_text())
            except OSError as error:
                raise self.cannot_write(SERVED, error) from error

    def is_served(self) -> bool:
        """True when readers see every table as the last builder left it."""
        return self._read(self.root / SERVED) == self._served_text()

    def adopt(self, manifests: Mapping[str, Manifest]) -> None:
        """Go on from a build of elsewhere, whose files are in their places already.

        Readers see exactly these tables, all at once. A table that is not among them stays for the
        next build, and readers do not see it before.
        """
        with self.building():
            try:
                self._mark_replaced(manifests)
                replace_text(self.root / SERVED, _told(manifests))
                for table, manifest in manifests.items():
                    self.table_folder(table).mkdir(parents=True, exist_ok=True)
                    replace_text(self.table_folder(table) / MANIFEST, manifest.to_json())
            except OSError as error:
                raise self.cannot_write("what was pulled", error) from error

    def _mark_replaced(self, by: Mapping[str, Manifest]) -> None:
        """Have the clean-up count from now for the snapshots that these take the place of."""
        views = [self]
        with contextlib.suppress(LakeError):  # Of what is damaged nothing was opened.
            views.append(self.for_readers())
        for table, manifest in by.items():
            for view in views:
                with contextlib.suppress(LakeError):
                    replaced = view.manifest(table)
                    if replaced is not None and replaced.snapshot_id != manifest.snapshot_id:
                        with contextlib.suppress(FileNotFoundError):
                            os.utime(self.table_folder(table) / replaced.snapshot_id)

    def _served_text(self) -> str:
        present = {table: self.manifest(table) for table in self.tables()}
        return _told({table: manifest for table, manifest in present.items() if manifest})

    def publish(
        self,
        table: str,
        *,
        inputs: Mapping[str, str],
        code_version: str,
        write: Callable[[Path], Written],
    ) -> Manifest:
        """Make a snapshot with ``write(empty folder)`` and make it the newest one.

        The old table stays until the last step, whatever ``write`` raises. A snapshot of the same
        inputs and code that is already there is kept and ``write`` is not called again. Outside of
        a build this is a build of its own: it waits for its turn, and readers see it at the end.
        """
        snapshot_id = version_of(inputs, code_version)
        is_alone = self.root not in _held
        with self.building(wait=True):
            manifest = self.manifest(table)
            if manifest is None or manifest.snapshot_id != snapshot_id:
                manifest = self._publish(table, snapshot_id, inputs, code_version, write, manifest)
            if is_alone:
                self.serve()
        return manifest

    def _publish(
        self,
        table: str,
        snapshot_id: str,
        inputs: Mapping[str, str],
        code_version: str,
        write: Callable[[Path], Written],
        replaced: Manifest | None,
    ) -> Manifest:
        folder = self.table_folder(table)
        staging = self.root / STAGING / f"{table}.{uuid.uuid4().hex[:8]}"
        try:
            staging.mkdir(parents=True)
            written = write(staging)
            names = sorted(p.relative_to(staging) for p in staging.rglob("*") if p.is_file())
            local = tuple(
                File(f"{snapshot_id}/{name.as_posix()}", *_size_and_hash(staging / name))
                for name in names
            )
            before = {file.sha256: Path(file.path) for file in (replaced.files if replaced else ())}
            for name, file in zip(names, local, strict=True):
                earlier = before.get(file.sha256)
                # What lies outside of the lake may be changed by others.
                if earlier is not None and not earlier.is_absolute():
                    _share(folder / earlier, staging / name, file)
            files = written.external_files + local
            manifest = Manifest(
                table=table,
                snapshot_id=snapshot_id,
                files=files,
                n_kept_files=sum(file.sha256 in before for file in files),
                n_rows=written.n_rows,
                columns=written.columns,
                inputs=dict(inputs),
                code_version=code_version,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                facts=written.facts,
            )
            for path in [*sorted(staging.rglob("*"), reverse=True), staging]:
                sync(path)
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / snapshot_id
            if not _holds(target, staging, names):
                # Nothing there, or of a dead build and with other bytes than just hashed.
                shutil.rmtree(target, ignore_errors=True)
                os.rename(staging, target)
                sync(folder)
            # Else the same bytes were published before: readers of that time may have them open,
            # so they stay as they are.
            if replaced is not None and (folder / replaced.snapshot_id).is_dir():
                # The clean-up counts from the moment in which a snapshot was replaced.
                os.utime(folder / replaced.snapshot_id)
            replace_text(folder / MANIFEST, manifest.to_json())
            for left in self.root.glob(f"{UNFINISHED}/{table}.*"):
                shutil.rmtree(left)
        except OSError as error:
            raise self.cannot_write(table, error) from error
        except Exception as error:
            if (full := os_error_in(error, errno.ENOSPC)) is not None:
                raise self.cannot_write(table, full) from error
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return manifest

    def verify(self) -> list[str]:
        """Every fault of the tables that builders and readers see, a sentence each.

        Reads every byte: manifests parse and name themselves, files exist with their size and
        SHA-256, row counts are those of the Parquet footers, snapshots hold nothing else.
        """
        faults = []
        found: dict[tuple[str, str], Manifest] = {}
        for lake in (self.for_readers(), Lake(self.root)):
            for table in lake.tables():
                try:
                    manifest = lake.manifest(table)
                except LakeError as error:
                    faults.append(str(error))
                    continue
                if manifest is not None:
                    if manifest.table != table:
                        faults.append(f"{table}: its manifest is of {manifest.table}")
                    found[table, manifest.snapshot_id] = manifest
        for (table, _), manifest in sorted(found.items()):
            faults += [f"{table}: {fault}" for fault in self._faults_of(manifest)]
        return faults

    def content_hash(self) -> str:
        """Hash of every file of every table that tells of the data alone, see DATED.

        Equal for two lakes built from the same data, wherever they and the data lie.
        """
        digest = hashlib.sha256()
        for table in self.tables():
            manifest = self.manifest(table)
            if manifest is not None and not table.startswith(DATED):
                digest.update(f"{table} {manifest.n_rows}\n".encode())
                digest.update("".join(f"{file.sha256}\n" for file in manifest.files).encode())
        return digest.hexdigest()[:16]

    def unfinished_folder(
        self, table: str, *, inputs: Mapping[str, str], code_version: str
    ) -> Path:
        """Where long work on a snapshot keeps what a later build of the same can go on with.

        Its name is that of inputs and code, so that nothing else is taken for it. It goes when the
        table is published, in any version.
        """
        return self.root / UNFINISHED / f"{table}.{version_of(inputs, code_version)}"

    def spill_folder(self, inside: Path | None = None) -> Path:
        """A name for one connection's spilled data, by which others see whether its owner lives.

        It lies in the folder ``inside``, by default one of the lake.
        """
        owner = f"{os.getpid()}.{uuid.uuid4().hex[:8]}.{platform.node()}"
        return (inside or self.root / SPILL) / owner

    def collect_garbage(self, *, older_than_s: float) -> list[Path]:
        """Delete snapshots replaced longer ago than this, what dead builds left, and work that
        nobody went on with.

        Younger ones stay: a reader may have opened them before they were replaced. Raises
        LakeBusyError during a build, whose snapshots no manifest names yet.
        """
        deleted = []
        limit = time.time() - older_than_s
        with self.building():
            for left in sorted(self.root.glob(f"{UNFINISHED}/*")):
                if left.stat().st_mtime < limit:
                    shutil.rmtree(left)
                    deleted.append(left)
            served = self.for_readers()
            for folder in sorted(p for p in self.root.glob("[!.]*/*") if p.is_dir()):
                table = f"{folder.parent.name}.{folder.name}"
                manifests = (self.manifest(table), served.manifest(table))
                # A snapshot may go on using files of an earlier one, which then stays, too.
                kept = {
                    name
                    for manifest in manifests
                    if manifest is not None
                    for name in (
                        manifest.snapshot_id,
                        *(Path(file.path).parts[0] for file in manifest.files),
                    )
                }
                for snapshot in sorted(p for p in folder.iterdir() if p.is_dir()):
                    if snapshot.name not in kept and snapshot.stat().st_mtime < limit:
                        shutil.rmtree(snapshot)
                        deleted.append(snapshot)
        return deleted

    def _read_served(self) -> dict[str, Manifest]:
        text = self._read(path := self.root / SERVED)
        try:
            tables = {} if text is None else json.loads(text)["tables"]
            return {name: Manifest.from_fields(fields) for name, fields in tables.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LakeError(
                f"{path} is not a list of this lake's tables ({error}); "
                "delete it and run qilin build"
            ) from error

    def _read(self, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise LakeError(f"cannot read the lake {self.root}: {error}") from error

    def _faults_of(self, manifest: Manifest) -> Iterator[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.table_folder(manifest.table)
        if manifest.snapshot_id != version_of(manifest.inputs, manifest.code_version):
            yield f"snapshot {manifest.snapshot_id} is not named by its inputs and its code"
        is_whole = True
        for file in manifest.files:
            path = folder / file.path
            fault = None
            if not path.is_file():
                fault = "is missing"
            elif path.stat().st_size != file.n_bytes:
                fault = f"has {path.stat().st_size:,} bytes, not {file.n_bytes:,}"
            elif sha256_of(path) != file.sha256:
                fault = "has other bytes than were written"
            if fault is not None:
                is_whole = False
                yield f"{path} {fault}"
        snapshot = folder / manifest.snapshot_id
        named = {folder / file.path for file in manifest.files}
        for path in sorted(p for p in snapshot.rglob("*") if p.is_file() and p not in named):
            yield f"{path} belongs to no table"
        tables = self.files(manifest)
        if is_whole and tables:
            try:
                n_rows = sum(pq.read_metadata(path).num_rows for path in tables)
            except (pa.ArrowInvalid, OSError) as error:
                yield f"cannot be read as Parquet: {error}"
            else:
                if n_rows != manifest.n_rows:
                    yield f"has {n_rows:,} rows, and {manifest.n_rows:,} in its manifest"

    @contextlib.contextmanager
    def _locked(self, wait: bool) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self.cannot_write("the lock file", error) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 1000, 0).decode(errors="replace") or "another process"
                if not wait:
                    raise LakeBusyError(
                        f"{holder} is building the lake {self.root}; one build at a time. "
                        "Wait until it ends (qilin build --wait does so), or stop it"
                    ) from None
                log.info("waiting: %s is building the lake %s", holder, self.root)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise LakeError(
                    f"the file system of the lake {self.root} cannot lock files "
                    f"({error.strerror}), so two builds could mix: put the lake on another disk"
                ) from error
            now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
            holder = f"process {os.getpid()} on {platform.node()} (since {now})"
            try:
                os.truncate(lock, 0)
                os.pwrite(lock, holder.encode(), 0)
            except OSError as error:
                raise self.cannot_write("the lock file", error) from error
            yield
            os.truncate(lock, 0)
        finally:
            os.close(lock)

    def _sweep(self) -> None:
        """Remove what dead processes left aside; the builder's lock is held, so no other stages."""
        try:
            # DuckDB makes a connection's own folder in it, but not this one.
            (self.root / SPILL).mkdir(exist_ok=True)
            for left in self.root.glob(f"{STAGING}/*"):
                shutil.rmtree(left)
            for pattern in (".*.aside.*", f"[!.]*/*/.{MANIFEST}.aside.*"):
                for left in self.root.glob(pattern):
                    left.unlink()
            for left in self.root.glob(f"{SPILL}/*.*.*"):
                pid, _, node = left.name.split(".", 2)
                if node == platform.node() and not _is_alive(int(pid)):
                    shutil.rmtree(left)
        except OSError as error:
            raise self.cannot_write("over what a dead build left", error) from error

    def cannot_write(self, what: str, error: OSError) -> LakeError:
        """The message for a write that failed: what, where, why, and what to do."""
        text = f"cannot write {what} into the lake {self.root}: {error.strerror or error}"
        folder = next(p for p in (self.root, *self.root.parents) if p.is_dir())
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                free = shutil.disk_usage(folder).free / 1e6
                text += (
                    f" ({free:,.0f} MB free); make room (qilin gc deletes old snapshots) "
                    "or name another folder with --lake, QILIN_CACHE for the copy of an address"
                )
            case errno.EACCES | errno.EPERM | errno.EROFS:
                text += (
                    "; name a folder you may write to with --lake, QILIN_CACHE for the copy of an "
                    "address"
                )
        return LakeError(f"{text}. Readers keep the last complete build")


def connect(lake: Path | str | None = None) -> "duckdb.DuckDBPyConnection":
    """A DuckDB connection with every relation of the lake, comments included, for ad-hoc work.

    ``lake``, a folder or an address, defaults to QILIN_LAKE, then to .qilin/lake in the current
    folder. The connection is private and in memory: nothing done on it changes the lake.
    """
    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.settings import Settings
    from qilin_dagster.working_copy import bring_up_to_date

    settings = Settings.from_environment()
    if lake is not None:
        settings = settings.with_lake(str(lake))
    bring_up_to_date(settings, log.info)
    served = Lake(settings.lake).for_readers()
    return DuckDBEngine(served, settings).connect(comments=True)


def replace_text(path: Path, text: str) -> None:
    """Write a file aside, sync it, and rename it over the old one."""
    aside = aside_of(path)
    try:
        aside.write_text(text, encoding="utf-8")
        sync(aside)
        os.replace(aside, path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _told(manifests: Mapping[str, Manifest]) -> str:
    tables = {table: asdict(manifests[table]) for table in sorted(manifests)}
    return json.dumps({"tables": tables}, indent=1, ensure_ascii=False)


def os_error_in(error: Exception, *codes: int) -> OSError | None:
    """DuckDB, Polars and safetensors have errors of their own for a full disk and the like: the
    first of the codes that the error speaks of, as the usual error."""
    for code in codes:
        if os.strerror(code) in str(error):
            return OSError(code, os.strerror(code))
    return None


def aside_of(path: Path) -> Path:
    """A hidden name beside the path to write under; a later build removes what stays there."""
    return path.with_name(f".{path.name}.aside.{uuid.uuid4().hex[:8]}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _share(path: Path, target: Path, file: File) -> bool:
    """Make the target the file at the path, by a link, when that has the bytes of ``file``.

    What is at the target stays where the bytes are others or the file system has no links.
    """
    if not path.is_file() or _size_and_hash(path) != (file.n_bytes, file.sha256):
        return False
    aside = aside_of(target)
    try:
        os.link(path, aside)
        os.replace(aside, target)
    except OSError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # Alive, of another user.
    return True


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


def sync(path: Path) -> None:
    """Have the disk keep what was written into a file, or which files a folder has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
