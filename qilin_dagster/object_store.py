"""A lake's copy in object storage: pushed by who builds it, pulled by whoever reads it elsewhere.

A lake itself needs a file system: locks, renames and syncs, which no object store has. What it
publishes needs none of these, because files never change once they are named. So the copy is a pool
of objects named by their SHA-256 and one ``lake.json``, which names the files of every table and is
replaced last, in one put: whoever pulls gets every table of one build or of the next. A push costs
what is new; so does a pull.

The address is whatever fsspec understands: ``s3://bucket/lake`` (with s3fs), ``gs://...``, a path.
How a lake lives at an address is in working_copy.py.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import fsspec

from qilin_dagster.errors import InputError
from qilin_dagster.lake import (
    SERVED,
    File,
    Lake,
    LakeError,
    Manifest,
    aside_of,
    sha256_of,
    sync,
)

Task = TypeVar("Task")

OBJECTS = "objects"
# Where a pulled lake keeps files that lay outside of the lake they were pushed from.
PULLED = "pulled"
TABLE = re.compile(r"\w+\.\w+")
# Objects are small and far away: one at a time would mostly wait.
AT_ONCE = 8
# Above this a put is cut into parts that travel together, some 500 MB of memory for each file.
LARGE = 50_000_000


@dataclass(frozen=True)
class Moved:
    """What a push or a pull came to; files that were there already are not counted.

    ``version`` is that of the address afterwards, see `Told`.
    """

    n_tables: int
    n_files: int
    n_bytes: int
    version: str

    def __str__(self) -> str:
        return (
            f"{self.n_tables} tables; {self.n_files} files, {self.n_bytes / 1e6:,.1f} MB were new"
        )


@dataclass(frozen=True)
class Base:
    """The version at an address that a build went on from; None where it had no lake."""

    version: str | None


@dataclass(frozen=True)
class Told:
    """What an address says of its lake: its lake.json, and the store's own tag of that text."""

    url: str
    text: bytes
    tag: str | None

    @cached_property
    def version(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    @cached_property
    def manifests(self) -> list[Manifest]:
        """Raises InputError when the text is no list of tables, or one that leads elsewhere."""
        try:
            tables = json.loads(self.text)["tables"].values()
            manifests = [Manifest.from_fields(fields) for fields in tables]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{self.url}/{SERVED} is not that of a lake ({error}): name another place"
            ) from error
        for manifest in manifests:
            # Whoever may write there shall not write anywhere else on this machine.
            paths = [manifest.snapshot_id, *(file.path for file in manifest.files)]
            if not TABLE.fullmatch(manifest.table) or any(".." in Path(p).parts for p in paths):
                raise InputError(
                    f"{self.url}/{SERVED} names files outside of its lake ({manifest.table}): "
                    "nothing of it is taken"
                )
        return manifests


class OvertakenError(LakeError):
    """Somebody else's build was pushed to the address after this one began."""


def told_at(url: str) -> Told | None:
    """What the address says now; None where there is no lake. One get.

    Raises:
        InputError: an address that cannot be used.
        LakeError: the store cannot be reached or refuses.
    """
    return _Store(url).told()


def require_place(url: str) -> Told | None:
    """What the address says now; refuses, before a long build, one that no push could write to.

    Raises:
        InputError: an address that cannot be used, or holds something other than a lake.
        LakeError: the store cannot be reached, has no such bucket, or refuses to be written.
    """
    store = _Store(url)
    told = store.told()
    if told is not None:
        _ = told.manifests
    elif strange := store.strange():
        raise InputError(
            f"{url} holds other things ({strange}) and no lake: name an empty place, or a lake"
        )
    store.probe()
    return told


def push(lake: Lake, url: str, base: Base | None = None) -> Moved:
    """Copy what readers of the lake see to the address, over what it has, if that is the base.

    Without a base it goes over whatever is there, and objects that the list of the address names
    are looked at too, so that what is lacking is put anew.

    Raises:
        InputError: an address that cannot be used, or a lake that shows readers nothing.
        OvertakenError: the address has no longer what ``base`` says; it stays as it is.
        LakeError: the address cannot be written, or a file of the lake has not the bytes that its
            manifest names.
    """
    store = _Store(url)
    served = lake.for_readers()
    present = {table: m for table in served.tables() if (m := served.manifest(table)) is not None}
    if not present:
        raise InputError(f"no build of {lake.root} has ended yet: there is nothing to push")
    told = store.told()
    _require_base(base, told, url)
    known = (
        {file.sha256 for manifest in told.manifests for file in manifest.files}
        if base is not None and told is not None
        else set()
    )
    lacking = {
        file.sha256: (file, served.table_folder(table) / file.path)
        for table, manifest in present.items()
        for file in manifest.files
        if file.sha256 not in known
    }
    large = [task for task in lacking.values() if task[0].n_bytes > LARGE]
    small = [task for task in lacking.values() if task[0].n_bytes <= LARGE]
    n_bytes = [
        *_at_once(lambda task: store.put(*task), small, AT_ONCE),
        *_at_once(lambda task: store.put(*task), large, 1),
    ]
    tables = {"tables": {table: asdict(manifest) for table, manifest in present.items()}}
    text = json.dumps(tables, ensure_ascii=False).encode()
    # Objects may have taken hours.
    told = store.told(tagged=True)
    _require_base(base, told, url)
    new = Told(url, text, None)
    if told is None or told.version != new.version:
        # Last, and whole: it alone says what there is.
        store.put_told(new, told)
    sizes = [n for n in n_bytes if n is not None]
    return Moved(len(present), len(sizes), sum(sizes), new.version)


