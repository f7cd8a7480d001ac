"""Draws a world and writes it in the published layout, aside first, then in place."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from qilin_dagster.sources.twin import (
    archipelago,
    catalogue,
    clicks,
    files,
    images,
    lists,
    tables,
    truth,
)
from qilin_dagster.sources.twin.answers import choose_answers
from qilin_dagster.sources.twin.blocks import number_notes
from qilin_dagster.sources.twin.clicks import Behaviour, ClickModel
from qilin_dagster.sources.twin.dirty import spoil
from qilin_dagster.sources.twin.draws import stream
from qilin_dagster.sources.twin.history import make_histories
from qilin_dagster.sources.twin.lists import Shown
from qilin_dagster.sources.twin.queries import make_queries
from qilin_dagster.sources.twin.slots import make_slots, margins
from qilin_dagster.sources.twin.tables import World
from qilin_dagster.sources.twin.targets import Sizes, sizes
from qilin_dagster.sources.twin.timeline import TABLES, make_requests
from qilin_dagster.sources.twin.world import make_notes, make_users

GENERATOR_VERSION: Final = 1
SMALLEST_SCALE: Final = 0.001
LARGEST_SCALE: Final = 10.0
MOST_PROMOTED: Final = 5.0
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to make; twin.json keeps them."""

    scale: float
    seed: int
    images: bool
    dirty: bool
    click_model: ClickModel
    leaks: bool
    looks: bool
    promotes: float

    def check(self) -> None:
        """Refuse unusable values, in one sentence."""
        if not (SMALLEST_SCALE <= self.scale <= LARGEST_SCALE):
            raise ValueError(
                f"scale is {self.scale}; it must lie between {SMALLEST_SCALE} and {LARGEST_SCALE:g}"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}; it must be a whole number, 0 or more")
        if self.click_model not in ("pbm", "cascade", "mixed"):
            raise ValueError(
                f"click_model is {self.click_model!r}; it must be 'pbm', 'cascade' or 'mixed'"
            )
        if not 0 <= self.promotes <= MOST_PROMOTED:
            raise ValueError(
                f"promotes is {self.promotes}; it must lie between 0 and {MOST_PROMOTED:g}"
            )


def draw_world(
    options: Options, size: Sizes, progress: Progress, first_folder: int = 0
) -> tuple[World, Behaviour]:
    """All random choices of one world, without a file written."""
    seed, model, promotes = options.seed, options.click_model, options.promotes
    progress(f"drawing {size.notes:,} notes and {size.users:,} users")
    notes, users = make_notes(size, seed, first_folder), make_users(size, seed)
    progress(f"drawing {size.searches + size.feeds:,} requests")
    requests = make_requests(size, users, seed)
    queries = make_queries(requests, users, seed)
    answers = choose_answers(requests, queries, size, seed)
    exposures, click_targets = margins(requests, queries, answers, size)
    slots = make_slots(requests, answers, exposures, size, seed)
    progress(f"filling lists with {len(slots.request):,} exposures")
    everything = np.arange(len(requests))
    _, first = lists.fill(
        slots, everything, requests, queries, users, notes, promotes, stream(seed, "lists 0")
    )
    progress("calibrating and drawing clicks")
    behaviour = clicks.calibrate(slots, first, requests, answers, click_targets, seed)
    for is_last in (False, True):
        outcome = clicks.act(
            slots, first, behaviour, requests, queries, answers, users, notes, model, promotes, seed
        )
        if not is_last:
            behaviour = clicks.refine(
                behaviour,
                slots,
                Shown(outcome.note, outcome.appeal, outcome.from_image),
                requests,
                answers,
                click_targets,
                clicks.ROUNDS_AGAIN,
            )
    progress("drawing histories and numbering notes")
    histories = make_histories(requests, users, notes, slots, outcome, seed)
    numbering = number_notes(notes, requests, slots, outcome, histories, options.leaks, seed)
    world = World(
        seed, notes, users, requests, queries, answers, slots, outcome, histories, numbering
    )
    return world, behaviour


