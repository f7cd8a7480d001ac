"""The one place for paths, sizes, seed and device; read from QILIN_* variables, never at import."""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from qilin_dagster.errors import InputError

REPOSITORY = Path(__file__).resolve().parent.parent
SQL_ROOT = REPOSITORY / "sql"
EXPECTATIONS_ROOT = REPOSITORY / "expectations"

DEFAULT_LAKE = Path(".qilin/lake")
DUCKDB = "duckdb"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a build needs to know besides the data itself.

    ``lake`` is a folder. Where the lake lives at an address, such as ``s3://bucket/lake``, that is
    ``lake_url``, and the folder is this machine's working copy of it, see working_copy.py.
    ``engine`` computes the stored tables of sql/: "duckdb", or the address of a Spark Connect
    server (``sc://host:port``). ``search_clock_offset`` is in hours ("auto" detects it);
    ``threads`` and ``memory_limit`` (a DuckDB size such as ``4GB``) bound each DuckDB connection;
    None leaves DuckDB's own choice of threads and 60 % of the machine's memory. ``spill`` is where
    DuckDB puts what does not fit into memory, by default ``.spill`` in the lake. ``device`` is a
    torch device or "auto".
    ``checkpoint`` is what the text rankers start from: a local folder with a BERT, or a name of
    the hub that ``hf download`` has fetched; None for small new ones. ``vlm_checkpoint`` is the
    same for the vision-language ranker and the visual features: a Qwen-VL.
    ``generator`` writes answers anew: "extractive" or None, a causal language model as a folder or
    a fetched name, or the address of a server, whose model is ``generator_model``; its key is read
    from QILIN_GENERATOR_KEY when it is needed. ``answer_encoder`` is what BERTScore compares by, a
    folder or a fetched name; None for the encoder of the lake's bi-encoder.
    ``max_quarantined`` is the share of a published table above which a build stops, 0 to 1 (None:
    see quarantine.py); with ``is_strict`` it stops at the first row set aside. ``processes`` is the
    number that the batches of a training are cut for (see models/processes.py), however many there
    are. ``notify`` is the web address or the command that is told of a failed run, see notifier.py.
    """

    data: Path | None
    lake: Path
    lake_url: str | None = None
    engine: str = DUCKDB
    seed: int = 7
    threads: int | None = None
    memory_limit: str | None = None
    spill: Path | None = None
    search_clock_offset: str = "auto"
    device: str = "auto"
    checkpoint: str | None = None
    vlm_checkpoint: str | None = None
    generator: str | None = None
    generator_model: str | None = None
    answer_encoder: str | None = None
    max_quarantined: float | None = None
    is_strict: bool = False
    processes: int = 1
    notify: str | None = None

    @classmethod
    def from_environment(cls) -> "Settings":
        """Settings from the environment; raises InputError for a value that cannot be used."""
        data = os.environ.get("QILIN_DATA")
        spill = os.environ.get("QILIN_SPILL")
        lake, lake_url = lake_at(os.environ.get("QILIN_LAKE") or str(DEFAULT_LAKE))
        return cls(
            data=Path(data).expanduser().absolute() if data else None,
            lake=lake,
            lake_url=lake_url,
            engine=engine_named(os.environ.get("QILIN_ENGINE") or DUCKDB, "QILIN_ENGINE="),
            seed=_whole_number("QILIN_SEED", 7),
            threads=_whole_number("QILIN_THREADS", 0) or None,
            memory_limit=os.environ.get("QILIN_MEMORY_LIMIT") or None,
            spill=Path(spill).expanduser().absolute() if spill else None,
            search_clock_offset=os.environ.get("QILIN_SEARCH_CLOCK_OFFSET") or "auto",
            device=os.environ.get("QILIN_DEVICE") or "auto",
            checkpoint=os.environ.get("QILIN_CHECKPOINT") or None,
            vlm_checkpoint=os.environ.get("QILIN_VLM_CHECKPOINT") or None,
            generator=os.environ.get("QILIN_GENERATOR") or None,
            generator_model=os.environ.get("QILIN_GENERATOR_MODEL") or None,
            answer_encoder=os.environ.get("QILIN_ANSWER_ENCODER") or None,
            max_quarantined=_share("QILIN_MAX_QUARANTINED"),
            is_strict=_switch("QILIN_STRICT"),
            processes=_whole_number("QILIN_PROCESSES", 1) or 1,
            notify=os.environ.get("QILIN_NOTIFY") or None,
        )

    def with_lake(self, where: str) -> "Settings":
        """The same with another lake: a folder or an address."""
        lake, lake_url = lake_at(where)
        return replace(self, lake=lake, lake_url=lake_url)

    def data_folder(self) -> Path:
        """The data folder; raises InputError when none was named."""
        if self.data is None:
            raise InputError(
                "no data folder: name the published Parquet with --data DIR or QILIN_DATA"
            )
        return self.data


def lake_at(where: str) -> tuple[Path, str | None]:
    """The lake's folder, and its address where it has one: then the folder is a working copy.

    Each address has a folder of its own in QILIN_CACHE, by default ``qilin`` in XDG_CACHE_HOME.
    """
    if "://" not in where:
        return Path(where).expanduser().absolute(), None
    protocol, _, place = where.partition("://")
    url = f"{protocol}://{place.rstrip('/')}"
    if protocol in ("file", "local"):
        # Seen from another folder it would be another place.
        url = f"file://{Path(place).absolute()}"
    cache = os.environ.get("QILIN_CACHE") or (
        Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "qilin"
    )
    readable = re.sub(r"[^A-Za-z0-9]+", "-", url)[-40:].strip("-")
    name = f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    return Path(cache).expanduser().absolute() / "lakes" / name, url


def engine_named(engine: str, option: str) -> str:
    """The engine, when it is one; raises InputError that begins with the option otherwise."""
    if engine != DUCKDB and not engine.startswith("sc://"):
        raise InputError(f"{option}{engine} is no engine: duckdb, or sc://HOST:PORT of a Spark")
    return engine


def _whole_number(name: str, default: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    if not text.isdigit():
        raise InputError(f"{name}={text!r} is not a whole number")
    return int(text)


def _share(name: str) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"{name}={text!r} is not a share between 0 and 1, such as 0.01")
    return share


def _switch(name: str) -> bool:
    text = os.environ.get(name) or "0"
    if text not in ("0", "1"):
        raise InputError(f"{name}={text!r} is neither 0 nor 1")
    return text == "1"