def pull(url: str, lake: Lake, *, trusts: bool = False) -> Moved:
    """Make the lake's folder what was pushed last, and show it to its readers.

    With ``trusts``, a file that the lake's own manifests name is not read again to see whether it
    still has its bytes; its size is looked at.

    Raises:
        InputError: an address that cannot be used or holds no lake.
        LakeError: an object is missing or has other bytes than its name says.
    """
    store = _Store(url)
    told = store.told()
    if told is None:
        raise InputError(f"there is no lake at {url}: qilin build or qilin push makes one")
    manifests = told.manifests
    with lake.building():
        local: dict[str, Manifest] = {}
        lacking: list[tuple[File, Path, Path | None]] = []
        for manifest in manifests:
            here = _here(lake, manifest.table, trusts)
            folder = lake.table_folder(manifest.table)
            files = tuple(_settled(file, here.get(file.sha256)) for file in manifest.files)
            local[manifest.table] = replace(manifest, files=files)
            for file in files:
                target, same = folder / file.path, here.get(file.sha256)
                if same != target and not (target.is_file() and sha256_of(target) == file.sha256):
                    lacking.append((file, target, same))
        n_bytes = _at_once(lambda task: _get(store, lake, *task), lacking, AT_ONCE)
        # All files are there: what fails above changes no table.
        lake.adopt(local)
    sizes = [n for n in n_bytes if n is not None]
    return Moved(len(local), len(sizes), sum(sizes), told.version)


