"""Nothing in a data set, a configuration or a model file runs, leads elsewhere or calls out."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from models.dcn_v2 import load
from qilin_dagster import OFFLINE
from qilin_dagster.errors import InputError
from qilin_dagster.settings import REPOSITORY
from qilin_dagster.sources.published import inspect
from tests import published_log as log
from tests.test_cli import qilin

SOURCES = sorted(
    path
    for folder in ("qilin_dagster", "models", "benchmarks")
    for path in (REPOSITORY / folder).rglob("*.py")
)
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("requests", "httpx", "aiohttp", "urllib.request", "urllib3", "ftplib", "smtplib"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"),
    *("yaml.unsafe_load", "torch.hub.load", "pd.read_pickle", "pandas.read_pickle"),
}
# What each call must say: the option, and whether it is on.
REQUIRED = {"torch.load": ("weights_only", True), "from_pretrained": ("local_files_only", True)}
NEVER_ON = {"allow_pickle", "shell", "trust_remote_code"}
NEVER_OFF = {"verify", "weights_only"}
# They speak to the one address that a setting names, and without it to none.
ON_REQUEST = {
    "models/answers/endpoint.py": ["import urllib.request"],
    "qilin_dagster/notifier.py": ["import urllib.request"],
}


def dangers(source: str) -> Iterator[str]:
    """What of the above a source file does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
            yield from (
                f"import {name}"
                for name in names
                if name in FORBIDDEN_MODULES or name.partition(".")[0] in FORBIDDEN_MODULES
            )
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in FORBIDDEN_CALLS:
            yield name
        options = {
            keyword.arg: keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            for keyword in node.keywords
        }
        for call, (option, value) in REQUIRED.items():
            if (name == call or name.endswith(f".{call}")) and options.get(option) is not value:
                yield f"{name} without {option}={value}"
        yield from (f"{name}({o}=...)" for o in NEVER_ON & set(options) if options[o] is not False)
        yield from (f"{name}({o}=...)" for o in NEVER_OFF & set(options) if options[o] is not True)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from urllib.request import urlopen",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(path, local_files_only=True, trust_remote_code=True)",
        "AutoModel.from_pretrained(path, local_files_only=True, trust_remote_code=flag)",
        "AutoModel.from_pretrained(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "yaml.load(text)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str) -> None:
    assert list(dangers(source))


def test_no_source_unpickles_evaluates_or_fetches() -> None:
    found = {
        str(path.relative_to(REPOSITORY)): list(dangers(path.read_text(encoding="utf-8")))
        for path in SOURCES
    }
    assert len(found) > 50
    assert {path: what for path, what in found.items() if what} == ON_REQUEST


class TestDataFolder:
    """A folder from elsewhere is looked at, and nothing it points at."""

    @pytest.mark.parametrize("what", ["shard", "table", "labels", "twin.json"])
    def test_links_out_of_it_are_refused(self, tmp_path: Path, what: str) -> None:
        data, outside = log.write(tmp_path / "data"), tmp_path / "outside"
        path = {
            "shard": data / "dqa" / "train-00000-of-00001.parquet",
            "table": data / "dqa",
            "labels": data / "dqa.qrels.csv",
            "twin.json": data / "twin.json",
        }[what]
        if path.exists():
            shutil.move(path, outside)
        else:
            outside.write_text("qid,pid\n", encoding="utf-8")
        path.symlink_to(outside)
        with pytest.raises(InputError, match=rf"{path.name} is a link to {outside}"):
            inspect(data)

    def test_links_inside_it_and_to_it_are_followed(self, tmp_path: Path) -> None:
        data = log.write(tmp_path / "data")
        shutil.move(data / "dqa", data / "elsewhere")
        (data / "dqa").symlink_to(data / "elsewhere")
        (tmp_path / "link").symlink_to(data)
        assert inspect(tmp_path / "link").tables["dqa"].n_rows == 2

    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            "null",
            "{",
            '{"scale": "<script>", "seed": 1}',
            '{"scale": true, "seed": 1}',
            '{"scale": 1}',
            "[" * 100_000,
            "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
        ],
    )
    def test_an_odd_twin_json_is_named(self, tmp_path: Path, text: str) -> None:
        data = log.write(tmp_path / "data")
        (data / "twin.json").write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"twin\.json does not describe a twin"):
            inspect(data)