def write(
    out: Path,
    options: Options,
    progress: Progress,
    largest_island: float = archipelago.LARGEST_ISLAND,
) -> None:
    """Check the request, write the twin beside ``out`` and rename it into place.

    Above the scale ``largest_island`` the twin is an archipelago.
    """
    options.check()
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the twin")
    if out.is_dir() and any(out.iterdir()) and not (out / "twin.json").is_file():
        raise ValueError(f"{out} is not empty and is no twin; name a new folder or empty this one")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        aside.chmod(0o755)
        about = {"generator_version": GENERATOR_VERSION, **asdict(options)}
        if options.scale <= largest_island:
            world, behaviour = draw_world(options, sizes(options.scale), progress)
            write_world(aside, aside, world, behaviour, options, progress)
        else:
            about["islands"] = write_islands(aside, options, progress, largest_island)
        (aside / "twin.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        progress("moving the twin into place")
        _replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_islands(folder: Path, options: Options, progress: Progress, largest_island: float) -> int:
    """Draw and write the islands one after the other, then merge them; returns how many."""
    islands = archipelago.plan(options.scale, options.seed, largest_island)
    folders = [folder / "islands" / f"{number:03d}" for number in range(len(islands))]
    for number, (island, own) in enumerate(zip(islands, folders, strict=True), start=1):
        progress(f"island {number} of {len(islands)}")
        # Bad rows come at the end of the merged tables; images have their places already.
        settings = replace(options, seed=island.seed, dirty=False)
        own.mkdir(parents=True)
        write_world(
            own,
            folder,
            *draw_world(settings, island.size, progress, island.first_folder),
            settings,
            progress,
        )
    merger = archipelago.Merger(folders, islands)
    planted = []
    for table in (*TABLES, "user_feat", "notes"):
        progress(f"merging {table}")
        bad = merger.table(folder, table, options.seed if options.dirty else None)
        if bad is not None:
            planted.append(bad)
        if table in files.LABELLED:
            merger.labels(folder, table)
    progress("merging the truth")
    merger.truth(folder)
    if planted:
        files.write_parquet(folder / "truth" / "bad_rows.parquet", pa.concat_tables(planted))
    shutil.rmtree(folder / "islands")
    return len(islands)


def _replace(aside: Path, out: Path) -> None:
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
        os.rename(out, old / "twin")
        os.rename(aside, out)
        shutil.rmtree(old)
    else:
        os.rename(aside, out)


def write_world(
    folder: Path,
    images_in: Path,
    world: World,
    behaviour: Behaviour,
    options: Options,
    progress: Progress,
) -> None:
    """All tables, label lists and truth files of one world."""
    exposures = tables.make_exposures(world)
    row_number = np.empty(len(world.requests), dtype=np.int64)
    planted: list[pa.Table] = []

    def save(name: str, shard: int, shards: int, table: pa.Table, rows_before: int) -> None:
        if options.dirty and shard == shards - 1:
            table, bad = spoil(name, table, rows_before, world.seed)
            planted.append(bad)
        files.write_parquet(files.shard_path(folder, name, shard, shards), table)

    for table in TABLES:
        progress(f"writing {table}")
        rows = tables.row_order(world, table)
        row_number[rows] = np.arange(len(rows))
        save(table, 0, 1, tables.request_table(world, exposures, table, rows), 0)
        if table in files.LABELLED:
            labels = tables.labels(world, exposures, rows)
            files.write_labels(folder / files.LABELLED[table], labels)
    save("user_feat", 0, 1, catalogue.user_table(world), 0)
    edges = files.shard_edges(len(world.notes), files.NOTE_SHARDS)
    for shard, (first, last) in enumerate(pairwise(edges)):
        progress(f"writing notes {first:,} to {last:,}")
        save("notes", shard, files.NOTE_SHARDS, catalogue.note_table(world, first, last), first)
    progress("writing the truth")
    for name, table_ in truth.tables(world, exposures, behaviour, row_number):
        files.write_parquet(folder / "truth" / f"{name}.parquet", table_)
    if planted:
        files.write_parquet(folder / "truth" / "bad_rows.parquet", pa.concat_tables(planted))
    if options.images:
        progress("writing images")
        files.write_parquet(
            folder / "truth" / "images.parquet",
            images.write_images(images_in, world, options.looks),
        )