class _Store:
    """One address, opened. What its file system raises comes out in words."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.files, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise InputError(
                f"{url} needs a package that is not installed: {error}"
                + ("; pip install -e '.[s3]' does" if url.startswith("s3") else "")
            ) from error
        except (ValueError, OSError) as error:
            raise InputError(f"{url} cannot be used: {error}") from error
        self.root = root.rstrip("/")
        if not self.root:
            raise InputError(f"{url} names no place in the store, as s3://BUCKET/lake does")

    def told(self, *, tagged: bool = False) -> Told | None:
        target = f"{self.root}/{SERVED}"
        with self._explained("read"):
            # What a long process saw of the store is not what is there now.
            self.files.invalidate_cache()
            try:
                # First the tag: if the text is replaced in between, the tag is too old to put over.
                is_asked = tagged and self._has_conditions
                tag = self.files.info(target).get("ETag") if is_asked else None
                return Told(self.url, self.files.cat_file(target), tag)
            except FileNotFoundError as error:
                if _code_of(error) == "NoSuchBucket":
                    raise
                return None

    def strange(self) -> str | None:
        """The name of something at the address that no push, whole or not, has put there."""
        with self._explained("read"):
            try:
                paths = self.files.ls(self.root, detail=False)
            except FileNotFoundError:
                return None
        names = {path.rstrip("/").rpartition("/")[2] for path in paths}
        own = {name for name in names if name == OBJECTS or name.startswith(f".{SERVED}.")}
        return min(names - own, default=None)

    def probe(self) -> None:
        with self._explained("write to"):
            self._make_folder(f"{self.root}/{OBJECTS}")
            self.files.pipe_file(f"{self.root}/{OBJECTS}/probe", b"")

    def put(self, file: File, path: Path) -> int | None:
        """Put one file's bytes into the pool; how many, or None where they are there already."""
        target = self._object(file)
        with self._explained("push to"), contextlib.suppress(FileNotFoundError):
            if self.files.info(target)["size"] == file.n_bytes:
                return None
        try:
            is_whole = sha256_of(path) == file.sha256
        except OSError as error:
            raise LakeError(f"cannot push {path}: {error.strerror}") from error
        if not is_whole:
            raise LakeError(f"{path} has other bytes than were written; see qilin verify")
        with self._explained("push to"):
            self._make_folder(os.path.dirname(target))
            self.files.put_file(str(path), target)
        return file.n_bytes

    def get(self, file: File, target: Path) -> None:
        self.files.get_file(self._object(file), str(target))

    def put_told(self, new: Told, over: Told | None) -> None:
        """Replace the list at once, on S3 only while it is still ``over``."""
        target = f"{self.root}/{SERVED}"
        with self._explained("push to"):
            if not self.files.async_impl:
                # A file system: a write could be seen half done, a rename cannot.
                self._make_folder(self.root)
                aside = f"{self.root}/.{SERVED}.{uuid.uuid4().hex[:8]}"
                self.files.pipe_file(aside, new.text)
                self.files.mv(aside, target)
                return
            condition: dict[str, str] = {}
            if self._has_conditions and over is None:
                condition = {"IfNoneMatch": "*"}
            elif over is not None and over.tag is not None:
                condition = {"IfMatch": over.tag}
            try:
                self.files.pipe_file(target, new.text, **condition)
            except OSError as error:
                match _code_of(error):
                    case "PreconditionFailed" | "ConditionalRequestConflict":
                        # It may be this very put, tried again because its answer was lost.
                        now = self.told()
                        if now is None or now.text != new.text:
                            raise _overtaken(self.url) from error
                    case "NotImplemented" if condition:
                        # A store that speaks S3 without conditions.
                        self.files.pipe_file(target, new.text)
                    case _:
                        raise

    @property
    def _has_conditions(self) -> bool:
        return "s3" in self.files.protocol

    def _object(self, file: File) -> str:
        return f"{self.root}/{OBJECTS}/{file.sha256[:2]}/{file.sha256}"

    def _make_folder(self, path: str) -> None:
        # In object stores folders are but names, and asking for one would make a missing bucket.
        if not self.files.async_impl:
            self.files.makedirs(path, exist_ok=True)

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (InputError, LakeError):
            raise
        except Exception as error:
            # Each store has errors of its own, and many are no OSError.
            raise LakeError(f"cannot {doing} {self.url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a store's error says, and what to do; classes by name, their packages are optional."""
    names = {kind.__name__ for kind in type(error).__mro__}
    said = str(error).strip() or type(error).__name__
    if _code_of(error) == "NoSuchBucket":
        return "there is no such bucket; make it first, or mend the address"
    if any("Credential" in name for name in names):
        return (
            f"no credentials were found ({said}); set what the store's client reads, for S3 "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, PermissionError):
        return f"access is denied ({said}); see what these credentials may do there"
    if any("Connect" in name or "Timeout" in name for name in names):
        return (
            f"it cannot be reached ({said}); see to the network, and to AWS_ENDPOINT_URL for a "
            "server of one's own that speaks S3"
        )
    return said


def _code_of(error: BaseException) -> str | None:
    """The code that S3 gives its errors, which their translation into Python's own loses."""
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _require_base(base: Base | None, told: Told | None, url: str) -> None:
    if base is not None and base.version != (told.version if told is not None else None):
        raise _overtaken(url)


def _overtaken(url: str) -> OvertakenError:
    return OvertakenError(
        f"another build was pushed to {url} after this one began, and stays; this one is not "
        "pushed: qilin build again, which goes on from that one"
    )


def _here(lake: Lake, table: str, trusts: bool) -> dict[str, Path]:
    """Files of the table by their SHA-256 that the lake has whole; trusted ones by their size."""
    found = {}
    try:
        manifest = lake.manifest(table)
    except LakeError:
        return {}  # A damaged manifest is replaced.
    for file in manifest.files if manifest is not None else ():
        path = lake.table_folder(table) / file.path
        has_size = path.is_file() and path.stat().st_size == file.n_bytes
        if has_size and (trusts or sha256_of(path) == file.sha256):
            found[file.sha256] = path
    return found


def _settled(file: File, here: Path | None) -> File:
    """The file as the pulled manifest names it; published ones lay elsewhere, perhaps here too."""
    if not Path(file.path).is_absolute():
        return file
    if here is not None:
        return replace(file, path=str(here))
    return replace(file, path=f"{PULLED}/{file.sha256[:16]}{Path(file.path).suffix}")


def _get(store: _Store, lake: Lake, file: File, target: Path, same: Path | None) -> int | None:
    """Bring one file to its place, by a copy of the same bytes where it can; how many moved."""
    aside = aside_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if same is not None:
            shutil.copyfile(same, aside)
        if same is None or sha256_of(aside) != file.sha256:
            same = None
            store.get(file, aside)
            if sha256_of(aside) != file.sha256:
                raise LakeError(f"object {file.sha256} is damaged: qilin push mends it")
        sync(aside)
        os.replace(aside, target)
    except LakeError:
        raise
    except FileNotFoundError as error:
        raise LakeError(
            f"{store.url} lacks an object of {target.name} ({file.sha256}): qilin push mends it; "
            "a lake's own folder is named by its path, without file://"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise lake.cannot_write("what is pulled", error) from error
        raise LakeError(f"cannot pull {target} from {store.url}: {_reason(error)}") from error
    finally:
        aside.unlink(missing_ok=True)
    return None if same is not None else file.n_bytes


def _at_once(do: Callable[[Task], int | None], tasks: Iterable[Task], n: int) -> list[int | None]:
    """Do all tasks, n at a time; after a first error none is begun."""
    with ThreadPoolExecutor(n) as pool:
        futures = [pool.submit(do, task) for task in tasks]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