def test_formulas_and_code_in_a_run_file_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "qrels.csv").write_text("qid,pid\n1,2\n", encoding="utf-8")
    for cell in ("=1+1", "=cmd|'/C calc'!A0", "__import__('os')"):
        (tmp_path / "run.csv").write_text(f'qid,pid,score\n1,2,"{cell}"\n', encoding="utf-8")
        done = qilin("evaluate", tmp_path / "run.csv", "--qrels", tmp_path / "qrels.csv")
        assert done.returncode == 2
        assert "run.csv" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_model_configuration_brings_no_code(tmp_path: Path) -> None:
    config = {
        "architecture": {"hidden": [8]},
        "cardinalities": [3],
        "n_dense": 1,
        "auto_map": {"AutoModel": "evil.Model"},
    }
    (tmp_path / "weights.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=r"weights\.json is no DCN-V2 configuration.*auto_map"):
        load(tmp_path / "weights.safetensors")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    config = {"architecture": {"hidden": [8]}, "cardinalities": [3], "n_dense": 1}
    (tmp_path / "weights.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(Exception, match="header"):
        load(tmp_path / "weights.safetensors")
    assert not (tmp_path / "ran").exists()


# Loaded by every Python process of the build before anything else.
REFUSE = """
import os, socket

def refuse(name):
    def call(*arguments, **options):
        with open(os.environ["REFUSED"], "a") as record:
            record.write(f"{name} {arguments!r}\\n")
        raise OSError(f"{name} is refused")
    return call

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse(name))
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse(name))
"""
SCRIPT = """
import sys
from qilin_dagster.cli import main
from qilin_dagster.expectations import load_great_expectations
import transformers, torch
load_great_expectations()
main(["build", "--data", sys.argv[1], "--lake", sys.argv[2]])
"""
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.scripts = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts += data
        else:
            self.text += data


@pytest.mark.slow
def test_a_build_calls_nobody_and_shows_foreign_text_as_text(tmp_path: Path) -> None:
    """A whole build with every library, on a log full of markup, whose sockets refuse.

    Where strace is at hand, native code is watched too: DuckDB, Polars and the chart renderer open
    their sockets past Python.
    """
    tables = log.tables()
    for row in tables["notes"]:
        row["note_title"] = row["note_content"] = EVIL
    for name in ("search_train", "search_test", "recommendation_train"):
        for row in tables[name]:
            row["query"] = EVIL
    for row in tables["user_feat"]:
        row["location"] = row["age"] = EVIL
    data = log.write(tmp_path / "<img src=x onerror=alert(1)>", tables)
    lake, record, calls = tmp_path / "lake", tmp_path / "refused", tmp_path / "calls"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REFUSE, encoding="utf-8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in OFFLINE and not name.startswith(("QILIN_", "DAGSTER_"))
    }
    environment |= {
        "PYTHONPATH": f"{tmp_path / 'site'}:{REPOSITORY}",
        "REFUSED": str(record),
    }
    strace = shutil.which("strace")
    watch = [strace, "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto", "-o", calls]
    done = subprocess.run(
        [*(watch if strace else []), sys.executable, "-c", SCRIPT, data, lake],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert not record.exists(), record.read_text(encoding="utf-8")
    if strace:
        assert [line for line in calls.read_text().splitlines() if "AF_INET" in line] == []
    else:
        print("NATIVE SOCKETS NOT WATCHED: strace is not installed")
    (report,) = lake.glob("reports/overview/*/report.html")
    page = Page()
    page.feed(report.read_text(encoding="utf-8"))
    assert data.name in page.text
    assert not [tag for tag, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert "alert" not in page.scripts
    assert [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed", "base")] == []
    for tag, attrs in page.tags:
        places = [attrs.get(name) or "" for name in ("src", "href", "action")]
        assert not [place for place in places if place.startswith(("//", "javascript:"))]
        # A link to the paper may be followed by hand; nothing is loaded.
        assert tag == "a" or not [place for place in places if place.startswith("http")]
    markdown = report.with_suffix(".md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert "<img" not in markdown


def test_nothing_calls_home_once_the_package_is_imported() -> None:
    """The switches are set by the package itself and override the caller's."""
    code = (
        "import qilin_dagster, os, huggingface_hub.constants as hub\n"
        "assert hub.HF_HUB_OFFLINE and hub.HF_HUB_DISABLE_TELEMETRY\n"
        "assert all(os.environ[k] == v for k, v in qilin_dagster.OFFLINE.items())\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_duckdb_installs_no_extension(tiny) -> None:
    import duckdb

    for name in ("autoinstall_known_extensions", "autoload_known_extensions"):
        ((value,),) = tiny.execute(f"select current_setting('{name}')").fetchall()
        assert value is False
    with pytest.raises(duckdb.Error):
        tiny.execute("from read_csv('https://example.com/x.csv')").fetchall()
