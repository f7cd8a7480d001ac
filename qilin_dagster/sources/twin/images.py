"""Small JPEG files whose colours carry what the text of a note does not say.

A file is a mosaic of 4 x 4 tiles, each one colour. The hue of the mosaic belongs to the domain, so
text predicts it; brightness and warmth rise with the latent look of the note, which no text shows.
With looks switched off they rise with the look of another note: the same pixels, and no signal.
The encoder writes baseline JPEG with constant blocks only, which needs no imaging library and gives
the same bytes everywhere.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from qilin_dagster.sources.twin import catalogue
from qilin_dagster.sources.twin.draws import Floats, Ints, picked, stream, within
from qilin_dagster.sources.twin.tables import World
from qilin_dagster.sources.twin.world import SUBJECT_DOMAIN

TILES: Final = 4  # per side; a tile is one 8 x 8 block of pixels
BROKEN: Final = 0.001  # share of files that are corrupt or missing, half each
LOOK_BRIGHTNESS: Final = 14.0  # grey levels per standard deviation of the look
LOOK_WARMTH: Final = 10.0
TILE_NOISE: Final = 16.0
CHUNK: Final = 200_000
STATES: Final = ("whole", "corrupt", "missing")


def write_images(folder: Path, world: World, looks: bool = True) -> pa.Table:
    """Write all image files under ``folder``; returns their paths and states for the truth.

    Without ``looks`` each image shows the look of a note drawn at random.
    """
    rng = stream(world.seed, "images")
    latent = world.numbering.latent
    shown_look = world.notes.look
    if not looks:
        shown_look = stream(world.seed, "other looks").permutation(shown_look)
    n_images = world.notes.n_images(latent)
    names = catalogue.image_folder(world.notes, latent)
    owner = np.repeat(np.arange(len(latent)), n_images)
    nth = within(n_images)
    state = np.searchsorted([1 - BROKEN, 1 - BROKEN / 2], rng.random(len(owner)), side="right")
    made: set[int] = set()
    paths = []
    for begin in range(0, len(owner), CHUNK):
        rows = slice(begin, begin + CHUNK)
        tiles = _tiles(world, shown_look, latent[owner[rows]], nth[rows], rng)
        for row, tile, which in zip(range(begin, len(owner)), tiles, state[rows], strict=False):
            note = int(names[owner[row]])
            path = f"image/part_{note // 10_000}/{note}/{note * 20 + int(nth[row])}.jpg"
            paths.append(path)
            if STATES[which] == "missing":
                continue
            if note not in made:
                (folder / path).parent.mkdir(parents=True)
                made.add(note)
            data = encode(tile)
            # A corrupt file ends in the middle of its header, as a broken download does.
            (folder / path).write_bytes(data[:97] if STATES[which] == "corrupt" else data)
    return pa.table(
        {
            "note_idx": pa.array(owner),
            "path": pa.array(paths, pa.string()),
            "state": pa.array(STATES).take(pa.array(state)),
        }
    )


def _tiles(
    world: World, shown_look: Floats, latent: Ints, nth: Ints, rng: np.random.Generator
) -> Ints:
    """Luma and both chroma values of each tile, -127 to 127: (images, tiles, 3)."""
    notes = world.notes
    hue = SUBJECT_DOMAIN[notes.subject[latent]] * (2 * np.pi / 41)
    pattern = picked(latent, 101, 1 << 20) / (1 << 20) * 2 * np.pi
    # Later images of a note show less of its look than the cover.
    look = shown_look[latent] * np.where(nth == 0, 1.0, 0.5)
    base: Floats = np.stack(
        [
            LOOK_BRIGHTNESS * look,
            30 * np.cos(hue) - LOOK_WARMTH * look,
            30 * np.sin(hue) + LOOK_WARMTH * look,
        ],
        axis=1,
    )
    place = np.arange(TILES * TILES)
    stripes = 18 * np.sin(pattern[:, None] + place[None, :] * 1.3)
    tiles = base[:, None, :] + rng.normal(0, TILE_NOISE, (len(latent), TILES * TILES, 3))
    tiles[:, :, 0] += stripes
    return np.clip(np.rint(tiles), -127, 127).astype(np.int64)


# Standard luma table of DC sizes: bit lengths, and the code of each size.
_DC_BITS: Final = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
_DC_CODES: Final = (
    *((0b00, 2), (0b010, 3), (0b011, 3), (0b100, 3), (0b101, 3), (0b110, 3)),
    *((0b1110, 4), (0b11110, 5), (0b111110, 6), (0b1111110, 7), (0b11111110, 8), (0b111111110, 9)),
)
# The AC table holds one code, "end of block", of one bit.
_AC_BITS: Final = bytes([1, *[0] * 15])


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _header() -> bytes:
    side = (TILES * 8).to_bytes(2, "big")
    components = bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    scan = bytes([1, 0x00, 2, 0x00, 3, 0x00])
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
            _segment(0xDB, b"\x00" + bytes([8] * 64)),
            _segment(0xC0, b"\x08" + side + side + b"\x03" + components),
            _segment(0xC4, b"\x00" + _DC_BITS + bytes(range(12))),
            _segment(0xC4, b"\x10" + _AC_BITS + b"\x00"),
            _segment(0xDA, b"\x03" + scan + b"\x00\x3f\x00"),
        ]
    )


_HEADER: Final = _header()


def encode(tiles: Ints) -> bytes:
    """A baseline JPEG of constant 8 x 8 blocks; ``tiles`` is (blocks, 3), luma and chroma."""
    steps = np.diff(tiles, axis=0, prepend=0).ravel().tolist()
    bits, length = 0, 0
    for step in steps:
        size = abs(step).bit_length()
        code, width = _DC_CODES[size]
        value = step if step > 0 else step + (1 << size) - 1
        bits = (((bits << width) | code) << size | value) << 1  # and one bit "end of block"
        length += width + size + 1
    fill = -length % 8
    bits = (bits << fill) | ((1 << fill) - 1)
    data = bits.to_bytes((length + fill) // 8, "big").replace(b"\xff", b"\xff\x00")
    return _HEADER + data + b"\xff\xd9"
