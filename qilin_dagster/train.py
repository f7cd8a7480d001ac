"""Train rankers on several processes: ``torchrun --nproc-per-node 2 -m qilin_dagster.train NAME``.

The main process is a build of the named tables, with its checks, and the only one that writes. The
others read the same lake and take part in each training until it is over. A later ``qilin build``
with the same QILIN_PROCESSES finds the tables there; so would one process alone, only later.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import click

from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake, LakeError, Written
from qilin_dagster.resources import Lakehouse
from qilin_dagster.settings import Settings
from qilin_dagster.working_copy import wait_until_pulled

if TYPE_CHECKING:
    import dagster as dg


# What an asset is told of a launch in which no hyper-parameter was edited, as the main one's.
UNCHANGED = SimpleNamespace(op_execution_context=SimpleNamespace(op_config={}))


class _OthersLake(Lake):
    """The lake of a process that takes part and publishes nothing."""

    def publish(
        self,
        table: str,
        *,
        inputs: Mapping[str, str],
        code_version: str,
        write: Callable[[Path], Written],
    ) -> NoReturn:
        from models.processes import NotMainError

        if not self.is_current(table, inputs, code_version):
            with TemporaryDirectory() as folder:
                write(Path(folder))
        raise NotMainError


class _OthersLakehouse(Lakehouse):
    @property
    def store(self) -> Lake:
        return _OthersLake(self.settings.lake)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, required=True)
@click.option("--lake", help="Folder of the lake, or its address.")
def main(names: tuple[str, ...], lake: str | None) -> None:
    """Train these rankers, such as dcn_v2_search or ablation.dcn_v2_search_covers."""
    n = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ.setdefault("QILIN_PROCESSES", str(n))
    try:
        settings = Settings.from_environment()
        if lake is not None:
            settings = settings.with_lake(lake)
        if settings.lake_url is not None and os.environ.get("GROUP_RANK", "0") != "0":
            raise InputError(
                "processes on several machines train on a lake in a folder that all of them see, "
                f"not on {settings.lake_url}"
            )
        tables = [name if "." in name else f"training.{name}" for name in names]
        assets = [ranker_named(table) for table in tables]
        if os.environ.get("RANK", "0") == "0":
            _build(settings, [asset.key for asset in assets])
        else:
            # The main process is the one that pulls; this one begins from what that has pulled.
            wait_until_pulled(settings)
            _take_part(settings, assets)
    except (InputError, LakeError) as error:
        click.echo(f"qilin: {error}", err=True)
        raise SystemExit(2) from error


def ranker_named(table: str) -> "dg.AssetsDefinition":
    """The asset of a ranker that learns; raises InputError that names those there are."""
    from qilin_dagster.assets import ablation, training

    rankers = {".".join(a.key.path): a for a in (*training.rankers, *ablation.rankers)}
    # BM25 learns nothing.
    rankers = {name: asset for name, asset in rankers.items() if ".bm25" not in name}
    if table not in rankers:
        raise InputError(f"{table} is no ranker; there are {', '.join(rankers)}")
    return rankers[table]


def _build(settings: Settings, keys: "list[dg.AssetKey]") -> None:
    from qilin_dagster.build import run_build
    from qilin_dagster.cli import log_to_stderr

    log_to_stderr()
    for key in keys:
        # One after the other, in the order in which the others take part.
        outcome = run_build(settings, [key])
        for line in outcome.lines:
            click.echo(line, err=True)
        if not outcome.succeeded:
            raise SystemExit(1)


def _take_part(settings: Settings, assets: "list[dg.AssetsDefinition]") -> None:
    from models.processes import NotMainError

    lakehouse = _OthersLakehouse(lake=str(settings.lake))
    for asset in assets:
        try:
            asset.op.compute_fn.decorated_fn(context=UNCHANGED, lakehouse=lakehouse)  # type: ignore[union-attr]
        except NotMainError:
            continue


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # As the command itself does: DuckDB prints pages of "leaked" lines at the end.
    os._exit(0)
