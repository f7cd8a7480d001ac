"""Looks at the image files that the notes name: are they there, inside their folder, and images?

A path in the data is a wish, not an address: it is followed only inside the image folder, never
through a link that leaves it, and a file is decoded only after its size in bytes and in pixels was
found harmless. Nothing is written.

What was found is stored once (`core.images`); later `read_image` opens a file by what was found.
"""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    ``content_hash`` are the first 32 hex digits of the SHA-256 of its bytes.
    """

    note_idx: int
    image_n: int
    path: str
    width: int | None
    height: int | None
    n_bytes: int | None
    content_hash: str | None
    is_readable: bool
    reason: str | None


class ImageChangedError(Exception):
    """A file is no longer what was stored of it; the message names it and says what to do."""


class _Refused(Exception):
    """A file that must not or cannot be decoded, with what was learned before."""

    def __init__(
        self,
        reason: str,
        n_bytes: int | None = None,
        size: tuple[int, int] | None = None,
        content_hash: str | None = None,
    ):
        super().__init__(reason)
        self.reason = reason
        self.n_bytes = n_bytes
        self.content_hash = content_hash
        self.width = size[0] if size is not None else None
        self.height = size[1] if size is not None else None


def verify_images(
    folder: Path, paths: Iterable[tuple[int, int, str | None]], n_threads: int = 1
) -> Iterator[ImageFacts]:
    """Facts of every (note_idx, image_n, path), in their order; paths are relative to ``folder``.

    Decodes each file once and keeps none. Raises NotADirectoryError when there is no such folder.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise NotADirectoryError(f"image folder {folder} does not exist or is no folder")
    if n_threads == 1:
        yield from (_facts(root, *path) for path in paths)
        return
    # Decoding leaves the interpreter to others.
    with ThreadPoolExecutor(n_threads) as threads:
        yield from threads.map(lambda path: _facts(root, *path), paths)


def read_image(folder: Path, path: str, content_hash: str) -> Image.Image:
    """The image of a path found readable before, decoded, in RGB.

    Raises ImageChangedError when its bytes are not those of ``content_hash``, or are gone.
    """
    try:
        data, image = _decode(_locate(folder.resolve(), path))
    except _Refused as refused:
        raise ImageChangedError(
            f"{path} was readable when core.images was built: {refused.reason}; build it again"
        ) from None
    if hash_of(data) != content_hash:
        raise ImageChangedError(
            f"{path} holds another image than when core.images was built; build it again"
        )
    return image.convert("RGB")


def hash_of(data: bytes) -> str:
    """What names the content of a file: the first 32 hex digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def _facts(root: Path, note_idx: int, image_n: int, path: str | None) -> ImageFacts:
    name = path or ""
    try:
        data, image = _decode(_locate(root, path))
    except _Refused as no:
        size = (no.width, no.height)
        return ImageFacts(
            note_idx, image_n, name, *size, no.n_bytes, no.content_hash, False, no.reason
        )
    return ImageFacts(note_idx, image_n, name, *image.size, len(data), hash_of(data), True, None)


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


def _decode(path: Path) -> tuple[bytes, Image.Image]:
    """The bytes of a file and its image, which was decoded to its last row."""
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
        try:
            data = file.read(MAX_BYTES)
        except OSError as error:
            raise _Refused(f"image cannot be read: {error.strerror}", n_bytes) from None
    return data, _image(data)


def _image(data: bytes) -> Image.Image:
    n_bytes = len(data)
    size: tuple[int, int] | None = None
    try:
        with warnings.catch_warnings():
            # Our own limit is asked below, before any pixel is made.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            size = image.size
            if size[0] * size[1] > MAX_PIXELS:
                raise _Refused("image has too many pixels", n_bytes, size, hash_of(data))
            image.load()
    except Image.DecompressionBombError:
        raise _Refused("image has too many pixels", n_bytes, None, hash_of(data)) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # What Pillow raises for bytes it cannot make an image of.
        reason = "image is corrupt" if size is not None else "file is not an image"
        raise _Refused(f"{reason}: {_first_line(error)}", n_bytes, size, hash_of(data)) from None
    return image


def _first_line(error: Exception) -> str:
    """Without the address in memory that Pillow likes to add."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(" <_io")[0]
