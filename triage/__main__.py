"""The commands. Each says what it does with --help, names what is wrong in one line, and exits non-zero when it is."""

from __future__ import annotations

import os

# the audit's products are small: on several threads they wait for each other (a report took six times as long)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

import psycopg

from triage import telemetry
from triage.domain.errors import Misconfigured, TriageError, Unavailable
from triage.settings import Settings
from triage.wiring import Service, now

USAGE, FAILED, UNAVAILABLE = 2, 1, 75
OPENED: list[Service] = []
Steps: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; the exit status is 0, 1 (failed), 2 (usage or configuration) or 75 (a peer did not answer)."""
    words = sys.argv[1:] if arguments is None else arguments
    chosen = _parser(words).parse_args(words)
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        sys.exit(run(chosen))
    except Misconfigured as why:
        _fail(USAGE, why)
    except Unavailable as why:
        _fail(UNAVAILABLE, why)
    except psycopg.OperationalError as why:  # PoolTimeout is one; its text may quote a statement, its type does not
        _fail(UNAVAILABLE, Unavailable(f"PostgreSQL does not answer ({type(why).__name__}); see TRIAGE_DATABASE_URL"))
    except TriageError as why:
        _fail(FAILED, why)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(FAILED)
    finally:
        while OPENED:
            OPENED.pop().close()


def _fail(status: int, why: Exception) -> None:
    sys.stderr.write(f"triage: {why}\n")
    sys.exit(status)


def _parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triage",
        description="Chest radiograph triage beside PACS, RIS and EHR. Settings are TRIAGE_* variables (README).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(run=run)
        return added

    demo = command("demo", _demo, "Run everything on this machine with sample radiographs, on loopback only.")
    demo.add_argument("--samples", default="", help="a folder of radiographs (PNG, JPEG, DICOM) instead of our own")
    demo.add_argument("--once", action="store_true", help="exit when every sample reached its end state")
    demo.add_argument("--folder", default=".demo", help="where the demo keeps its data (default: .demo)")
    demo.add_argument("--rate", type=float, default=4.0, help="radiographs sent per second (default: 4)")

    command("serve", _serve, "Serve the pages, the API and the read-only FHIR endpoint.")

    worker = command("worker", _worker, "Run a Celery worker for one or more roles.")
    worker.add_argument("--role", action="append", choices=("assess", "sweep", "deliver"), help="default: all")
    worker.add_argument("--processes", type=int, default=1, help="worker processes (default: 1)")

    command("listen", _listen, "Listen for HL7 v2 orders over MLLP.")

    sweep = command("sweep", _sweep, "Run the sweeper (Celery beat), or one sweep now.")
    sweep.add_argument("--once", action="store_true", help="sweep archive and EHR once, here, and say what was new")
    sweep.add_argument("--schedule", default="", help="file in which beat keeps its schedule")

    command("check", _check, "Hold the networks' weights against their cards; say what their licences permit.")

    command("migrate", _migrate, "Bring the database to this program's schema.")
    command("status", _status, "Show what is where and what is stuck; no patient data.")

    replay = command("replay", _replay, "Try something stored once more.")
    replay.add_argument("what", choices=("message", "entry", "delivery"))
    replay.add_argument("number", type=int)

    worklist = command("worklist", _worklist, "Print the reading list, with why each study stands where it stands.")
    worklist.add_argument("--limit", type=int, default=50)

    for name, (purpose, add_steps) in GROUPS.items():
        group = commands.add_parser(name, help=purpose, description=purpose)
        if words and words[0] == name:  # their statistics take a second to load: only where they are asked for
            add_steps(group.add_subparsers(required=True, metavar="STEP"))

    trail = command("audit-trail", _audit_trail, "Check the audit trail's chain.")
    trail.add_argument("action", choices=("verify",))
    return parser


def _add_audit(steps: Steps) -> None:
    from triage.audit_commands import add_commands

    add_commands(steps, lambda: _service(_settings()).audit, lambda: _service(_settings()).weights)


def _add_reader_study(steps: Steps) -> None:
    from triage.reader_study_commands import add_analysis
    from triage.reading_room.commands import add_commands

    add_commands(steps)
    add_analysis(steps)


GROUPS: dict[str, tuple[str, Callable[[Steps], None]]] = {
    "audit": ("The audit desk: does the model still perform as validated?", _add_audit),
    "reader-study": ("Run a reader study: prepare, serve, export, analyse.", _add_reader_study),
}
"""Commands with steps of their own, each adding them."""


def _settings() -> Settings:
    settings = Settings.from_env(os.environ)
    telemetry.configure(settings.log_level)
    return settings


def _service(settings: Settings) -> Service:
    """The parts of this process; what they opened is closed when the command ends."""
    service = Service(settings)
    OPENED.append(service)
    return service


def _demo(chosen: argparse.Namespace) -> int:
    from triage.demo.run import run_demo

    return run_demo(folder=chosen.folder, samples=chosen.samples, once=chosen.once, rate=chosen.rate)


def _serve(chosen: argparse.Namespace) -> int:
    import uvicorn

    settings = _settings()
    if settings.web_host not in {"127.0.0.1", "::1", "localhost"}:
        raise Misconfigured("TRIAGE_WEB_HOST: only a loopback address, until people can sign in for real")
    app = _service(settings).web_app(settings.web_secret or secrets.token_hex(32))
    # no access log of uvicorn's: it writes whole URLs, and FHIR searches carry identifiers in theirs
    uvicorn.run(
        app,
        host=settings.web_host,
        port=settings.web_port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=2,
    )
    return 0


def _worker(chosen: argparse.Namespace) -> int:
    from triage.tasks import app, require_broker

    settings = _settings()
    require_broker(settings)
    roles = chosen.role or ["assess", "sweep", "deliver"]
    _service(settings).check_before(roles)
    queues = ",".join(roles)
    app.worker_main([
        "worker", "--queues", queues, "--concurrency", str(chosen.processes), "--pool", "prefork",
        "--hostname", f"{queues.replace(',', '-')}-{os.getpid()}@%h", "--without-gossip", "--without-mingle",
        "--without-heartbeat", "--loglevel", "WARNING",
    ])  # fmt: skip
    return 0


def _listen(chosen: argparse.Namespace) -> int:
    from integrations.hl7.mllp import serve

    settings = _settings()
    service = _service(settings)
    service.pool.wait(30)

    async def listen() -> None:
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        await serve(
            settings.mllp_host,
            settings.mllp_port,
            service.hl7.on_message,
            on_garbage=service.hl7.on_garbage,
            ssl_context=service.tls,
            stop=stop,
        )

    asyncio.run(listen())
    return 0


def _sweep(chosen: argparse.Namespace) -> int:
    if not chosen.once:
        from triage.tasks import app, require_broker

        require_broker(_settings())
        app.Beat(schedule=chosen.schedule or "celerybeat-schedule", loglevel="WARNING").run()
        return 0
    from triage.intake import sweep_archive, sweep_orders

    settings = _settings()
    service = _service(settings)
    if service.ehr_orders is not None:
        changed = sweep_orders(
            ehr=service.ehr_orders, book=service.book, site=settings.site, clock=now, read=service.read_fhir,
            overlap=settings.fhir_overlap, lookback=settings.fhir_lookback,
        )  # fmt: skip
        sys.stdout.write(f"orders: {changed} new or changed\n")
    news = sweep_archive(
        archive=service.archive, book=service.book, site=settings.site, clock=now, rules=service.sweep_rules
    )
    sys.stdout.write(f"archive: {news} studies with news\n")
    return 0


def _check(chosen: argparse.Namespace) -> int:
    from triage.terminal import print_networks

    settings = _settings()
    if not settings.model_enabled:
        sys.stdout.write("TRIAGE_MODEL is off: no network is in use\n")
        return 0
    networks = _service(settings).checked_networks()
    print_networks(networks)
    return FAILED if any(one.problem for one in networks) else 0


def _migrate(chosen: argparse.Namespace) -> int:
    from triage.postgres.connect import connect
    from triage.postgres.migrate import migrate

    settings = _settings()
    if not settings.database_url:
        raise Misconfigured("TRIAGE_DATABASE_URL is not set")
    with connect(settings.database_url) as db:
        applied = migrate(db)
    sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to do\n")
    return 0


def _status(chosen: argparse.Namespace) -> int:
    from triage.terminal import print_status

    settings = _settings()
    print_status(_service(settings).book.overview(settings.site), settings)
    return 0


def _replay(chosen: argparse.Namespace) -> int:
    service = _service(_settings())
    if chosen.what == "entry":
        service.book.assess_again(chosen.number, "operator")
        sys.stdout.write(f"entry {chosen.number} is queued for assessment\n")
        return 0
    if chosen.what == "delivery":
        done = service.book.replay_delivery(chosen.number)
        sys.stdout.write(f"delivery {chosen.number} {'is due now' if done else 'is not parked or due'}\n")
        return 0 if done else FAILED
    kept = service.replay_message(chosen.number)
    if kept is None:
        raise TriageError(f"no stored message {chosen.number}")
    sys.stdout.write(f"message {chosen.number}: {kept.outcome} {kept.reason}\n")
    return 0 if kept.outcome in {"applied", "unchanged", "ignored"} else FAILED


def _worklist(chosen: argparse.Namespace) -> int:
    from triage.terminal import print_worklist

    settings = _settings()
    at = now()
    print_worklist(_service(settings).book.page(settings.site, limit=chosen.limit, at=at), at, title="Reading list")
    return 0


def _audit_trail(chosen: argparse.Namespace) -> int:
    broken = _service(_settings()).book.first_broken_audit_row()
    if broken is not None:
        raise TriageError(f"the audit trail is broken at row {broken}")
    sys.stdout.write("the audit trail's chain holds\n")
    return 0


if __name__ == "__main__":
    main()
