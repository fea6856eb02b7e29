"""A headless chromium driven over its DevTools pipe, with nothing but the standard library."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps", "--hide-scrollbars",
    "--no-default-browser-check", "--metrics-recording-only", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


def chromium() -> str | None:
    """The browser's program, or None where there is none."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Browser:
    """One page at a time.

    ``problems`` are console errors and uncaught exceptions, ``asked`` all addresses the page asked for by request,
    ``refused`` the requests that its policy stopped.
    """

    def __init__(self, program: str, *, patience: float = 60) -> None:
        self.patience = patience
        self.problems: list[str] = []
        self.asked: dict[str, str] = {}
        self.refused: set[str] = set()
        self._profile = tempfile.mkdtemp(prefix="mixwright-browser-")
        self._next = 0
        self._rest = b""
        self._loaded = False
        there, self._write = os.pipe()
        self._read, back = os.pipe()
        # high numbers first, so that neither end already sits on 3 or 4
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (there, back)]
        os.close(there)
        os.close(back)
        actions = [(os.POSIX_SPAWN_DUP2, ends[0], 3), (os.POSIX_SPAWN_DUP2, ends[1], 4)]
        quiet = os.open(os.devnull, os.O_RDWR)
        actions += [(os.POSIX_SPAWN_DUP2, quiet, out) for out in (0, 1, 2)]
        environment = {**os.environ, "HOME": self._profile}
        self._pid = os.posix_spawn(
            program, [program, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"], environment,
            file_actions=actions, setpgroup=0,
        )  # fmt: skip
        for end in (*ends, quiet):
            os.close(end)
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._write)
        os.close(self._read)
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result; events that come in between are noted."""
        self._next += 1
        message = {"id": self._next, "method": method, "params": parameters}
        session = getattr(self, "_session", None)
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        wanted = self._next
        while True:
            answer = self._receive()
            if answer.get("id") == wanted:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.patience
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"chromium did not answer within {self.patience} s")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("chromium went away")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            detail = event["exceptionDetails"]
            self.problems.append(detail.get("exception", {}).get("description") or detail["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(a.get("value", a.get("description"))) for a in event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.problems.append(event["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.asked[event["requestId"]] = event["request"]["url"]
        elif method == "Network.loadingFailed" and event.get("blockedReason") == "csp":
            self.refused.add(event["requestId"])
        elif method == "Page.loadEventFired":
            self._loaded = True

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a file in a window of that size and wait until it is drawn."""
        self.problems.clear()
        self.asked.clear()
        self.refused.clear()
        self._loaded = False
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.call("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._receive()
        self.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for and not refused."""
        return [address for request, address in self.asked.items() if request not in self.refused]

    def run(self, expression: str) -> Any:
        """The value of a script expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def picture(self, path: Path, *, selector: str | None = None) -> None:
        """A PNG of the whole page, or of one element."""
        box = self.run(
            f"[document.querySelector({json.dumps(selector or 'html')}).getBoundingClientRect()]"
            ".map((b) => [b.x + scrollX, b.y + scrollY, b.width, b.height])[0]"
        )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
