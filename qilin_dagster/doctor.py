"""What ``qilin doctor`` looks at: installation, machine, data folder, lake; what to do of each.

Nothing is changed, and no row is read. Knows no Dagster.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qilin_dagster.errors import InputError
from qilin_dagster.settings import REPOSITORY, Settings

Verdict = Literal["ok", "note", "fault"]

# What the features of a twin of the full size held at their peak, see benchmarks/README.md.
BUILD_GIGABYTES_OF_MEMORY = 6.0
# Scaled up from a twin of 0.004, whose lake takes 80 MB, and so rather too much: weights and the
# record of runs do not grow with the data.
BUILD_GIGABYTES_OF_DISK = 20.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do where it is not well.

    A fault keeps something from working; a note says what to expect.
    """

    about: str
    verdict: Verdict
    found: str
    what_to_do: str = ""


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which one would mend them."""
    looks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _memory,
        _disk,
        _gpu,
        _data,
        _images,
        _address,
        _lake,
    )
    return [finding for look in looks for finding in look(settings)]


def format_findings(findings: list[Finding]) -> str:
    """A line for each, with what to do below it."""
    width = max(len(finding.about) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict:<5}  {finding.about:<{width}}  {finding.found}")
        if finding.what_to_do:
            lines.append(f"{'':<5}  {'':<{width}}  -> {finding.what_to_do}")
    n_faults = sum(finding.verdict == "fault" for finding in findings)
    lines.append(
        f"{n_faults} fault{'s' * (n_faults != 1)}" if n_faults else "nothing stands in the way"
    )
    return "\n".join(lines)


def _python(settings: Settings) -> Iterator[Finding]:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if (3, 11) <= sys.version_info < (3, 15):
        yield Finding("python", "ok", found)
    else:
        yield Finding(
            "python", "fault", found, "use Python 3.11 to 3.14: make run PYTHON=python3.12"
        )


def _packages(settings: Settings) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        required = importlib.metadata.requires("qilin-lakehouse") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "fault", "the project is not installed", "pip install -e .")
        return
    wanted = [Requirement(line) for line in required]
    faults = [fault for one in wanted if _is_for_here(one) and (fault := _package_fault(one))]
    if faults:
        yield Finding("packages", "fault", "; ".join(faults), "pip install -e .")
        return
    shown = ("duckdb", "dagster", "polars", "great-expectations", "torch", "transformers")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in shown)
    yield Finding("packages", "ok", versions)


def _is_for_here(requirement: object) -> bool:
    marker = getattr(requirement, "marker", None)
    return marker is None or bool(marker.evaluate({"extra": ""}))


def _package_fault(requirement: object) -> str | None:
    from packaging.requirements import Requirement

    assert isinstance(requirement, Requirement)
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    # A local build, such as 2.13.0+cpu, is that version.
    if not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
        return f"{requirement.name} is {version}, not {requirement.specifier}"
    return None


def _memory(settings: Settings) -> Iterator[Finding]:
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found = f"{gigabytes:.1f} GB, {os.cpu_count()} cores"
    if settings.memory_limit:
        found += f", DuckDB limited to {settings.memory_limit}"
    if gigabytes < BUILD_GIGABYTES_OF_MEMORY:
        yield Finding(
            "memory",
            "note",
            found,
            f"the full log wants {BUILD_GIGABYTES_OF_MEMORY:.0f} GB; set QILIN_MEMORY_LIMIT=2GB "
            "and QILIN_THREADS=1, or build a part of it with --select",
        )
    else:
        yield Finding("memory", "ok", found)


def _disk(settings: Settings) -> Iterator[Finding]:
    for about, folder in (("disk of the lake", settings.lake), ("disk to spill", settings.spill)):
        if folder is None:
            continue
        present = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(present).free / 1e9
        found = f"{free:,.0f} GB free in {present}"
        if not os.access(present, os.W_OK):
            yield Finding(
                about,
                "fault",
                f"{present} cannot be written to",
                "name another folder with --lake or QILIN_LAKE (QILIN_CACHE for the copy of "
                "an address), or change its permissions",
            )
        elif free < 1:
            yield Finding(about, "fault", found, "make room: qilin gc deletes old snapshots")
        elif free < BUILD_GIGABYTES_OF_DISK:
            yield Finding(
                about,
                "note",
                found,
                f"the full log with all rankers wants {BUILD_GIGABYTES_OF_DISK:.0f} GB",
            )
        else:
            yield Finding(about, "ok", found)


def _gpu(settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return  # Said of the packages.
    import torch

    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)
        yield Finding(
            "gpu", "ok", f"{name}, {memory[0] / 1e9:.0f} of {memory[1] / 1e9:.0f} GB free"
        )
        return
    if torch.backends.mps.is_available():
        yield Finding("gpu", "ok", "Apple's, by QILIN_DEVICE=mps")
        return
    verdict: Verdict = "fault" if settings.device.startswith("cuda") else "note"
    built = "" if torch.version.cuda else ", and this PyTorch was built without CUDA"
    yield Finding(
        "gpu",
        verdict,
        f"none{built}; QILIN_DEVICE is {settings.device}",
        "rankers train on the processor, the small ones in minutes; for checkpoints install a "
        "PyTorch with CUDA and the extra gpu, see docs/gpu.md",
    )


def _data(settings: Settings) -> Iterator[Finding]:
    from qilin_dagster.sources.published import inspect

    if settings.data is None:
        yield Finding(
            "data folder",
            "note",
            "none is named",
            "set QILIN_DATA or give --data DIR; qilin twin DIR writes one to try things out",
        )
        return
    try:
        data = inspect(settings.data)
    except InputError as error:
        first, *more = str(error).splitlines()
        for fault in (first, *more):
            yield Finding("data folder", "fault", fault, "fetch it again, see docs/real_data.md")
        return
    rows = {name: table.n_rows for name, table in data.tables.items()}
    n_requests = sum(n for name, n in rows.items() if name not in ("notes", "user_feat"))
    yield Finding(
        "data folder",
        "ok",
        f"{data.display_name}: {n_requests:,} requests, {rows['notes']:,} notes, "
        f"{rows['user_feat']:,} users, in {settings.data}",
    )
    for remark in data.remarks:
        yield Finding("data folder", "note", remark)
    lacking = [
        name for name in ("search_test", "recommendation_test", "dqa") if name not in data.qrels
    ]
    if lacking:
        yield Finding(
            "label files",
            "note",
            f"none for {', '.join(lacking)}",
            "optional; beside the data, clicks are held against them",
        )


def _images(settings: Settings) -> Iterator[Finding]:
    from qilin_dagster.sources.published import image_parts

    if settings.data is None or not settings.data.is_dir():
        return
    parts = image_parts(settings.data)
    odd = [part for part in parts if not re.fullmatch(r"image/part_\d+", part)]
    if odd:
        yield Finding(
            "images", "note", f"{', '.join(odd[:3])} is no part_<n>", "unpack as image/part_<n>/..."
        )
    if parts:
        yield Finding("images", "ok", f"{len(parts)} parts of the archive")
    else:
        yield Finding(
            "images",
            "note",
            "no part of the archive",
            "optional; without any, rankers that see covers are not trained",
        )


def _record_of_runs(settings: Settings) -> Iterator[Finding]:
    """Dagster's settings are copied once and then the user's; an older copy lacks what is new."""
    home = Path(os.environ.get("DAGSTER_HOME") or settings.lake / ".dagster")
    present = home / "dagster.yaml"
    if present.exists() and present.read_text() != (REPOSITORY / "dagster.yaml").read_text():
        yield Finding(
            "runs",
            "note",
            f"{present} is not that of this version",
            "if nobody changed it on purpose, delete it: the next build copies the new one",
        )


def _address(settings: Settings) -> Iterator[Finding]:
    """Where the lake lives elsewhere: that place, and this machine's working copy of it."""
    from qilin_dagster.lake import LakeError
    from qilin_dagster.object_store import told_at
    from qilin_dagster.working_copy import Record, is_pushed

    url, folder = settings.lake_url, settings.lake
    if url is None:
        return
    try:
        told = told_at(url)
        if told is not None:
            yield Finding("address of the lake", "ok", f"{len(told.manifests)} tables at {url}")
        else:
            yield Finding(
                "address of the lake", "note", f"no lake at {url}", "qilin build --data DIR"
            )
    except (InputError, LakeError) as error:
        yield Finding(
            "address of the lake", "fault", str(error), "mend the address or the way to it"
        )
        return
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    found = f"{size:,.1f} MB in {folder}"
    version = Record.read(folder).version
    if not is_pushed(settings):
        yield Finding(
            "working copy", "note", f"{found}; its last build was not pushed", "qilin build does it"
        )
    elif told is not None and told.version != version:
        yield Finding(
            "working copy",
            "note",
            f"{found}; the address has another build",
            "the next command that reads or builds the lake brings it",
        )
    else:
        yield Finding("working copy", "ok", found)


