"""A lake's copy in object storage: pushed by who builds it, pulled by whoever reads it elsewhere.

A lake itself needs a file system: locks, renames and syncs, which no object store has. What it
publishes needs none of these, because files never change once they are named. So the copy is a pool
of objects named by their SHA-256 and one ``lake.json``, which names the files of every table and is
replaced last, in one put: whoever pulls gets every table of one build or of the next. A push costs
what is new; so does a pull.

The address is whatever fsspec understands: ``s3://bucket/lake`` (with s3fs), ``gs://...``, a path.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import fsspec

from qilin_dagster.errors import InputError
from qilin_dagster.lake import (
    MANIFEST,
    SERVED,
    File,
    Lake,
    LakeError,
    Manifest,
    aside_of,
    replace_text,
    sha256_of,
    share,
)

OBJECTS = "objects"
# Where a pulled lake keeps files that lay outside of the lake they were pushed from.
PULLED = "pulled"


@dataclass(frozen=True)
class Moved:
    """What a push or a pull came to; files that were there already are not counted."""

    n_tables: int
    n_files: int
    n_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.n_tables} tables; {self.n_files} files, {self.n_bytes / 1e6:,.1f} MB were new"
        )


def push(lake: Lake, url: str) -> Moved:
    """Copy what readers of the lake see to the address.

    Raises:
        InputError: an address that cannot be used, or a lake that shows readers nothing.
        LakeError: the address cannot be written, or a file of the lake has not the bytes that its
            manifest names.
    """
    store, root = _opened(url)
    served = lake.for_readers()
    tables = served.tables()
    if not tables:
        raise InputError(f"no build of {lake.root} has ended yet: there is nothing to push")
    moved, n_bytes = 0, 0
    try:
        for manifest, file in _files(served):
            target = _object(root, file)
            if store.exists(target) and store.size(target) == file.n_bytes:
                continue
            path = served.table_folder(manifest.table) / file.path
            if sha256_of(path) != file.sha256:
                raise LakeError(f"{path} has other bytes than were written; see qilin verify")
            store.makedirs(os.path.dirname(target), exist_ok=True)
            with store.transaction:
                store.put_file(str(path), target)
            moved, n_bytes = moved + 1, n_bytes + file.n_bytes
        present = {table: served.manifest(table) for table in tables}
        told = {"tables": {table: asdict(m) for table, m in present.items() if m is not None}}
        store.makedirs(root, exist_ok=True)
        # Last, and whole: it alone says what there is.
        with store.transaction, store.open(f"{root}/{SERVED}", "wb") as file_of_store:
            file_of_store.write(json.dumps(told, ensure_ascii=False).encode())
    except OSError as error:
        raise LakeError(f"cannot push {lake.root} to {url}: {error}") from error
    return Moved(len(tables), moved, n_bytes)


def pull(url: str, lake: Lake, serve: Callable[[], None]) -> Moved:
    """Make the lake's folder what was pushed last, and show it to its readers by ``serve()``.

    Raises:
        InputError: an address that cannot be used or holds no lake.
        LakeError: an object is missing or has other bytes than its name says.
    """
    store, root = _opened(url)
    try:
        told = json.loads(store.cat_file(f"{root}/{SERVED}"))
    except FileNotFoundError as error:
        raise InputError(f"there is no lake at {url}: qilin push makes one") from error
    except (OSError, ValueError) as error:
        raise LakeError(f"cannot pull {url}: {error}") from error
    manifests = [Manifest.from_fields(fields) for fields in told["tables"].values()]
    moved, n_bytes = 0, 0
    with lake.building():
        local = {}
        for manifest in manifests:
            folder = lake.table_folder(manifest.table)
            earlier = lake.manifest(manifest.table)
            before = {file.sha256: _local_path(file) for file in (earlier.files if earlier else ())}
            files = tuple(replace(file, path=_local_path(file)) for file in manifest.files)
            local[manifest.table] = replace(manifest, files=files)
            for file in files:
                target = folder / file.path
                if target.is_file() and sha256_of(target) == file.sha256:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                if file.sha256 in before and share(folder / before[file.sha256], target, file):
                    continue
                try:
                    _get(store, _object(root, file), target, file)
                except OSError as error:
                    raise LakeError(f"cannot pull {manifest.table} from {url}: {error}") from error
                moved, n_bytes = moved + 1, n_bytes + file.n_bytes
        # All files are there: what fails above changes no table.
        for table, manifest in local.items():
            lake.table_folder(table).mkdir(parents=True, exist_ok=True)
            replace_text(lake.table_folder(table) / MANIFEST, manifest.to_json())
        serve()
    return Moved(len(manifests), moved, n_bytes)


def _get(store: Any, source: str, target: Path, file: File) -> None:
    aside = aside_of(target)
    try:
        store.get_file(source, str(aside))
        if sha256_of(aside) != file.sha256:
            raise LakeError(f"object {file.sha256} is damaged: push it anew")
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def _files(lake: Lake) -> Iterator[tuple[Manifest, File]]:
    for table in lake.tables():
        manifest = lake.manifest(table)
        if manifest is not None:
            for file in manifest.files:
                yield manifest, file


def _object(root: str, file: File) -> str:
    return f"{root}/{OBJECTS}/{file.sha256[:2]}/{file.sha256}"


def _local_path(file: File) -> str:
    """Where a file lies in its table's folder; published ones have lain elsewhere."""
    if not Path(file.path).is_absolute():
        return file.path
    return f"{PULLED}/{file.sha256[:16]}{Path(file.path).suffix}"


def _opened(url: str) -> tuple[Any, str]:
    try:
        store, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url} cannot be used: {error}") from error
    return store, root.rstrip("/")
