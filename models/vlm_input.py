"""What a Qwen-VL reads: prompts put together from numbers, and covers cut into patches.

Covers are opened when they are first needed and scaled by their own proportions to a budget of
tokens; a note without one costs none. One way for training and scoring.

Shapes: B = pairs of a batch, R = its requests, L = tokens of the longest, C = notes, P = patches of
a batch's images.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from models.tokens import TokenLists

IntArray = NDArray[np.int64]
# Patches that are kept from one epoch to the next.
KEPT_BYTES = 2_000_000_000
# Beyond it the model's own rule refuses to scale.
LONGEST_SIDE = 200


@dataclass(frozen=True)
class Prompt:
    """The tokens around the texts, int64 arrays, and those that stand for an image.

    A pair is head, query, middle, the cover between its two marks, note, tail.
    """

    head: IntArray
    middle: IntArray
    tail: IntArray
    image_start: int
    image: int
    image_end: int
    pad: int

    @property
    def n_around(self) -> int:
        """Tokens of a pair besides query, cover and note."""
        return len(self.head) + len(self.middle) + len(self.tail)


@dataclass(frozen=True)
class PlacedTokens:
    """S padded sequences of at most L tokens, all int64.

    Attributes:
        token_id: (S, L), padded behind.
        is_token: (S, L), 1 for a token, 0 for padding.
        position: (3, S, L), in time, height and width: the same three for words, and for a token of
            the cover its row and column.
    """

    token_id: IntArray
    is_token: IntArray
    position: IntArray


@dataclass(frozen=True)
class Pairs:
    """B pairs of R requests, each request's beginning read once.

    Attributes:
        shared: R sequences, what all candidates of a request begin with: instruction and query.
        own: B sequences, what follows it: cover, note and end.
        request: int64 (B,), each pair's row of ``shared``.
        is_match: int64 like ``own``, 1 for a token of the note that stands in the query, too.
        last: int64 (B,), place of the last token in ``own``.
    """

    shared: PlacedTokens
    own: PlacedTokens
    request: IntArray
    is_match: IntArray
    last: IntArray


def put_together(
    prompt: Prompt,
    queries: TokenLists,
    query_rows: IntArray,
    notes: TokenLists,
    note_rows: IntArray,
    image_grid: IntArray,
    n_max: tuple[int, int],
) -> Pairs:
    """The pairs of these rows.

    Args:
        image_grid: int64 (B, 2), rows and columns of tokens of the cover; 0 where there is none.
        n_max: tokens of query and note at most. A longer text loses its end; nothing else is cut.
    """
    requests, request = np.unique(query_rows, return_inverse=True)
    query = [
        _first(queries, row, n)
        for row, n in zip(requests, queries.lengths(requests, n_max[0]), strict=True)
    ]
    shared, _ = _padded(
        [np.concatenate([prompt.head, words, prompt.middle]) for words in query], prompt.pad
    )
    n_shared = shared.is_token.sum(axis=1)
    n_note = notes.lengths(note_rows, n_max[1])
    note = [_first(notes, row, n) for row, n in zip(note_rows, n_note, strict=True)]
    n_image = image_grid.prod(axis=1)
    own, length = _padded(
        [
            np.concatenate([*_marked(prompt, n), words, prompt.tail])
            for n, words in zip(n_image.tolist(), note, strict=True)
        ],
        prompt.pad,
    )
    own.position[:] += n_shared[request][:, None]
    is_match = np.zeros_like(own.token_id)
    for b, words in enumerate(note):
        before = 0
        if n := int(n_image[b]):
            rows, columns = image_grid[b].tolist()
            start = 1 + int(n_shared[request[b]])
            own.position[0, b, 1 : 1 + n] = start
            own.position[1, b, 1 : 1 + n] = start + np.arange(n) // columns
            own.position[2, b, 1 : 1 + n] = start + np.arange(n) % columns
            # Words go on behind the longer side of the cover.
            own.position[:, b, 1 + n : length[b]] -= n - max(rows, columns)
            before = n + 2
        is_match[b, before : before + len(words)] = np.isin(words, query[request[b]])
    return Pairs(shared, own, request, is_match, length - 1)


def _marked(prompt: Prompt, n_tokens: int) -> list[IntArray]:
    """A cover of so many tokens between its marks; nothing for none."""
    if n_tokens == 0:
        return []
    marks = [prompt.image_start, *[prompt.image] * n_tokens, prompt.image_end]
    return [np.array(marks, dtype=np.int64)]


def _padded(sequences: list[IntArray], pad: int) -> tuple[PlacedTokens, IntArray]:
    """The sequences, their positions counted from 0, and their lengths (S,)."""
    length = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    place = np.arange(length.max(initial=0))
    is_token = place[None, :] < length[:, None]
    token_id = np.full(is_token.shape, pad, dtype=np.int64)
    token_id[is_token] = np.concatenate(sequences)
    position = np.where(is_token, place, 0)
    return PlacedTokens(token_id, is_token.astype(np.int64), np.stack([position] * 3)), length


def _first(lists: TokenLists, row: int, n: int) -> IntArray:
    start = lists.offsets[row]
    return np.asarray(lists.token_id[start : start + n], dtype=np.int64)


@dataclass(frozen=True)
class ImageShape:
    """How a Qwen-VL takes images: sizes in pixels, mean and deviation of the three colours."""

    patch: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, processor: Qwen2VLImageProcessorPil) -> "ImageShape":
        return cls(
            patch=processor.patch_size,
            merge=processor.merge_size,
            frames=processor.temporal_patch_size,
            mean=tuple(processor.image_mean),
            deviation=tuple(processor.image_std),
        )

    @property
    def token_side(self) -> int:
        """Pixels of the square that becomes a token."""
        return self.patch * self.merge


def image_processor(checkpoint: str | None, max_image_tokens: int) -> Qwen2VLImageProcessorPil:
    """The processor of the checkpoint, or of a new model, with this budget; without torchvision."""
    if checkpoint is None:
        processor = Qwen2VLImageProcessorPil()
    else:
        processor = Qwen2VLImageProcessorPil.from_pretrained(checkpoint, local_files_only=True)
    pixels_of_token = (processor.patch_size * processor.merge_size) ** 2
    processor.size = {
        "shortest_edge": pixels_of_token,
        "longest_edge": max_image_tokens * pixels_of_token,
    }
    return processor


class Covers:
    """The covers of C notes as patches."""

    def __init__(
        self,
        size: IntArray,
        read: Callable[[int], Image.Image],
        shape: ImageShape,
        max_tokens: int,
    ) -> None:
        """Nothing is opened here.

        Args:
            size: int64 (C, 2), height and width in pixels; 0 for a note without a cover.
            read: the cover of a row, in RGB.
            shape: of the model that is to see them.
            max_tokens: of a cover.
        """
        self.shape = shape
        self._read = read
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._n_bytes = 0
        sizes, which = np.unique(size, axis=0, return_inverse=True)
        scaled = np.array([_scaled(shape, max_tokens, *pair) for pair in sizes.tolist()])
        # Height and width in patches, (C, 2).
        self.grid: IntArray = scaled.reshape(-1, 2)[which.ravel()] // shape.patch

    def token_grid(self, rows: IntArray) -> IntArray:
        """Rows and columns of tokens of the covers of these notes, (B, 2); 0 without one."""
        grid: IntArray = self.grid[rows] // self.shape.merge
        return grid

    def patches(self, rows: IntArray) -> tuple[NDArray[np.uint8], IntArray]:
        """Patches (P, 3 * frames * patch * patch) of the covers of these notes, all of which have
        one, and each one's grid (B, 3) of one time, height and width."""
        grid = np.column_stack([np.ones(len(rows), dtype=np.int64), self.grid[rows]])
        return np.concatenate([self._patches(row) for row in rows.tolist()]), grid

    def normalised(self, patches: Tensor) -> Tensor:
        """Patches as the vision tower takes them, float32."""
        per_colour = patches.shape[1] // 3
        mean, deviation = (
            torch.tensor(values, device=patches.device).repeat_interleave(per_colour)
            for values in (self.shape.mean, self.shape.deviation)
        )
        return (patches.float() / 255 - mean) / deviation

    def _patches(self, row: int) -> NDArray[np.uint8]:
        if (kept := self._kept.get(row)) is not None:
            return kept
        height, width = (self.grid[row] * self.shape.patch).tolist()
        image = self._read(row).resize((width, height), Image.Resampling.BICUBIC)
        cut = cut_into_patches(np.asarray(image, dtype=np.uint8), self.shape)
        self._kept[row] = cut
        self._n_bytes += cut.nbytes
        while self._n_bytes > KEPT_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._n_bytes -= dropped.nbytes
        return cut


