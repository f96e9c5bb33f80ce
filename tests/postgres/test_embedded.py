"""The embedded server: folders with spaces, long paths, a second start, and what root leaves behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

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
