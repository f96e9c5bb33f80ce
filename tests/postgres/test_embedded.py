"""The embedded server: folders with spaces, long paths, a second start, and what root leaves behind."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from triage.domain.errors import Misconfigured, Unavailable
from triage.postgres import embedded
from triage.postgres.connect import connect


@pytest.mark.parametrize("name", ["a folder, with 'quotes' & 漢字", "long" * 30])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    server = embedded.start(tmp_path / name)
    try:
        with connect(server.url) as db:
            assert db.execute("SELECT current_user AS who").fetchone() == {"who": "triage"}
        assert embedded.start(tmp_path / name).url == server.url
    finally:
        server.stop()


def test_data_outlive_a_stop(tmp_path: Path) -> None:
    for _ in range(2):
        server = embedded.start(tmp_path)
        with connect(server.url) as db:
            db.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
            db.execute("INSERT INTO kept VALUES (1)")
            count = db.execute("SELECT count(*) AS n FROM kept").fetchone()
        server.stop()
    assert count == {"n": 2}


def test_no_account_is_made_and_no_other_folder_opened(tmp_path: Path) -> None:
    accounts, mode = Path("/etc/passwd").read_bytes(), tmp_path.stat().st_mode
    server = embedded.start(tmp_path / "inner")
    try:
        assert Path("/etc/passwd").read_bytes() == accounts
        assert tmp_path.stat().st_mode == mode
        owner = (tmp_path / "inner" / "data").stat().st_uid
        assert owner == os.getuid()
    finally:
        server.stop()
    assert not subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to stop being root")


@needs_root
def test_in_a_private_folder_of_somebody_root_becomes_that_somebody(tmp_path: Path) -> None:
    somebody = pwd.getpwnam("daemon")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, somebody.pw_uid, somebody.pw_gid)
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)  # pytest keeps its folders to root
    server = embedded.start(home / "project" / ".demo")
    try:
        assert (home / "project" / ".demo" / "data").stat().st_uid == somebody.pw_uid
        with connect(server.url) as db:
            assert db.execute("SELECT 1 AS one").fetchone() == {"one": 1}
    finally:
        server.stop()


@needs_root
def test_without_namespaces_root_becomes_nobody_or_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_namespaces_work", lambda: False)
    try:
        server = embedded.start(tmp_path / "inner")
    except (Misconfigured, Unavailable) as why:
        assert "embedded PostgreSQL" in str(why)  # a folder or a Python that nobody may enter, as /root is
        return
    try:
        assert (tmp_path / "inner" / "data").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    finally:
        server.stop()