def cut_into_patches(image: NDArray[np.uint8], shape: ImageShape) -> NDArray[np.uint8]:
    """(height, width, 3) to (patches, 3 * frames * patch * patch), in the order of Qwen-VL: the
    patches of a token stand together."""
    m, p = shape.merge, shape.patch
    height, width, _ = image.shape
    blocks = image.reshape(height // (m * p), m, p, width // (m * p), m, p, 3)
    blocks = blocks.transpose(0, 3, 1, 4, 6, 2, 5)
    still = np.repeat(blocks[:, :, :, :, :, None], shape.frames, axis=5)
    return np.ascontiguousarray(still.reshape(height * width // p**2, -1))


def _scaled(shape: ImageShape, max_tokens: int, height: int, width: int) -> tuple[int, int]:
    """Height and width in pixels after scaling; 0 for what is none, or a line."""
    if min(height, width) < 1 or max(height, width) > LONGEST_SIDE * min(height, width):
        return 0, 0
    side = shape.token_side
    scaled: tuple[int, int] = smart_resize(
        height, width, factor=side, min_pixels=side**2, max_pixels=max_tokens * side**2
    )
    # One side of a narrow image may be rounded up beyond the budget.
    if scaled[0] * scaled[1] > max_tokens * side**2:
        longest = max_tokens * side
        scaled = (min(scaled[0], longest), side) if height > width else (side, longest)
    return scaled


def save_processor(processor: Qwen2VLImageProcessorPil, folder: Path) -> None:
    """Write preprocessor_config.json."""
    processor.save_pretrained(folder)
