"""A headless Chromium for tests, told what to do over its debugging protocol.

One browser for many pages: it opens files, at any width, in light or dark, and tells of every
error, refusal and message of the console.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Browser:
    """A page of the browser; ``said`` is all that went to its console, errors included."""

    socket: ClientConnection
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    n_sent: int = 0

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.n_sent += 1
        self.socket.send(json.dumps({"id": self.n_sent, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            self._hear(answer)
            if answer.get("id") == self.n_sent:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _hear(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.said.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" | "Log.entryAdded":
                self.said.append(json.dumps(parameters))
            case "Network.requestWillBeSent":
                self.asked.append(parameters["request"]["url"])

    def open(self, page: Path, *, width: int = 1200, dark: bool = False) -> None:
        """Open a file and wait until it and its plots are there."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=1400,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=scheme)
        self.command("Page.navigate", url=page.as_uri())
        self.until("document.readyState === 'complete'")
        self.until("[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        result = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        deadline = time.monotonic() + 60
        while not self.ask(expression):
            assert time.monotonic() < deadline, f"never came true: {expression}; {self.said}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, **KEYS[key])


KEYS: dict[str, dict[str, Any]] = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
}


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Chromium with a profile of its own, closed at the end."""
    assert CHROMIUM
    process = subprocess.Popen(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", f"--user-data-dir={profile}", "--remote-debugging-port=0"),
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not port_file.exists() or len(port_file.read_text().splitlines()) < 2:
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.05)
        port, path = port_file.read_text().splitlines()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as whole:
            targets = Browser(whole).command("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        address = f"ws://127.0.0.1:{port}/devtools/page/{page}"
        with connect(address, max_size=None, proxy=None) as socket:
            opened = Browser(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                opened.command(f"{domain}.enable")
            yield opened
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
