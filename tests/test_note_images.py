"""What covers look like: made once a content, given to rankers as inputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.visual import LAYOUT_SIZE, VisualInputs, colour_layout
from qilin_dagster import note_images
from qilin_dagster.errors import InputError
from qilin_dagster.image_facts import build_images, fingerprints
from qilin_dagster.note_images import NoteImages, build_note_images, read_note_images
from tests import published_log
from tests.conftest import build_views


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Notes 0 and 1 with the same cover, 2 with a broken first image, 3 with none to read."""
    tables = published_log.tables()
    names = {n: [f"image/part_0/{n}/{k}.png" for k in range(2)] for n in range(4)}
    for note in tables["notes"]:
        note["image_path"] = names.get(note["note_idx"], [])
    data = published_log.write(tmp_path / "data", tables)
    for note, grey in ((0, 40), (1, 40), (2, 200)):
        for number, path in enumerate(names[note]):
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10), (grey + number, grey, grey)).save(data / path)
    (data / names[2][0]).write_bytes(b"broken")
    return data


@pytest.fixture
def connection(data: Path, tmp_path: Path):
    connection = build_views(data, tmp_path / "lake").connect()
    folder = tmp_path / "images"
    folder.mkdir()
    build_images(connection, data, fingerprints(data), None, folder, tmp_path / "left", 1)
    connection.execute(f"create view core.images as from read_parquet('{folder}/part-0.parquet')")
    return connection


def built(connection, data: Path, folder: Path, before: Path | None = None) -> NoteImages:
    folder.mkdir()
    written = build_note_images(
        connection, data, None, before, folder, folder.with_suffix(".left"), "cpu", print
    )
    return read_note_images(folder, written.facts)


def test_a_cover_is_the_first_image_that_can_be_read(connection, data: Path, tmp_path: Path):
    images = built(connection, data, tmp_path / "one")
    note_of_path = dict(zip(images.path, images.note_idx.tolist(), strict=True))
    assert note_of_path == {
        "image/part_0/0/0.png": 0,
        "image/part_0/1/0.png": 1,
        "image/part_0/2/1.png": 2,
    }
    # The same content is looked at once.
    assert images.visual.shape == (2, LAYOUT_SIZE)
    rows = images.images_of(np.array([0, 1, 2, 3, 77]))
    assert rows[0] == rows[1] != rows[2]
    assert rows[3:].tolist() == [-1, -1]
    assert images.visual[rows[0]].tolist() == colour_layout(images.open(0)).tolist()
    assert images.open(3) is None


def test_what_is_known_is_not_looked_at_again(
    connection, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = built(connection, data, tmp_path / "one")
    monkeypatch.setattr(note_images, "open_image", None)
    again = built(connection, data, tmp_path / "two", tmp_path / "one")
    for name in ("visual.npy", "content_hash.npy", "part-0.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert again.visual.tolist() == first.visual.tolist()


def test_a_killed_look_goes_on_at_its_shard(
    connection, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = built(connection, data, tmp_path / "whole")
    monkeypatch.setattr(note_images, "IMAGES_PER_SHARD", 1)
    opened: list[str] = []
    open_image = note_images.open_image

    def killed(folder: Path, path: str, content_hash: str) -> Image.Image:
        opened.append(path)
        if len(opened) == 2:
            raise KeyboardInterrupt
        return open_image(folder, path, content_hash)

    monkeypatch.setattr(note_images, "open_image", killed)
    with pytest.raises(KeyboardInterrupt):
        built(connection, data, tmp_path / "one")
    (tmp_path / "one").rmdir()
    resumed = built(connection, data, tmp_path / "one")
    assert len(opened) == 3, "the first is not opened again"
    assert resumed.visual.tolist() == whole.visual.tolist()


def test_a_file_that_changed_in_between_is_an_error_that_says_what_to_do(
    connection, data: Path, tmp_path: Path
):
    Image.new("RGB", (20, 10)).save(data / "image/part_0/2/1.png")
    with pytest.raises(InputError, match=r"2/1\.png holds another image .* build it again"):
        built(connection, data, tmp_path / "one")


def test_inputs_are_scaled_on_the_fit_fold_and_absent_covers_are_zero(
    connection, data: Path, tmp_path: Path
):
    images = built(connection, data, tmp_path / "one")
    inputs, scaling = images.inputs_of(np.array([0, 3, 2]), np.array([0, 2]))
    assert scaling is not None
    assert inputs.shape == (3, scaling.n_inputs)
    assert inputs[1].tolist() == [0] * scaling.n_inputs
    assert inputs[[0, 2], -1].tolist() == [1, 1]
    assert np.abs(inputs[0, :-1] + inputs[2, :-1]).max() < 1e-3, "on either side of their mean"
    nothing, none = images.inputs_of(np.array([0, 3]), np.array([3]))
    assert nothing.shape == (2, 0)
    assert none is None


def test_shuffled_covers_are_the_same_images_at_other_notes(connection, data: Path, tmp_path: Path):
    images = built(connection, data, tmp_path / "one")
    many = replace(
        images,
        note_idx=np.arange(100),
        path=[str(n) for n in range(100)],
        content_hash=[str(n) for n in range(100)],
        size=np.column_stack([np.arange(100), np.arange(100)]),
        image=np.arange(100),
    )
    other = many.shuffled(7)
    assert sorted(other.path) == sorted(many.path)
    assert other.path == [str(n) for n in other.image.tolist()], "path and looks stay together"
    assert (other.image == np.arange(100)).mean() < 0.1
    assert (
        other.image.tolist() == many.shuffled(7).image.tolist() != many.shuffled(8).image.tolist()
    )


class TestVisual:
    """The numbers themselves."""

    def test_brightness_and_shape_are_among_them(self) -> None:
        dark, bright = (colour_layout(Image.new("RGB", (8, 4), (v, v, v))) for v in (30, 200))
        assert bright[0] - dark[0] == pytest.approx(170 / 255, abs=0.01)
        assert dark[-1] == pytest.approx(np.log(2))
        assert dark.shape == (LAYOUT_SIZE,)

    def test_inputs_have_unit_size_and_no_direction_without_spread(self) -> None:
        draw = np.random.default_rng(0)
        visual = draw.normal(size=(500, 3)) * [1, 50, 0] + 7
        visual = np.column_stack([visual, visual[:, 0]])
        inputs = VisualInputs.fitted(visual)(visual, np.arange(500))
        assert inputs.shape == (500, 3)
        assert inputs[:, :2].std(axis=0) == pytest.approx([1, 1], abs=0.01)

    def test_one_image_is_enough(self) -> None:
        inputs = VisualInputs.fitted(np.ones((1, 4)))(np.ones((1, 4)), np.array([0, -1]))
        assert inputs.tolist() == [[1.0], [0.0]]
