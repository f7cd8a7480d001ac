"""Image files as the data names them: whole ones are measured, all others refused with a reason."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from qilin_dagster.sources import images
from qilin_dagster.sources.images import (
    ImageChangedError,
    ImageFacts,
    hash_of,
    read_image,
    verify_images,
)
from qilin_dagster.sources.twin import write_twin


def look(folder: Path, path: str | None) -> ImageFacts:
    (facts,) = verify_images(folder, [(7, 1, path)])
    return facts


def png(width: int, height: int) -> bytes:
    """The head of a PNG that claims a size, with hardly any data behind it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "a").mkdir(parents=True)
    for name in ("whole.jpg", "whole.png", "whole.webp"):
        Image.effect_noise((40, 30), 60).save(tmp_path / "images" / "a" / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    return tmp_path / "images"


@pytest.mark.parametrize("name", ["whole.jpg", "whole.png", "whole.webp"])
def test_a_whole_image_is_measured(folder: Path, name: str) -> None:
    data = (folder / "a" / name).read_bytes()
    assert look(folder, f"a/{name}") == ImageFacts(
        7, 1, f"a/{name}", 40, 30, len(data), hash_of(data), True, None
    )


def test_a_readable_image_is_opened_later_and_another_in_its_place_is_not(folder: Path) -> None:
    facts = look(folder, "a/whole.png")
    assert facts.content_hash is not None
    image = read_image(folder, facts.path, facts.content_hash)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    Image.new("RGB", (40, 30)).save(folder / "a" / "whole.png")
    with pytest.raises(ImageChangedError, match=r"a/whole\.png holds another image"):
        read_image(folder, facts.path, facts.content_hash)
    (folder / "a" / "whole.png").unlink()
    with pytest.raises(ImageChangedError, match="image is missing; build it again"):
        read_image(folder, facts.path, facts.content_hash)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.jpg", "image path leaves the folder"),
        ("a/../../secret.jpg", "image path leaves the folder"),
        ("a\\..\\..\\secret.jpg", "image path leaves the folder"),
        ("/etc/hosts", "absolute image path"),
        ("C:\\secret.jpg", "absolute image path"),
        ("file:///etc/hosts", "absolute image path"),
        (".", "image is not a file"),
        ("", "empty image path"),
        (None, "empty image path"),
        ("a/\0.jpg", "image path is not a file name"),
        ("a/gone.jpg", "image is missing"),
        ("a", "image is not a file"),
        ("a/whole.jpg/b.jpg", "image cannot be opened: Not a directory"),
        ("a/" + "x" * 300 + ".jpg", "image cannot be opened: File name too long"),
    ],
)
def test_a_path_is_followed_only_to_a_file_of_the_folder(
    folder: Path, path: str | None, reason: str
) -> None:
    facts = look(folder, path)
    assert (facts.is_readable, facts.reason, facts.width, facts.n_bytes) == (
        False, reason, None, None,
    )  # fmt: skip


def test_a_link_is_followed_only_inside_the_folder(folder: Path) -> None:
    (folder / "in.jpg").symlink_to(folder / "a" / "whole.jpg")
    (folder / "out.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "up").symlink_to(folder.parent)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    assert look(folder, "in.jpg").is_readable
    for path in ("out.jpg", "up/secret.jpg"):
        assert look(folder, path).reason == "image path leaves the folder by a link"
    assert not look(folder, "loop.jpg").is_readable


def test_a_pipe_keeps_nobody_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert look(folder, "pipe.jpg").reason == "image is not a file"


def test_the_image_folder_itself_may_be_a_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert look(folder.parent / "link", "a/whole.jpg").is_readable


CORRUPT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda whole: b"", "image is empty"),
    "text": (lambda whole: b"not found", "file is not an image: cannot identify image file"),
    "a half": (lambda whole: whole[: len(whole) // 2], "image is corrupt: image file is truncated"),
    "half a header": (lambda whole: whole[:30], "file is not an image"),
    "zeros": (lambda whole: b"\0" * len(whole), "file is not an image"),
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_corrupt_image_is_refused(folder: Path, kind: str) -> None:
    spoil, reason = CORRUPT[kind]
    path = folder / "a" / "whole.jpg"
    path.write_bytes(spoil(path.read_bytes()))
    facts = look(folder, "a/whole.jpg")
    assert not facts.is_readable
    assert facts.reason is not None
    assert facts.reason.startswith(reason)
    assert "0x" not in facts.reason
    assert facts.n_bytes == path.stat().st_size


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_a_bomb_is_not_unpacked(folder: Path, side: int) -> None:
    """It claims more pixels than a machine may have memory for, in a hundred bytes."""
    (folder / "bomb.png").write_bytes(png(side, side))
    facts = look(folder, "bomb.png")
    assert (facts.is_readable, facts.reason) == (False, "image has too many pixels")


def test_a_huge_file_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    monkeypatch.setattr(images.Image, "open", None)
    facts = look(folder, "huge.jpg")
    assert (facts.reason, facts.n_bytes) == ("image has too many bytes", images.MAX_BYTES + 1)


def test_other_formats_never_reach_their_decoder(folder: Path) -> None:
    Image.new("P", (4, 4)).save(folder / "a.gif")
    (folder / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for path in ("a.gif", "a.eps"):
        reason = look(folder, path).reason
        assert reason is not None
        assert reason.startswith("file is not an image")


def test_threads_keep_the_order(folder: Path) -> None:
    paths = [(n, 1, "a/gone.jpg" if n % 3 else "a/whole.png") for n in range(40)]
    alone = list(verify_images(folder, paths))
    assert [facts.note_idx for facts in alone] == list(range(40))
    assert list(verify_images(folder, paths, n_threads=3)) == alone


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"image folder .* does not exist"):
        next(verify_images(tmp_path / "nowhere", [(1, 1, "a.jpg")]))


def test_the_files_of_the_twin_are_as_its_truth_says(tmp_path: Path) -> None:
    write_twin(tmp_path / "twin", scale=0.001, seed=5, images=True, progress=lambda line: None)
    truth = pq.read_table(tmp_path / "twin" / "truth" / "images.parquet").to_pylist()
    found = list(
        verify_images(tmp_path / "twin", [(row["note_idx"], 1, row["path"]) for row in truth])
    )
    said = {"missing": "image is missing", "corrupt": "file is not an image"}
    assert {row["state"] for row in truth} > {"whole"}
    for row, facts in zip(truth, found, strict=True):
        assert facts.is_readable == (row["state"] == "whole"), row
        if not facts.is_readable:
            assert facts.reason is not None
            assert facts.reason.startswith(said[row["state"]])
        else:
            assert (facts.width, facts.height) == (32, 32)
