"""What a lake at an address costs: a first push and pull, an open with nothing new, one table more.

    python benchmarks/address.py --files 400 --megabytes 300

Random bytes in 80 tables, through S3's protocol to moto in another process on this machine: what a
real store takes for the way comes on top. CPU seconds are this process's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qilin_dagster.lake import Lake, Written
from qilin_dagster.settings import Settings
from qilin_dagster.working_copy import bring_up_to_date, push_built

TABLES = 80
SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def timed(what: str, do: Callable[[], None]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:<20} {cpu:6.2f} CPU s {wall:7.2f} s wall", flush=True)


def measure(folder: Path, n_files: int, n_bytes: int) -> None:
    def machine(name: str) -> Settings:
        os.environ["QILIN_CACHE"] = str(folder / name)
        return Settings.from_environment()

    def write(into: Path) -> Written:
        for number in range(n_files // TABLES):
            (into / f"{number}.bin").write_bytes(os.urandom(n_bytes // n_files))
        return Written(0, ())

    def build(table: int) -> None:
        lake.publish(f"training.t{table}", inputs={}, code_version="1", write=write)

    one, two = machine("one"), machine("two")
    lake = Lake(one.lake)
    with lake.building():
        bring_up_to_date(one, print, to_build=True)
        for table in range(TABLES):
            build(table)
        lake.serve()
        timed("push", lambda: push_built(one, print))
        timed("pull", lambda: bring_up_to_date(two, print))
        timed("nothing new", lambda: bring_up_to_date(two, print))
        build(TABLES)
        lake.serve()
        timed("push one table more", lambda: push_built(one, print))
        timed("pull one table more", lambda: bring_up_to_date(two, print))


def main() -> None:
    import s3fs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--megabytes", type=int, default=300)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "QILIN_LAKE": "s3://bucket/lake",
        }
        s3fs.S3FileSystem().mkdir("bucket")
        try:
            measure(Path(folder), chosen.files, chosen.megabytes * 1_000_000)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
