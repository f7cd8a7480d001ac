"""A lake at an address: every machine works on a copy, and no build gets lost under another's.

Against a server of S3's protocol on this machine.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from qilin_dagster import object_store, working_copy
from qilin_dagster.cli import main
from qilin_dagster.doctor import Finding, examine
from qilin_dagster.errors import InputError
from qilin_dagster.lake import Lake, LakeError, Written, connect, write_rows
from qilin_dagster.object_store import OvertakenError, push, told_at
from qilin_dagster.resources import Lakehouse
from qilin_dagster.settings import Settings
from qilin_dagster.working_copy import bring_up_to_date, push_built, wait_until_pulled

Machine = Callable[[str], Settings]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    s3fs.S3FileSystem.clear_instance_cache()
    yield f"http://{host}:{port}"
    s3fs.S3FileSystem.clear_instance_cache()
    started.stop()


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place of each test's own."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)
    return f"s3://bucket/{request.node.name.replace('[', '-').strip(']')}"


@pytest.fixture
def another_client() -> Iterator[Callable[[], None]]:
    """To be called when the environment has changed: clients are kept, each as it was made."""
    yield s3fs.S3FileSystem.clear_instance_cache
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def machine(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Settings of a machine with a cache of its own, by its name; it is the present one then."""

    def settings(name: str) -> Settings:
        monkeypatch.setenv("QILIN_CACHE", str(tmp_path / name))
        monkeypatch.setenv("QILIN_LAKE", url)
        return Settings.from_environment()

    return settings


def write(lake: Lake, **tables: int) -> None:
    for table, n in tables.items():
        rows = pa.table({"n": [n]})

        def put(folder: Path, rows: pa.Table = rows) -> Written:
            return write_rows(rows, folder)

        lake.publish(f"training.{table}", inputs={"n": str(n)}, code_version="1", write=put)


def build(settings: Settings, **tables: int) -> list[str]:
    """A build of tables with one number each; what it said."""
    said: list[str] = []
    lake = Lake(settings.lake)
    with lake.building():
        bring_up_to_date(settings, said.append, to_build=True)
        write(lake, **tables)
        lake.serve()
        push_built(settings, said.append)
    return said


def read(settings: Settings) -> tuple[dict[str, int], list[str]]:
    """What a reader sees of the tables, and what it is told."""
    said: list[str] = []
    bring_up_to_date(settings, said.append)
    lake = Lake(settings.lake).for_readers()
    found = {}
    for table in lake.tables():
        manifest = lake.manifest(table)
        assert manifest is not None
        (path,) = lake.files(manifest)
        found[table.partition(".")[2]] = pq.read_table(path)["n"][0].as_py()
    return found, said


def test_a_second_machine_reads_what_the_first_built(machine: Machine, url: str) -> None:
    (pushed,) = build(machine("one"), a=1, b=2)
    assert pushed.startswith(f"pushed to {url}: 2 tables; 2 files")
    found, said = read(machine("two"))
    assert found == {"a": 1, "b": 2}
    assert said[0].startswith(f"pulled from {url}: 2 tables; 2 files")
    assert Lake(machine("two").lake).verify() == []
    assert connect().sql("select n from training.b").fetchall() == [(2,)]
    assert connect(url).sql("select n from training.a").fetchall() == [(1,)]


