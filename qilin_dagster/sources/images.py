"""Looks at the image files that the notes name: are they there, inside their folder, and images?

A path in the data is a wish, not an address: it is followed only inside the image folder, never
through a link that leaves it, and a file is decoded only after its size in bytes and in pixels was
found harmless. Nothing is written.
"""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

# The largest image known of the release has some 40 million pixels.
MAX_PIXELS = 64_000_000
MAX_BYTES = 32_000_000
# The formats of the release and of the twin; others are refused before their decoder is touched.
FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class ImageFacts:
    """One path of one note; ``image_n`` counts from 1, ``width`` and ``height`` are pixels.

    Facts that could not be learned are None; ``reason`` says why a file is not readable.
    """

    note_idx: int
    image_n: int
    path: str
    width: int | None
    height: int | None
    n_bytes: int | None
    is_readable: bool
    reason: str | None


class _Refused(Exception):
    """A file that must not or cannot be decoded, with what was learned before."""

    def __init__(
        self, reason: str, n_bytes: int | None = None, size: tuple[int, int] | None = None
    ):
        super().__init__(reason)
        self.reason = reason
        self.n_bytes = n_bytes
        self.width = size[0] if size is not None else None
        self.height = size[1] if size is not None else None


def verify_images(
    folder: Path, notes: Iterable[tuple[int, Iterable[str | None] | None]]
) -> Iterator[ImageFacts]:
    """Facts of every path of ``notes``, pairs of a note and its paths relative to ``folder``.

    Decodes each file once and keeps none. Raises NotADirectoryError when there is no such folder.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise NotADirectoryError(f"image folder {folder} does not exist or is no folder")
    for note_idx, paths in notes:
        for image_n, path in enumerate(paths or (), start=1):
            yield _facts(root, note_idx, image_n, path)


def _facts(root: Path, note_idx: int, image_n: int, path: str | None) -> ImageFacts:
    try:
        width, height, n_bytes = _decode(_locate(root, path))
    except _Refused as refused:
        return ImageFacts(
            note_idx,
            image_n,
            path or "",
            refused.width,
            refused.height,
            refused.n_bytes,
            False,
            refused.reason,
        )
    return ImageFacts(note_idx, image_n, path or "", width, height, n_bytes, True, None)


def _locate(root: Path, path: str | None) -> Path:
    """The file a path means, certainly inside ``root``."""
    if not path:
        raise _Refused("empty image path")
    plain = PurePosixPath(path.replace("\\", "/"))
    if "\0" in path:
        raise _Refused("image path is not a file name")
    if plain.is_absolute() or ":" in "".join(plain.parts[:1]):
        raise _Refused("absolute image path")
    if ".." in plain.parts:
        raise _Refused("image path leaves the folder")
    target = Path(os.path.realpath(root / plain))
    if not target.is_relative_to(root):
        raise _Refused("image path leaves the folder by a link")
    return target


def _decode(path: Path) -> tuple[int, int, int]:
    """Width, height and bytes of an image that was decoded to its last row."""
    try:
        # Not following a link put there meanwhile, not waiting for a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _Refused("image is missing") from None
    except OSError as error:
        raise _Refused(f"image cannot be opened: {error.strerror}") from None
    status = os.fstat(descriptor)
    n_bytes = status.st_size
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _Refused("image is not a file")
    with os.fdopen(descriptor, "rb") as file:
        if n_bytes == 0:
            raise _Refused("image is empty", 0)
        if n_bytes > MAX_BYTES:
            raise _Refused("image has too many bytes", n_bytes)
        size: tuple[int, int] | None = None
        try:
            with warnings.catch_warnings():
                # Our own limit is asked below, before any pixel is made.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(file, formats=FORMATS) as image:
                    size = image.size
                    if size[0] * size[1] > MAX_PIXELS:
                        raise _Refused("image has too many pixels", n_bytes, size)
                    image.load()
        except Image.DecompressionBombError:
            raise _Refused("image has too many pixels", n_bytes) from None
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            # What Pillow raises for bytes it cannot make an image of.
            reason = "image is corrupt" if size is not None else "file is not an image"
            raise _Refused(f"{reason}: {_first_line(error)}", n_bytes, size) from None
    return size[0], size[1], n_bytes


def _first_line(error: Exception) -> str:
    """Without the address in memory that Pillow likes to add."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(" <_io")[0]