def _lake(settings: Settings) -> Iterator[Finding]:
    from qilin_dagster.engines.duckdb import DuckDBEngine
    from qilin_dagster.lake import Lake, LakeError

    lake = Lake(settings.lake)
    try:
        if not lake.tables():
            if settings.lake_url is not None:
                return  # Said of the address.
            yield Finding("lake", "note", f"none in {settings.lake}", "qilin build --data DIR")
            return
        served = lake.for_readers()
        if not served.tables():
            yield Finding(
                "lake",
                "fault",
                f"no build of {settings.lake} has come to its end",
                "qilin build again: it goes on where it stopped",
            )
            return
        if not lake.is_served():
            yield Finding(
                "lake",
                "note",
                "the last build did not come to its end; readers see the one before",
                "qilin build again: it goes on where it stopped",
            )
        behind = DuckDBEngine(served, settings).behind()
    except (LakeError, InputError) as error:
        yield Finding("lake", "fault", str(error), "qilin verify names all of what is damaged")
        return
    yield from _record_of_runs(settings)
    found = f"{len(served.tables())} tables in {settings.lake}"
    if behind:
        first = f"{behind[0]}{f', and {len(behind) - 1} more' if len(behind) > 1 else ''}"
        yield Finding("lake", "note", f"{found}; {first}", "qilin build brings it up to date")
    else:
        yield Finding("lake", "ok", found)
