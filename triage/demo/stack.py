"""Every role of the service as processes of this machine, on loopback, watched and restarted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import httpx
from rich.console import Console
from rich.progress import Progress

from triage.domain.errors import Misconfigured, Unavailable
from triage.postgres import embedded
from triage.postgres.connect import connect
from triage.postgres.migrate import migrate
from triage.settings import Settings

PR_SET_PDEATHSIG = 1
ROLES = {
    "listen": ["listen"],
    "serve": ["serve"],
    "sweep-deliver": ["worker", "--role", "sweep", "--role", "deliver", "--processes", "2"],
    "beat": ["sweep"],
}


class Stack:
    """
    The service of one folder; a context manager that leaves no process behind.

    Args:
        home: data, logs and sockets.
        peers: TRIAGE_* settings that name real peers (database, broker, archive, EHR) instead of the embedded ones.
    """

    def __init__(self, home: Path, console: Console, peers: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._peers = dict(peers or {})
        self._console = console
        self._logs = home / "logs"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str]] = {}
        self._stopping = threading.Event()
        self._lock = (home / "lock").open("w")
        self.archive_folder = home / "archive"
        self._env: dict[str, str] = {}
        self._postgres: embedded.Server | None = None

    def __enter__(self) -> Stack:
        import fcntl

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Misconfigured(f"a demo is already running in {self._home}") from None
        for folder in (self._logs, self.archive_folder, self._home / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._stopping.set()
        self._console.print("stopping ...")
        for child in self._children.values():
            child.terminate()  # only the parent: a worker's own children finish what they hold
        for child in self._children.values():
            try:
                child.wait(8)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if self._postgres is not None:
            self._postgres.stop()
        self._lock.close()

    @property
    def settings(self) -> Settings:
        """The settings that every process of the stack runs with."""
        return Settings.from_env(self._env)

    @property
    def env(self) -> dict[str, str]:
        """The TRIAGE_* variables of every process of the stack."""
        return {name: value for name, value in self._env.items() if name.startswith("TRIAGE_")}

    @property
    def address(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.settings.web_port}/"

    def start(self, progress: Progress) -> None:
        """
        Start PostgreSQL and every role but the assess worker.

        Raises:
            Unavailable: a role did not come up; its log is named.
        """
        task = progress.add_task("starting PostgreSQL", total=len(ROLES) + 2)
        database_url = self._peers.get("TRIAGE_DATABASE_URL", "")
        if not database_url:
            self._postgres = embedded.start(self._home / "postgres")
            database_url = self._postgres.url
        progress.update(task, advance=1, description="bringing the schema up to date")
        with connect(database_url) as db:
            migrate(db)
        self._env = self._environment(database_url)
        self._write_env()
        progress.update(task, advance=1, description="starting listener, pages, sweeper, workers")
        for name, arguments in ROLES.items():
            self._spawn(name, arguments)
        self._await("listen", lambda: _connects(self.settings.mllp_port))
        progress.advance(task)
        self._await("serve", lambda: _answers(f"{self.address}readyz"))
        progress.advance(task)
        for _ in range(len(ROLES) - 2):
            progress.advance(task)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    @property
    def logs(self) -> Path:
        """Where every role writes its log."""
        return self._logs

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The running process of a role; its process group holds the role's children."""
        return self._children[name]

    def start_assessing(self) -> None:
        """Start the assess worker, the only process that loads the networks."""
        if "assess" not in self._children:
            self._spawn("assess", ["worker", "--role", "assess"])

    def stay_up(self) -> None:
        """Wait for Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)

    def _environment(self, database_url: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRIAGE_")}
        secret = self._home / "web-secret"
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_hex(32))
        env = {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self._home / "tmp"),
            "TRIAGE_SITE": "demo",
            "TRIAGE_DATABASE_URL": database_url,
            "TRIAGE_BROKER_FOLDER": str(self._home / "broker"),
            "TRIAGE_ARCHIVE_FOLDER": str(self.archive_folder),
            "TRIAGE_ARCHIVE_LOOKBACK_DAYS": "36500",
            "TRIAGE_SETTLE_S": "1",
            "TRIAGE_ASK_AFTER_S": "2",
            "TRIAGE_ASK_EVERY_S": "3",
            "TRIAGE_SWEEP_EVERY_S": "1",
            "TRIAGE_ROLLOUT": "reorder",
            "TRIAGE_TIME_ZONE": "Asia/Tokyo",
            "TRIAGE_MLLP_PORT": str(_free_port(2575)),
            "TRIAGE_WEB_PORT": str(_free_port(8080)),
            "TRIAGE_WEB_SECRET": secret.read_text(),
        }
        if "TRIAGE_ARCHIVE_URL" in self._peers:
            del env["TRIAGE_ARCHIVE_FOLDER"]
        return {**env, **self._peers}

    def _write_env(self) -> None:
        """Leave the settings where a shell can source them: `triage status` and the like then speak to this stack."""
        file = self._home / "env"
        file.touch(mode=0o600)
        file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.env.items()))

    def _spawn(self, name: str, arguments: list[str]) -> None:
        self._commands[name] = arguments
        extra = ["--schedule", str(self._home / "beat-schedule")] if arguments == ["sweep"] else []
        with (self._logs / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", "triage", *arguments, *extra],
                env=self._env,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _watch(self) -> None:
        """Start again what died: the row remembers, so a new process takes over where the old one was."""
        pause, ended = 1.0, False
        while not self._stopping.wait(pause):
            pause = min(30.0, 2 * pause) if ended else 1.0  # what cannot start must not spin
            ended = False
            for name, child in list(self._children.items()):
                if child.poll() is not None and not self._stopping.is_set():
                    ended = True
                    log = self._logs / f"{name}.log"
                    self._console.print(f"[yellow]{name} ended ({child.returncode}); starting it again; see {log}[/]")
                    self._spawn(name, self._commands[name])

    def _await(self, name: str, is_up: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not is_up():
            if self._children[name].poll() is not None or time.monotonic() > until:
                raise Unavailable(f"{name} did not start; see {self._logs / (name + '.log')}")
            time.sleep(0.1)


def _die_with_parent() -> None:
    """In the child: do not outlive a demo that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port(wanted: int) -> int:
    """*wanted* if it is free on loopback, else one that is."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("no free port on loopback")


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
