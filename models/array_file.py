"""Files that are whole or not there, and arrays larger than memory written part by part."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray


@contextmanager
def array_file(
    path: Path, dtype: DTypeLike, row_shape: tuple[int, ...] = ()
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """A function that appends rows; on leaving, the file's header says how many there are.

    Args:
        path: of the file, whose folder exists.
        dtype: what rows are cast to.
        row_shape: shape of one row; () for numbers.
    """
    dtype, n_rows = np.dtype(dtype), 0

    def append(rows: NDArray[Any]) -> None:
        nonlocal n_rows
        file.write(np.ascontiguousarray(rows, dtype).tobytes())
        n_rows += len(rows)

    with path.open("wb") as file:
        _write_header(file, dtype, (0, *row_shape))
        yield append
        # The header leaves room for any length.
        file.seek(0)
        _write_header(file, dtype, (n_rows, *row_shape))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what is to become this file: it is moved there on leaving, unless by an error.

    The folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    yield aside
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)


def _write_header(file: BinaryIO, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