def test_where_nothing_changed_one_get_is_all(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(machine("one"), a=1)
    read(machine("two"))
    asked: list[str] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: object, method: str, *args: object, **options: object) -> object:
        asked.append(method)
        return await call(self, method, *args, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    assert read(machine("two")) == ({"a": 1}, [])
    # The head is s3fs's own.
    assert asked == ["head_object", "get_object"]
    asked.clear()
    # A build that changes nothing sees, besides, whether it could push, by a put of no bytes.
    assert build(machine("one"), a=1) == []
    assert asked == ["head_object", "get_object", "put_object"]


def test_an_appended_build_moves_what_is_new(machine: Machine) -> None:
    build(machine("one"), a=1, b=2)
    read(machine("two"))
    assert "3 tables; 1 files" in build(machine("one"), c=3)[0]
    found, said = read(machine("two"))
    assert found == {"a": 1, "b": 2, "c": 3}
    assert "3 tables; 1 files" in said[0]
    # The other one goes on from there, and what it did not make moves neither way.
    assert "4 tables; 1 files" in build(machine("two"), d=4)[0]
    assert "4 tables; 1 files" in read(machine("one"))[1][0]


def test_the_second_of_two_builders_is_refused(machine: Machine, url: str) -> None:
    build(machine("one"), a=1)
    late = Lake(machine("two").lake)
    with late.building():
        bring_up_to_date(machine("two"), print, to_build=True)
        # Hours pass, in which another machine builds.
        build(machine("one"), a=11, b=2)
        write(late, a=12, c=3)
        late.serve()
        with pytest.raises(OvertakenError, match=r"another build was pushed .* qilin build again"):
            push_built(machine("two"), print)
    assert read(machine("three"))[0] == {"a": 11, "b": 2}
    # Built again it goes on from the other's, and keeps what only it has.
    said = build(machine("two"), a=12, c=3)
    assert "gives way" in said[0]
    assert read(machine("three"))[0] == {"a": 12, "b": 2, "c": 3}


def test_a_reader_after_a_refusal_sees_what_everybody_sees(machine: Machine) -> None:
    build(machine("one"), a=1)
    late = Lake(machine("two").lake)
    with late.building():
        bring_up_to_date(machine("two"), print, to_build=True)
        build(machine("one"), a=11)
        write(late, c=3)
        late.serve()
        with pytest.raises(OvertakenError):
            push_built(machine("two"), print)
    assert read(machine("two"))[0] == {"a": 11}
    # What it made is the next build's.
    assert late.tables() == ["training.a", "training.c"]


def test_the_store_itself_refuses_what_comes_between_look_and_put(
    machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = object_store._Store.put_told

    def overtaken(self: object_store._Store, new: object, over: object) -> None:
        self.files.pipe_file(f"{self.root}/lake.json", theirs)
        put(self, new, over)

    def answered_late(self: object_store._Store, new: object_store.Told, over: object) -> None:
        self.files.pipe_file(f"{self.root}/lake.json", new.text)
        put(self, new, over)

    # Where there is no lake yet, and where there is one.
    for theirs in (b'{"tables": {}}', b'{"tables":  {}}'):
        monkeypatch.setattr(object_store._Store, "put_told", overtaken)
        with pytest.raises(OvertakenError):
            build(machine("one"), a=1)
        told = told_at(url)
        assert told is not None
        assert told.text == theirs, "the other's stays"
    monkeypatch.setattr(object_store._Store, "put_told", answered_late)
    assert build(machine("two"), a=1)[-1].startswith("pushed"), "its own put is no other's"


class Killed(BaseException):
    """Nothing of the program sees it coming."""


def test_a_push_that_is_killed_shows_nothing_and_is_gone_on_with(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(machine("one"), a=1)
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise Killed

        patch.setattr(object_store._Store, "put_told", die)
        with pytest.raises(Killed):
            build(machine("one"), a=2, b=2)
    assert read(machine("two"))[0] == {"a": 1}
    found, (said,) = read(machine("one"))
    assert found == {"a": 2, "b": 2}
    assert "was not pushed" in said
    # Its objects are there: the list is all that was lacking.
    (pushed,) = build(machine("one"))
    assert "2 tables; 0 files" in pushed
    assert read(machine("two"))[0] == {"a": 2, "b": 2}


def test_a_pull_that_is_killed_is_gone_on_with(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(machine("one"), a=1, b=2)
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise Killed

        patch.setattr(Lake, "adopt", die)
        with pytest.raises(Killed):
            read(machine("two"))
    assert Lake(machine("two").lake).for_readers().tables() == []
    found, (said,) = read(machine("two"))
    assert found == {"a": 1, "b": 2}
    assert "0 files" in said


def test_readers_go_on_while_this_machine_builds(machine: Machine) -> None:
    build(machine("one"), a=1)
    read(machine("two"))
    build(machine("one"), a=2)
    at_work, done = threading.Event(), threading.Event()
    lake = Lake(machine("two").lake)

    def be_busy() -> None:
        with lake.building():
            at_work.set()
            done.wait(60)

    busy = threading.Thread(target=be_busy)
    busy.start()
    at_work.wait(60)
    try:
        found, (said,) = read(machine("two"))
    finally:
        done.set()
        busy.join()
    assert found == {"a": 1}
    assert "reading what it has shown before" in said
    replaced = lake.snapshot_folder("training.a")
    os.utime(replaced, (0, 0))
    assert read(machine("two"))[0] == {"a": 2}
    # Somebody may still read it: the clean-up counts from now.
    assert lake.collect_garbage(older_than_s=60) == []
    assert replaced.exists()
    assert lake.collect_garbage(older_than_s=0) == [replaced]


def test_a_first_reader_waits_for_what_another_process_brings(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_copy, "LOOK_EVERY_S", 0.01)
    build(machine("one"), a=1)
    settings = machine("two")
    at_work, done = threading.Event(), threading.Event()

    def be_busy() -> None:
        with Lake(settings.lake).building():
            at_work.set()
            done.wait(60)

    busy = threading.Thread(target=be_busy)
    busy.start()
    at_work.wait(60)
    said: list[str] = []

    def report(line: str) -> None:
        said.append(line)
        done.set()

    bring_up_to_date(settings, report)
    busy.join()
    assert "waiting until there is something to read" in said[0]
    assert said[1].startswith("pulled")


def test_a_lake_that_went_away_is_said_and_put_there_again(machine: Machine, url: str) -> None:
    build(machine("one"), a=1)
    s3fs.S3FileSystem().rm(url, recursive=True)
    with pytest.raises(InputError, match="is gone; what this machine had"):
        read(machine("one"))
    assert "1 tables; 1 files" in build(machine("one"))[0]
    assert read(machine("two"))[0] == {"a": 1}


def test_processes_beside_the_building_one_wait_for_its_pull(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_copy, "LOOK_EVERY_S", 0.01)
    build(machine("one"), a=1)
    settings = machine("two")
    waiting = threading.Thread(target=wait_until_pulled, args=(settings,))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    with Lake(settings.lake).building():
        bring_up_to_date(settings, print, to_build=True)
        waiting.join(60)
        assert not waiting.is_alive(), "it waits for the pull, not for the build"


class TestWords:
    """What cannot be used is said, with what to do."""

    def refused(self, settings: Settings) -> tuple[str, str]:
        """What a reader and a builder are told."""
        with pytest.raises((InputError, LakeError)) as reading:
            read(settings)
        with pytest.raises((InputError, LakeError)) as building:
            build(settings, a=1)
        return str(reading.value), str(building.value)

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ("carrier-pigeon://roof", "Protocol not known: carrier-pigeon"),
            ("gs://bucket/lake", "needs a package that is not installed: Please install gcsfs"),
            ("s3://", "names no place in the store"),
            ("s3://no-such-bucket/lake", "there is no such bucket; make it first"),
        ],
    )
    def test_addresses(self, machine: Machine, where: str, expected: str) -> None:
        for told in self.refused(machine("one").with_lake(where)):
            assert expected in told

    def test_no_lake(self, machine: Machine, url: str) -> None:
        with pytest.raises(InputError, match=f"no lake at {url}: qilin build --lake {url} makes"):
            read(machine("one"))

    def test_something_else(self, machine: Machine, url: str) -> None:
        s3fs.S3FileSystem().pipe_file(f"{url}/holiday.jpg", b"sea")
        reading, building = self.refused(machine("one"))
        assert "there is no lake" in reading
        assert "holds other things (holiday.jpg) and no lake" in building
        s3fs.S3FileSystem().pipe_file(f"{url}/lake.json", b'{"name": "Constance"}')
        for told in self.refused(machine("one")):
            assert "is not that of a lake" in told

    def test_no_credentials(
        self,
        machine: Machine,
        monkeypatch: pytest.MonkeyPatch,
        another_client: Callable[[], None],
    ) -> None:
        settings = machine("one")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        another_client()
        for told in self.refused(settings):
            assert "no credentials were found" in told
            assert "AWS_ACCESS_KEY_ID" in told

    def test_nobody_there(
        self,
        machine: Machine,
        monkeypatch: pytest.MonkeyPatch,
        another_client: Callable[[], None],
    ) -> None:
        settings = machine("one")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        another_client()
        for told in self.refused(settings):
            assert "cannot be reached" in told
            assert "AWS_ENDPOINT_URL" in told

    def test_a_push_that_finds_nobody_says_where_the_build_is(
        self,
        machine: Machine,
        monkeypatch: pytest.MonkeyPatch,
        another_client: Callable[[], None],
    ) -> None:
        settings = machine("one")
        with Lake(settings.lake).building():
            bring_up_to_date(settings, print, to_build=True)
            write(Lake(settings.lake), a=1)
            Lake(settings.lake).serve()
            with monkeypatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
                patch.setenv("AWS_MAX_ATTEMPTS", "1")
                another_client()
                with pytest.raises(LakeError, match=r"The build is whole in .* qilin build again"):
                    push_built(settings, print)
        another_client()
        assert "1 files" in build(settings)[0]

    def test_a_cache_that_cannot_be_written(
        self, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(
            LakeError, match="Not a directory; name another folder with QILIN_CACHE"
        ):
            read(machine("file"))


def test_the_doctor_says_where_the_copy_is_and_how_it_stands(machine: Machine, url: str) -> None:
    def found(settings: Settings) -> dict[str, Finding]:
        return {one.about: one for one in examine(settings)}

    assert f"no lake at {url}" in found(machine("one"))["address of the lake"].found
    build(machine("one"), a=1)
    well = found(machine("one"))
    assert well["address of the lake"].found == f"1 tables at {url}"
    assert f"MB in {machine('one').lake}" in well["working copy"].found
    assert well["working copy"].verdict == "ok"
    assert "brings it" in found(machine("two"))["working copy"].what_to_do
    assert not machine("two").lake.exists(), "the doctor changes nothing"
    lake = Lake(machine("one").lake)
    write(lake, b=2)
    assert "not pushed" in found(machine("one"))["working copy"].found
    assert found(machine("one").with_lake("s3://nothing/lake"))["address of the lake"].verdict == (
        "fault"
    )


class TestDagster:
    """Runs of the UI: pulled when they begin, pushed when they succeed."""

    def run(self, url: str, *, fails: bool = False, meanwhile: Callable[[], object] = int) -> str:
        """Runs one asset; the errors in the run's log."""

        @dg.asset
        def made(lakehouse: Lakehouse) -> None:
            n = len(lakehouse.store.tables())
            write(lakehouse.store, **{f"t{n}": n})
            meanwhile()
            if fails:
                raise dg.Failure("bad")

        with dg.instance_for_test() as instance:
            done = dg.materialize(
                [made],
                resources={"lakehouse": Lakehouse(lake=url)},
                instance=instance,
                raise_on_error=False,
            )
            assert done.success is not fails
            return "".join(
                entry.user_message or ""
                for entry in instance.all_logs(done.run_id)
                if entry.level >= 40
            )

    def test_a_run_pulls_and_pushes_and_a_failed_one_does_not(
        self, machine: Machine, url: str
    ) -> None:
        build(machine("one"), t0=0)
        machine("two")
        assert "not pushed" not in self.run(url)
        assert read(machine("one"))[0] == {"t0": 0, "t1": 1}
        machine("two")
        self.run(url, fails=True)
        assert read(machine("one"))[0] == {"t0": 0, "t1": 1}

    def test_a_run_that_was_overtaken_says_so(
        self, machine: Machine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QILIN_NOTIFY", f"tee {tmp_path / 'told.json'}")
        build(machine("one"), t0=0)
        other = machine("one")
        machine("two")
        said = self.run(url, meanwhile=lambda: build(other, t9=9))
        assert "not pushed: another build was pushed" in said
        assert "was not pushed" in (tmp_path / "told.json").read_text(encoding="utf-8")
        assert read(machine("three"))[0] == {"t0": 0, "t9": 9}


class TestFolders:
    def test_each_address_has_one(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("QILIN_CACHE", str(tmp_path))
        plain = Settings(data=None, lake=tmp_path)
        one = plain.with_lake("s3://bucket/lake")
        assert one.lake_url == "s3://bucket/lake"
        assert one.lake.is_relative_to(tmp_path)
        assert one.lake == plain.with_lake("s3://bucket/lake/").lake
        assert one.lake != plain.with_lake("s3://bucket-lake").lake
        assert plain.with_lake(str(tmp_path / "lake")).lake_url is None

    def test_a_path_means_the_same_from_everywhere(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        here = Settings(data=None, lake=tmp_path).with_lake("file://lake")
        assert here.lake_url == f"file://{tmp_path}/lake"

    def test_by_default_it_is_the_users_cache(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("QILIN_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        where = Settings(data=None, lake=tmp_path).with_lake("s3://bucket/lake")
        assert where.lake.parent == tmp_path / "qilin" / "lakes"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        where = Settings(data=None, lake=tmp_path).with_lake("s3://bucket/lake")
        assert where.lake.parent == tmp_path / "home" / ".cache" / "qilin" / "lakes"


def test_a_lake_on_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fsspec calls a file system gets a rename instead of a condition."""
    monkeypatch.setenv("QILIN_LAKE", f"file://{tmp_path}/disk/lake")
    monkeypatch.setenv("QILIN_CACHE", str(tmp_path / "one"))
    build(Settings.from_environment(), a=1)
    monkeypatch.setenv("QILIN_CACHE", str(tmp_path / "two"))
    assert read(Settings.from_environment())[0] == {"a": 1}
    assert sorted(path.name for path in (tmp_path / "disk" / "lake").iterdir()) == [
        "lake.json",
        "objects",
    ]
    own = Settings.from_environment().with_lake(f"file://{Settings.from_environment().lake}")
    with pytest.raises(LakeError, match="named by its path, without file://"):
        read(own)


def test_the_commands_take_an_address(machine: Machine, url: str, tmp_path: Path) -> None:
    def qilin(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, words)
        return done.exit_code, done.output

    machine("one")
    code, said = qilin("sql", "--lake", url, "select 1")
    assert code == 2
    assert f"there is no lake at {url}" in said
    build(machine("one"), a=1)
    machine("two")
    code, said = qilin("sql", "--lake", url, "--format", "csv", "select n from training.a")
    assert code == 0, said
    assert said.endswith("n\n1\n")
    assert "1 tables whole" in qilin("verify", "--lake", url)[1]
    assert qilin("report", "--lake", url)[0] == 2
    assert "qilin build pushes" in qilin("push", url, "--lake", url)[1]
    assert "name it with --lake DIR" in qilin("pull", url, "--lake", url)[1]
    assert "1 tables; 1 files" in qilin("push", f"{url}-copy", "--lake", url)[1]
    assert "1 tables; 1 files" in qilin("pull", f"{url}-copy", "--lake", str(tmp_path / "x"))[1]


def test_a_plain_push_goes_over_whatever_is_there(machine: Machine, url: str) -> None:
    build(machine("one"), a=1)
    lake = Lake(machine("two").lake / "elsewhere")
    write(lake, a=2)
    assert push(lake, url).n_files == 1
    assert read(machine("one"))[0] == {"a": 2}


@pytest.mark.slow
def test_a_real_build_is_pushed_unless_it_was_overtaken(
    machine: Machine, url: str, tiny_data: Path
) -> None:
    command = [
        *(Path(sys.executable).parent / "qilin", "build", "--data", tiny_data, "--lake", url),
        *("--select", "published"),
    ]
    machine("one")
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"pushed to {url}" in done.stderr
    bring_up_to_date(machine("two"), print)
    there = Lake(machine("two").lake).for_readers()
    assert there.content_hash() == Lake(machine("one").lake).for_readers().content_hash()
    assert there.verify() == []
    # Another machine, to which the data is new.
    machine("three")
    environment["QILIN_CACHE"] = os.environ["QILIN_CACHE"]
    environment["QILIN_SEARCH_CLOCK_OFFSET"] = "7"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as late:
        assert late.stderr is not None
        said = late.stderr.readline()
        build(machine("one"), a=1)
        said += late.stderr.read()
    assert late.returncode == 1, said
    assert "not pushed: another build was pushed" in said
    bring_up_to_date(machine("two"), print)
    assert "training.a" in Lake(machine("two").lake).for_readers().tables()
