"""`triage reader-study prepare | serve | export | new-code`."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from triage.domain.errors import Misconfigured, Unavailable


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The steps of a reader study; each sets `run`, which returns the exit status."""
    purpose = "Fix the protocol of a study and print the readers' codes, once."
    prepare = commands.add_parser("prepare", help=purpose, description=purpose)
    prepare.add_argument(
        "cases",
        type=Path,
        help="folder with the images and cases.csv: caseID, file, truth_class, "
        "and for reading with the model p_normal, p_pneumonia, p_covid, overlay (PNG: a mask, or transparent)",
    )
    prepare.add_argument("--readers", type=_count, required=True, help="how many")
    prepare.add_argument("--washout", type=_days, default=28, help="days between two sessions (default: 28)")
    prepare.add_argument("--seed", type=int, help="of every order; default: drawn, and kept in study.json")
    prepare.add_argument("--scores", type=Path, help="probabilities, as `python -m models predict CASES --out` writes")
    prepare.set_defaults(run=_prepare)

    purpose = "Serve the reading room on this machine."
    serve = commands.add_parser("serve", help=purpose, description=purpose)
    serve.add_argument("cases", type=Path, help="a prepared folder")
    serve.add_argument("--port", type=int, default=8090, help="default: 8090")
    serve.add_argument("--host", default="127.0.0.1", help="a loopback address (default: 127.0.0.1)")
    serve.set_defaults(run=_serve)

    purpose = "Write the readings with the truth as CSV."
    export = commands.add_parser("export", help=purpose, description=purpose)
    export.add_argument("cases", type=Path, help="a prepared folder")
    export.add_argument("--out", type=Path, required=True, help="CSV file")
    export.add_argument("--partial", action="store_true", help="although readers are not finished")
    export.set_defaults(run=_export)

    purpose = "Print another code for a reader who lost theirs; the old one and every session end."
    renewed = commands.add_parser("new-code", help=purpose, description=purpose)
    renewed.add_argument("cases", type=Path, help="a prepared folder")
    renewed.add_argument("reader", help="R01, R02, ...")
    renewed.set_defaults(run=_new_code)


def _now() -> datetime:
    return datetime.now(UTC)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 99:
        raise argparse.ArgumentTypeError("a number of readers from 1 to 99")
    return int(text)


def _days(text: str) -> int:
    if not text.isdigit() or int(text) > 3650:
        raise argparse.ArgumentTypeError("whole days from 0 to 3650")
    return int(text)


def _prepare(chosen: argparse.Namespace) -> int:
    from triage.reading_room import codes
    from triage.reading_room.cases import TABLE, read_cases, sha256_of
    from triage.reading_room.prepared import PROTOCOL, Study, save
    from triage.reading_room.study import plan

    cases, truth = read_cases(chosen.cases, chosen.scores)
    readers = [f"R{number:02d}" for number in range(1, chosen.readers + 1)]
    seed = secrets.randbelow(2**32) if chosen.seed is None else chosen.seed
    if seed < 0:
        raise Misconfigured("--seed: 0 or more")
    is_crossed = cases[0].probabilities is not None
    given, salt = {reader: codes.new_code() for reader in readers}, secrets.token_bytes(16)
    study = Study(
        folder=chosen.cases, prepared_at=_now(), seed=seed, washout=timedelta(days=chosen.washout),
        table_sha256=sha256_of(chosen.cases / TABLE), cases={case.case_id: case for case in cases},
        orders=plan(truth, readers, seed, is_crossed=is_crossed),
        codes={reader: codes.hash_of(code, salt) for reader, code in given.items()},
        salt=salt, key=secrets.token_bytes(32),
    )  # fmt: skip
    save(study, anew=True)
    design = (
        f"two sessions at least {chosen.washout} days apart, without and with the model crossed"
        if is_crossed
        else "one session without the model: the cases have no probabilities"
    )
    sys.stdout.write(f"{len(cases)} cases, {len(readers)} readers, {design}; seed {seed}\n\n")
    sys.stdout.writelines(f"{reader}  {code}\n" for reader, code in given.items())
    sys.stdout.write(f"\nThese codes are shown this once; {PROTOCOL} keeps their hashes. Give each reader theirs.\n")
    return 0


def _serve(chosen: argparse.Namespace) -> int:
    from triage.web.signin import LOOPBACK

    if chosen.host not in LOOPBACK:
        raise Misconfigured(
            f"--host {chosen.host}: only a loopback address ({', '.join(sorted(LOOPBACK))}), for codes and images "
            "would travel in the clear; a reader elsewhere comes through a tunnel (ssh -L)"
        )
    import uvicorn

    from triage.reading_room.app import create_app
    from triage.reading_room.prepared import check_files, load
    from triage.reading_room.room import Room
    from triage.reading_room.store import held

    study = load(chosen.cases)
    check_files(study)
    with held(study.readings):
        app = create_app(Room.opened(study, _now))
        host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        sys.stdout.write(f"Reading room: http://{host}:{chosen.port} (Ctrl-C ends it; every reading given is kept)\n")
        sys.stdout.flush()
        uvicorn.run(
            app, host=chosen.host, port=chosen.port, access_log=False, log_config=None, server_header=False,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
    return 0


def _export(chosen: argparse.Namespace) -> int:
    from triage.reading_room.cases import read_truth
    from triage.reading_room.export import table
    from triage.reading_room.prepared import load
    from triage.reading_room.store import read_events

    study = load(chosen.cases)
    truth = read_truth(chosen.cases, study.table_sha256)
    events = {reader: read_events(study.journal_of(reader), order)[0] for reader, order in study.orders.items()}
    text = table(study, events, truth, _now(), partial=chosen.partial)
    unfinished = chosen.out.with_name(f".{chosen.out.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(chosen.out)
    except OSError as why:
        raise Unavailable(f"{chosen.out}: {why.strerror}") from None
    sys.stdout.write(f"{text.count(chr(10)) - 1} readings written to {chosen.out}\n")
    return 0


def _new_code(chosen: argparse.Namespace) -> int:
    from triage.reading_room import codes
    from triage.reading_room.prepared import load, save, with_code
    from triage.reading_room.store import held

    study = load(chosen.cases)
    with held(study.readings):
        code = codes.new_code()
        save(
            with_code(study, chosen.reader, codes.hash_of(code, study.salt), secrets.token_bytes(32)), anew=False
        )  # fmt: skip
    sys.stdout.write(f"{chosen.reader}  {code}\n")
    return 0
