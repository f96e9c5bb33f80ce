"""`triage check`: weights held against their cards, and what their licences permit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models import card as cards
from triage.__main__ import FAILED, main
from triage.settings import Settings
from triage.wiring import NETWORKS, Service

SHIPPED = Path(cards.__file__).parent / "weights"
Make = Callable[..., Path]


@pytest.fixture
def make_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A copy of the shipped weights, which the settings name; what is handed over replaces the cards' own."""

    def make(**of_the_cards: object) -> Path:
        for name in NETWORKS:
            shutil.copy(SHIPPED / f"{name}.safetensors", tmp_path)
            stored = json.loads((SHIPPED / f"{name}.json").read_text())
            (tmp_path / f"{name}.json").write_text(json.dumps({**stored, **of_the_cards}))
        monkeypatch.setenv("TRIAGE_MODEL_FOLDER", str(tmp_path))
        return tmp_path

    return make


def check(capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left:
        main(["check"])
    return left.value.code, capsys.readouterr().out


def row(shown: str, network: str) -> list[str]:
    return next(
        [cell.strip() for cell in line.split("│")]
        for line in shown.splitlines()
        if line.strip().startswith(network) and "│" in line
    )


def test_the_shipped_weights_are_verified_and_their_limit_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIAGE_MODEL_FOLDER", raising=False)
    status, shown = check(capsys)
    assert status == 0
    for name in NETWORKS:
        card, identity = cards.read(SHIPPED / f"{name}.json")
        assert {card.version, identity.weights_sha256[:12], "yes"} <= set(row(shown, name))
        assert card.licence in shown
        assert cards.use_in_words([card]).split(": ")[1] in shown


@pytest.mark.parametrize(
    ("permitted", "cell", "sentence"),
    [
        (True, "yes", "commercial use permitted"),
        (False, "NO", "NOT for commercial use"),
        (None, "unknown", "commercial use not stated"),
    ],
)
def test_each_licence_limit_has_its_words_and_stops_nobody(
    make_weights: Make, capsys: pytest.CaptureFixture[str], permitted: bool | None, cell: str, sentence: str
) -> None:
    make_weights(commercial_use=permitted, version="9.9")
    status, shown = check(capsys)
    assert status == 0
    assert row(shown, "chest")[-1] == row(shown, "lungs")[-1] == cell
    assert f"Models lungs 9.9, chest 9.9: {sentence}; results are preliminary." in shown


def test_weights_that_are_not_the_cards_fail(make_weights: Make, capsys: pytest.CaptureFixture[str]) -> None:
    (make_weights() / "chest.safetensors").write_bytes(b"other")
    status, shown = check(capsys)
    assert status == FAILED
    assert "chest: weights chest.safetensors: sha256 " in shown
    assert (row(shown, "lungs")[-2], row(shown, "chest")[-2]) == ("yes", "no")


@pytest.mark.parametrize("missing", ["lungs.safetensors", "lungs.json"])
def test_a_missing_file_fails_and_the_other_network_is_still_shown(
    make_weights: Make, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    (make_weights() / missing).unlink()
    status, shown = check(capsys)
    assert status == FAILED
    assert f"{missing}: " in shown
    assert (row(shown, "lungs")[-2], row(shown, "chest")[-2]) == ("no", "yes")


def test_without_a_model_nothing_is_checked(
    make_weights: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (make_weights() / "lungs.json").unlink()
    monkeypatch.setenv("TRIAGE_MODEL", "off")
    assert check(capsys) == (0, "TRIAGE_MODEL is off: no network is in use\n")


def test_the_check_does_not_wake_torch() -> None:
    code = (
        "import sys\nfrom triage.__main__ import main\n"
        "try: main(['check'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")


@pytest.mark.parametrize(("model", "is_named"), [("on", True), ("off", False)])
def test_pages_name_the_licence_limit_only_of_a_model_in_use(make_weights: Make, model: str, is_named: bool) -> None:
    folder = make_weights(commercial_use=False, version="9.9")
    words = Service(Settings.from_env({"TRIAGE_MODEL": model, "TRIAGE_MODEL_FOLDER": str(folder)})).model_words
    assert words.licence == ("chest 9.9, lungs 9.9: NOT for commercial use" if is_named else "")


def test_networks_of_different_licences_are_told_apart() -> None:
    chest, lungs = (cards.read(SHIPPED / f"{name}.json")[0] for name in ("chest", "lungs"))
    mixed = cards.use_in_words([_with(chest, True), _with(lungs, None)])
    assert mixed == (
        f"chest {chest.version}: commercial use permitted; lungs {lungs.version}: commercial use not stated"
    )


def _with(card: cards.Card, permitted: bool | None) -> cards.Card:
    return cards.Card(**{**vars(card), "commercial_use": permitted})
