"""What the covers of notes look like, made once for every content and stored. Knows no Dagster.

The snapshot holds a row per note with an image that can be read; beside it, for every different
content of these images,

- ``content_hash.npy`` str (U,), ascending;
- ``visual.npy`` float32 (U, D), what `models.visual` or the eyes of a checkpoint say of it.

The cover is the first image that can be read; of a video that is a key frame. Contents that an
earlier snapshot knows are not looked at again, and work that was killed goes on at its last shard.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.array_file import whole_file
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Written, write_rows
from qilin_dagster.note_lists import rows_of
from qilin_dagster.sources.images import ImageChangedError, read_image

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray
    from PIL import Image

    from models.visual import VisualInputs
    from models.vlm_input import Covers, ImageShape

CODE_VERSION = "1"
TABLE = "features.note_images"
READS = ("core.images", "core.notes")
COLOUR_LAYOUT = "colour layout"
IMAGES_PER_SHARD = 8_192

Report = Callable[[str], None]


@dataclass(frozen=True)
class NoteImages:
    """K notes with a cover, and what their covers look like.

    Attributes:
        data: the data folder.
        note_idx: int64 (K,).
        path, content_hash: of the cover, K texts.
        size: int64 (K, 2), height and width in pixels.
        image: int64 (K,), row of the cover in ``visual``.
        visual: float32 (U, D), memory-mapped.
        seen_by: what made them: a checkpoint, or the colour layout.
    """

    data: Path
    note_idx: "NDArray[np.int64]"
    path: Sequence[str]
    content_hash: Sequence[str]
    size: "NDArray[np.int64]"
    image: "NDArray[np.int64]"
    visual: "NDArray[np.float32]"
    seen_by: str

    def images_of(self, note_idx: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """The row in ``visual`` of each of these notes; -1 for a note without a cover."""
        return np.append(self.image, -1)[rows_of(self.note_idx, note_idx)]

    def inputs_of(
        self, note_idx: "NDArray[np.int64]", fit_notes: "NDArray[np.int64]"
    ) -> "tuple[NDArray[np.float32], VisualInputs | None]":
        """Inputs (N, K) of these notes, scaled on those of the fit fold; none where no note of the
        fit fold has a cover."""
        from models.visual import VisualInputs

        seen = np.unique(self.images_of(np.unique(fit_notes)))
        seen = seen[seen >= 0]
        if len(seen) == 0:
            return np.zeros((len(note_idx), 0), dtype=np.float32), None
        inputs = VisualInputs.fitted(self.visual[seen])
        return inputs(self.visual, self.images_of(note_idx)), inputs

    def covers_of(
        self, note_idx: "NDArray[np.int64]", shape: "ImageShape", max_tokens: int
    ) -> "Covers":
        """The covers of these notes for a Qwen-VL, opened when they are needed."""
        from models.vlm_input import Covers

        row = rows_of(self.note_idx, note_idx)
        size = np.vstack([self.size, [[0, 0]]])[row]
        return Covers(size, lambda which: self._read(int(row[which])), shape, max_tokens)

    def open(self, note_idx: int) -> "Image.Image | None":
        """The cover of a note, in RGB; None without one."""
        row = int(rows_of(self.note_idx, np.array([note_idx]))[0])
        return None if row == len(self.note_idx) else self._read(row)

    def shuffled(self, seed: int) -> "NoteImages":
        """Each note with the cover of another: the same images, and no bond to the note."""
        order = np.random.default_rng(seed).permutation(len(self.note_idx))
        return dataclasses.replace(
            self,
            path=[self.path[i] for i in order],
            content_hash=[self.content_hash[i] for i in order],
            size=self.size[order],
            image=self.image[order],
        )

    def _read(self, row: int) -> "Image.Image":
        return open_image(self.data, self.path[row], self.content_hash[row])


def open_image(data: Path, path: str, content_hash: str) -> "Image.Image":
    """An image of the data folder, in RGB; InputError when it is no longer the one verified."""
    try:
        return read_image(data, path, content_hash)
    except ImageChangedError as error:
        raise InputError(str(error)) from error


def build_note_images(
    connection: "duckdb.DuckDBPyConnection",
    data: Path,
    checkpoint: str | None,
    before: Path | None,
    folder: Path,
    unfinished: Path,
    device: str,
    report: Report,
) -> Written:
    """Look at the cover of every note that has one.

    Args:
        connection: knows core.images and core.notes.
        data: the data folder.
        checkpoint: a Qwen-VL whose eyes are used; None for the colour layout.
        before: snapshot folder of an earlier table of the same eyes, whose contents are not looked
            at again.
        folder: of the snapshot.
        unfinished: where shards are kept while the others are made.
        device: a torch device or "auto", for a checkpoint.
        report: told how many images are done.

    Raises:
        InputError: the checkpoint cannot be read, or a file has changed since core.images was made.
    """
    rows = connection.sql(
        "select n.note_key, i.note_idx, i.image_n, i.path, i.content_hash, i.width, i.height "
        "from core.images as i inner join core.notes as n on i.note_idx = n.note_idx "
        "where i.is_readable "
        "qualify row_number() over (partition by i.note_idx order by i.image_n) = 1 "
        "order by n.note_key, i.note_idx"
    ).pl()
    unique = rows.select("content_hash", "path", "width", "height").unique(
        "content_hash", keep="first", maintain_order=True
    )
    unique = unique.sort("content_hash")
    seen_by = checkpoint or COLOUR_LAYOUT
    look = _looker(data, checkpoint, device)
    known = _known(before)
    new = unique.filter(~unique["content_hash"].is_in(list(known)))
    shards = []
    for start in range(0, new.height, IMAGES_PER_SHARD):
        shard = unfinished / f"visual-{start:09}.npy"
        if not shard.exists():
            looks = look(new.slice(start, IMAGES_PER_SHARD).to_dicts())
            with whole_file(shard) as aside, aside.open("wb") as file:
                np.save(file, looks)
            report(f"{TABLE}: {min(start + IMAGES_PER_SHARD, new.height):,} images looked at")
        shards.append(np.load(shard, mmap_mode="r"))
    width = shards[0].shape[1] if shards else next((len(v) for v in known.values()), 0)
    visual = np.zeros((unique.height, width), dtype=np.float32)
    hashes = unique["content_hash"].to_numpy().astype(str)
    is_new = np.isin(hashes, new["content_hash"].to_numpy().astype(str))
    if shards:
        visual[is_new] = np.concatenate(shards)
    for row in np.flatnonzero(~is_new):
        visual[row] = known[str(hashes[row])]
    np.save(folder / "visual.npy", visual)
    np.save(folder / "content_hash.npy", hashes)
    table = rows.select("note_idx", "image_n", "path", "content_hash", "width", "height").to_arrow()
    facts = {
        "n_notes": rows.height,
        "n_images": unique.height,
        "n_reused": int((~is_new).sum()),
        "n_numbers": width,
        "seen_by": seen_by,
        "data": str(data),
    }
    return write_rows(table, folder, facts)


def read_note_images(folder: Path, facts: dict[str, Any]) -> NoteImages:
    """The table in a snapshot folder of features.note_images, and the facts of its manifest."""
    import polars as pl

    rows = pl.read_parquet(folder / "part-0.parquet")
    hashes = np.load(folder / "content_hash.npy")
    own = rows["content_hash"].to_numpy().astype(str)
    return NoteImages(
        data=Path(facts["data"]),
        note_idx=rows["note_idx"].to_numpy(),
        path=rows["path"].to_list(),
        content_hash=rows["content_hash"].to_list(),
        size=rows.select("height", "width").to_numpy().astype(np.int64).reshape(-1, 2),
        image=np.searchsorted(hashes, own) if len(own) else np.zeros(0, dtype=np.int64),
        visual=np.load(folder / "visual.npy", mmap_mode="r" if len(hashes) else None),
        seen_by=facts["seen_by"],
    )


def _looker(
    data: Path, checkpoint: str | None, device: str
) -> "Callable[[list[dict[str, Any]]], NDArray[np.float32]]":
    """From rows of core.images to what they look like, (rows, D)."""
    if checkpoint is None:
        from models.visual import colour_layout

        def layouts(rows: list[dict[str, Any]]) -> "NDArray[np.float32]":
            images = (open_image(data, row["path"], row["content_hash"]) for row in rows)
            return np.stack([colour_layout(image) for image in images])

        return layouts

    from models.vlm import Eyes

    eyes: Eyes | None = None

    def seen(rows: list[dict[str, Any]]) -> "NDArray[np.float32]":
        nonlocal eyes
        if eyes is None:
            try:
                eyes = Eyes.of_checkpoint(checkpoint, device)
            except (OSError, ValueError) as error:
                raise unreadable_checkpoint(checkpoint, error) from error
        size = np.array([[row["height"], row["width"]] for row in rows])
        return eyes.look(
            size, lambda row: open_image(data, rows[row]["path"], rows[row]["content_hash"])
        )

    return seen


def unreadable_checkpoint(checkpoint: str, error: Exception) -> InputError:
    return InputError(
        f"QILIN_VLM_CHECKPOINT={checkpoint!r} cannot be read: {error}. Name a folder with "
        "config.json, tokenizer.json, preprocessor_config.json and safetensors of a Qwen-VL, or a "
        "model of the hub that `hf download` has put on this machine"
    )


def _known(before: Path | None) -> "dict[str, NDArray[np.float32]]":
    """What an earlier snapshot holds, by content."""
    if before is None:
        return {}
    hashes = np.load(before / "content_hash.npy")
    visual = np.load(before / "visual.npy")
    return dict(zip(hashes.tolist(), visual, strict=True))
