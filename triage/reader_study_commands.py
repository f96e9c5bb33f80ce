"""`triage reader-study analyse` and `example`: a table of readings becomes a report; an example with known truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from triage.audit.blocks import Block
from triage.audit.plain import to_json
from triage.domain.errors import Misconfigured

T = TypeVar("T")
SYNTHETIC = "This study is SYNTHETIC: made by a checked-in command, no reader and no patient."


def add_analysis(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Both steps; each sets `run`, which returns the exit status."""
    purpose = "Analyse readings: every reader, what the model changes, and to whom that generalises."
    analyse = commands.add_parser("analyse", help=purpose, description=purpose)
    analyse.add_argument("table", type=Path, help="CSV as `export` writes, or iMRMC's readerID,caseID,modalityID,score")
    analyse.add_argument("--out", type=Path, required=True, help="folder for report.html and report.json")
    analyse.add_argument("--washout", type=float, help="days between two sessions, as the protocol states")
    analyse.add_argument("--bayes", action="store_true", help="fit the nominal response model as well")
    analyse.add_argument("--synthetic", action="store_true", help="say on the page that the study is made up")
    analyse.set_defaults(run=_analyse)

    purpose = "Write a made-up study of three classes whose parameters are known."
    example = commands.add_parser("example", help=purpose, description=purpose)
    example.add_argument("--out", type=Path, required=True, help="CSV file")
    example.add_argument("--readers", type=int, default=8)
    example.add_argument("--cases", type=int, default=180)
    example.add_argument("--seed", type=int, default=1)
    example.set_defaults(run=_example)

    purpose = "Write one contrast, a class against the rest, in iMRMC's form."
    contrast = commands.add_parser("to-imrmc", help=purpose, description=purpose)
    contrast.add_argument("table", type=Path)
    contrast.add_argument("--class", dest="cls", choices=("normal", "pneumonia", "covid"), required=True)
    contrast.add_argument("--out", type=Path, required=True, help="CSV file")
    contrast.set_defaults(run=_to_imrmc)


def _analyse(chosen: argparse.Namespace) -> int:
    from triage.audit import ratings, reader_study, reader_study_page, reader_table

    text = _text(chosen.table)
    chosen.out.mkdir(parents=True, exist_ok=True)
    if "truth_class" not in text.partition("\n")[0]:
        found = _parsed(lambda: reader_study.analyse_ratings(ratings.read_imrmc(text), name="AUC"), chosen.table)
        (chosen.out / "report.json").write_text(to_json(found), encoding="utf-8")
        for gain in found.figure.primary.rrrc.gains:
            sys.stdout.write(
                f"AUC {gain.first} - {gain.second}: {gain.value:.4f} ({gain.low:.4f} to {gain.high:.4f})\n"
            )
        return 0
    table = _parsed(lambda: reader_table.read_table(text), chosen.table)
    study = reader_study.analyse_study(table, washout_days=chosen.washout)
    body: dict[str, object] = {"study": study}
    more: list[Block] = []
    if chosen.bayes:
        from triage.audit import item_response_page

        fit = item_response_page.fitted(table)
        body["nominal_response_model"] = item_response_page.summary(fit)
        more = item_response_page.blocks(fit, table.readers)
    title = f"Reader study {chosen.table.stem}"
    page = reader_study_page.page_of(study, title=title, note=SYNTHETIC if chosen.synthetic else "", more=more)
    (chosen.out / "report.html").write_text(page, encoding="utf-8")
    (chosen.out / "report.json").write_text(to_json(body), encoding="utf-8")
    for spread in study.spreads:
        sys.stdout.write(f"{spread.figure} {spread.modality}: {spread.mean:.3f} (SD {spread.sd:.3f})\n")
    sys.stdout.write(f"written to {chosen.out}\n")
    return 0


def _example(chosen: argparse.Namespace) -> int:
    from triage.audit.reader_table import write_table
    from triage.audit.synthetic_study import Design, make_study

    a, b = chosen.cases // 3, (chosen.cases + 1) // 3
    design = _parsed(lambda: Design(readers=chosen.readers, cases=(a, b, chosen.cases - a - b)), chosen.out)
    chosen.out.write_text(write_table(make_study(design, chosen.seed)), encoding="utf-8")
    sys.stdout.write(f"{SYNTHETIC}\n")
    return 0


def _to_imrmc(chosen: argparse.Namespace) -> int:
    from triage.audit.ratings import against_rest, write_imrmc
    from triage.audit.reader_table import read_table

    table = _parsed(lambda: read_table(_text(chosen.table)), chosen.table)
    chosen.out.write_text(write_imrmc(against_rest(table, chosen.cls)), encoding="utf-8")
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as why:
        raise Misconfigured(f"{path.name}: {type(why).__name__}") from why


def _parsed(read: Callable[[], T], path: Path) -> T:
    try:
        return read()
    except ValueError as why:
        raise Misconfigured(f"{path.name}: {why}") from why
