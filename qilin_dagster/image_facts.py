"""core.images: what the image files beside the data are, each verified once. Knows no Dagster.

The archive comes in parts, the folders ``image/part_<n>`` of the data folder; all, some or none may
be there. A part in which no file has changed (names, sizes, times) is not looked into again, and a
verification that was killed goes on where it stopped.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.array_file import whole_file
from qilin_dagster.lake import Lake, LakeError, Manifest, Written, write_rows
from qilin_dagster.sources.images import verify_images
from qilin_dagster.sources.layout import IMAGE_FOLDER
from qilin_dagster.sources.published import image_parts

if TYPE_CHECKING:
    import duckdb
    import polars as pl

TABLE = "core.images"
CODE_VERSION = "1"
# So many are lost at most when a verification is killed.
IMAGES_AT_ONCE = 20_000
FACTS = ("width", "height", "n_bytes", "content_hash", "is_readable", "reason")

# Paths of any other shape are looked at, too: they are refused by name.
NAMED = """
select note_key, note_idx, image_n, path, regexp_extract(path, '^(image/[^/]+)/', 1) as part
from (
    select
        note_key,
        note_idx,
        unnest(image_path_list) as path,
        generate_subscripts(image_path_list, 1) as image_n
    from core.notes
) as named
"""

log = logging.getLogger("qilin")


def registered_folder(lake: Lake) -> Path:
    """The data folder that the published tables of the lake were registered from.

    Raises LakeError where none was.
    """
    manifest = lake.manifest("published.notes")
    if manifest is None:
        raise LakeError(f"published.notes is not in the lake {lake.root}; build it first")
    # An input of a published table is a file in the table's folder.
    return Path(min(manifest.inputs)).parent.parent


def fingerprints(data: Path) -> dict[str, str]:
    """The parts of the archive that are there, ``image/part_3``, each with a hash of its listing.

    Names, sizes and times of all files; nothing is opened.
    """
    found = {}
    for part in image_parts(data):
        digest = hashlib.sha256()
        for line in sorted(_listing(data / part, "")):
            digest.update(line.encode(errors="surrogateescape"))
        found[part] = digest.hexdigest()[:16]
    return found


def _listing(folder: Path | str, inside: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{inside}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _listing(entry.path, name)
            else:
                status = entry.stat(follow_symlinks=False)
                yield f"{name} {status.st_size} {status.st_mtime_ns}\n"


def build_images(
    connection: "duckdb.DuckDBPyConnection",
    data: Path,
    parts: dict[str, str],
    before: "pl.DataFrame | None",
    folder: Path,
    unfinished: Path,
    n_threads: int,
) -> Written:
    """Verify the images of the parts that are there and write a row for each path into them.

    Args:
        connection: knows core.notes.
        data: the data folder.
        parts: as `fingerprints` gives them.
        before: rows of an earlier table for parts that have not changed since, or None.
        folder: of the snapshot.
        unfinished: where verified images are kept while the others are.
        n_threads: that decode.
    """
    import polars as pl

    # Nothing is read of five million paths where no file is.
    where = f"where part = '' or list_contains({[*parts]}, part)" if parts else "where false"
    named = connection.sql(f"from ({NAMED}) as paths {where} order by part, path, note_key").pl()
    if before is not None and named.height:
        known = before.select("path", *FACTS).unique("path", keep="first")
        named = named.join(known, on="path", how="left", maintain_order="left")
        old = named.filter(pl.col("is_readable").is_not_null())
        new = named.filter(pl.col("is_readable").is_null()).drop(FACTS)
    else:
        old, new = None, named
    verified = [
        _verified(new.slice(start, IMAGES_AT_ONCE), data, unfinished, start, n_threads)
        for start in range(0, max(1, new.height), IMAGES_AT_ONCE)
    ]
    if old is not None:
        verified.append(old)
    rows = pl.concat([frame.select("note_key", *COLUMNS) for frame in verified])
    rows = rows.sort("note_key", "note_idx", "image_n").drop("note_key")
    (n_named,) = connection.execute("select sum(n_images) from core.notes").fetchall()[0]
    return write_rows(rows.to_arrow(), folder, _facts(rows, [*parts], int(n_named or 0), old))


COLUMNS = ("note_idx", "image_n", "path", *FACTS)


def _verified(
    paths: "pl.DataFrame", data: Path, unfinished: Path, start: int, n_threads: int
) -> "pl.DataFrame":
    """These paths with their facts; kept in the unfinished folder under where they start."""
    import polars as pl

    schema: dict[str, Any] = {
        "width": pl.Int32,
        "height": pl.Int32,
        "n_bytes": pl.Int64,
        "content_hash": pl.String,
        "is_readable": pl.Boolean,
        "reason": pl.String,
    }
    if paths.height == 0:
        return paths.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in schema.items())
    kept = unfinished / f"images-{start:09}.parquet"
    if not kept.exists():
        facts = verify_images(
            data, paths.select("note_idx", "image_n", "path").iter_rows(), n_threads
        )
        rows = [tuple(getattr(one, name) for name in FACTS) for one in facts]
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        with whole_file(kept) as aside:
            frame.write_parquet(aside)
        log.info("core.images: %s images verified", f"{start + paths.height:,}")
    return pl.concat([paths, pl.read_parquet(kept)], how="horizontal")


def _facts(
    rows: "pl.DataFrame", parts: list[str], n_named: int, old: "pl.DataFrame | None"
) -> dict[str, Any]:
    import polars as pl

    bad = rows.filter(~pl.col("is_readable"))
    # What an image is corrupt in differs from file to file.
    reasons = bad.group_by(pl.col("reason").str.split(":").list.first()).len().sort("reason")
    return {
        "parts": parts,
        "n_named": n_named,
        "n_reused": 0 if old is None else old.height,
        "n_readable": rows.height - bad.height,
        "unreadable": dict(reasons.iter_rows()),
    }


def described(manifest: Manifest) -> str:
    """How many images there are and what is wrong with the others, in one line."""
    facts = manifest.facts
    if not facts["parts"]:
        return f"no images: the data folder has no folder {IMAGE_FOLDER}/part_<n>"
    text = f"{facts['n_readable']:,} of {facts['n_named']:,} named images can be read"
    absent = facts["n_named"] - manifest.n_rows
    if absent:
        text += f"; {absent:,} are in parts that are not there"
    return text + "".join(f"; {n:,}: {reason}" for reason, n in facts["unreadable"].items())
