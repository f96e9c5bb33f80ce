"""
A hospital that is made up, whose truth is known: a year of studies, labels and readings for the audit to judge.

Each study has a true class and a latent picture; the model's probabilities are Bayes' own for equal classes, so it is
calibrated by construction until a scenario breaks something. Labels come late, flagged studies first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from triage.audit.cases import COVID, PNEUMONIA, UNKNOWN, Cases, Words
from triage.audit.evidence import AuditRules, Evidence, Labelled, Model

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MEANS = np.array([[0.0, 0.0], [1.9, 0.0], [1.15, 1.75]])
"""Where each class lies in the plane the model reads; unit variance."""
PREVALENCE = (0.55, 0.30, 0.15)
THRESHOLD = 0.33
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WIDTH = 16
"""Of the embedding: the plane, and what else an image holds."""


@dataclass(frozen=True)
class Scenario:
    """
    What happens on day *change*, and how labels come.

    Attributes:
        prevalence: class shares from the change on.
        vendor_share: of studies that come from another detector from then on.
        vendor_hurts: how far the new detector moves what the model reads.
        covid_relabelled: share of true COVID that is called pneumonia by the labels from then on.
        garbled: share of studies of which the model reads another patient's picture from then on.
        verified: share of flagged and of unflagged studies that ever get a label.
    """

    name: str
    expected: str
    prevalence: tuple[float, float, float] = PREVALENCE
    vendor_share: float = 0.0
    vendor_hurts: float = 0.0
    covid_relabelled: float = 0.0
    garbled: float = 0.0
    verified: tuple[float, float] = (0.95, 0.92)


SCENARIOS = (
    Scenario("in control", "no alarm, cause none"),
    Scenario("COVID twice as frequent", "cause prior, no fault", prevalence=(0.40, 0.30, 0.30)),
    Scenario("a new detector vendor", "cause covariate", vendor_share=0.6),
    Scenario("labels of COVID changed", "cause concept", covid_relabelled=0.6),
    Scenario("accuracy 10 points lower", "B alarms with the stated delay", garbled=0.31),
)


@dataclass(frozen=True, eq=False)
class Year:
    """
    Columns of the year's studies, in order of time; seconds since its first midnight.

    Attributes:
        seen: (n, 3) probabilities.
        labelled_at: NaN where no label ever comes; `label` is what it says.
    """

    at: Floats
    truth: Ints
    label: Ints
    seen: Floats
    is_flagged: npt.NDArray[np.bool_]
    patient: Ints
    vendor: Ints
    embedding: Floats
    pixels: Floats
    age: Floats
    is_ap: npt.NDArray[np.bool_]
    labelled_at: Floats
    is_sampled: npt.NDArray[np.bool_]
    change_day: int = field(default=240)


def made(
    scenario: Scenario, *, days: int = 365, a_day: float = 40, change: int = 240, sample: float = 0.04, seed: int = 1
) -> Year:
    """A year of *scenario*; before day *change* every scenario is the same hospital."""
    rng = np.random.default_rng(seed)
    n_day = rng.poisson(a_day, days)
    n = int(n_day.sum())
    day = np.repeat(np.arange(days), n_day)
    at = np.sort(day * 86400 + rng.uniform(7 * 3600, 19 * 3600, n))
    day = (at // 86400).astype(np.int64)
    later = day >= change
    truth = np.where(later, rng.choice(3, n, p=scenario.prevalence), rng.choice(3, n, p=PREVALENCE))
    vendor = (later & (rng.random(n) < scenario.vendor_share)).astype(np.int64)
    read = np.where(later & (rng.random(n) < scenario.garbled), rng.permutation(truth), truth)
    latent = MEANS[read] + rng.standard_normal((n, 2)) + scenario.vendor_hurts * vendor[:, None]
    seen = probabilities(latent)
    flagged = seen[:, COVID] >= THRESHOLD
    label = truth.copy()
    label[later & (truth == COVID) & (rng.random(n) < scenario.covid_relabelled)] = PNEUMONIA
    sampled = ~flagged & (rng.random(n) < sample)
    ever = sampled | (rng.random(n) < np.where(flagged, *scenario.verified))
    delay = np.where(flagged, rng.gamma(2.0, 0.6, n), rng.gamma(2.0, 2.5, n)) * 86400
    pixels = rng.normal(0.5, 0.05, n) + 0.06 * vendor
    embedding = np.column_stack([latent, rng.standard_normal((n, WIDTH - 2))])
    embedding[:, 2:6] += 1.2 * vendor[:, None]
    return Year(
        at, truth, label, seen, flagged, _patients(rng, n), vendor, embedding, pixels,
        np.clip(rng.normal(62, 16, n), 18, 99), rng.random(n) < 0.4, np.where(ever, at + delay, np.nan),
        sampled, change,
    )  # fmt: skip


def probabilities(latent: Floats) -> Floats:
    """Bayes' own (n, 3), the classes being equally frequent."""
    log = -0.5 * ((latent[:, None, :] - MEANS) ** 2).sum(axis=2)
    odds = np.exp(log - log.max(axis=1, keepdims=True))
    found: Floats = odds / odds.sum(axis=1, keepdims=True)
    return found


def _patients(rng: np.random.Generator, n: int) -> Ints:
    """About one study in seven is of a patient seen before."""
    number = np.arange(n)
    again = rng.random(n) < 0.15
    again[0] = False
    number[again] = rng.integers(0, np.flatnonzero(again))
    return number


def cases_of(year: Year, rows: npt.NDArray[np.intp], *, as_of: float = np.inf) -> Cases:
    """Studies as the audit sees them, their truth only where its label had come by *as_of*, in seconds."""
    known = year.labelled_at[rows] <= as_of
    return Cases(
        probability=year.seen[rows],
        truth=np.where(known, year.label[rows], UNKNOWN),
        patient=year.patient[rows],
        day=(year.at[rows] // 86400).astype(np.int64),
        is_flagged=year.is_flagged[rows],
        numbers={"age_years": year.age[rows], "pixel mean": year.pixels[rows]},
        words={
            "manufacturer": Words.of(np.where(year.vendor[rows] == 1, "Newray", "Oldray").tolist()),
            "view_position": Words.of(np.where(year.is_ap[rows], "AP", "PA").tolist()),
            "refusal": Words.of([""] * len(rows)),
        },
        coordinates=year.embedding[rows],
    )


def evidence_of(
    year: Year, *, acceptance: int = 120, as_of_day: int = 365, external: Year | None = None,
    rules: AuditRules | None = None,
) -> Evidence:  # fmt: skip
    """What the audit would be handed at the start of *as_of_day*, without a database."""
    at, start = as_of_day * 86400.0, acceptance * 86400.0
    local = np.flatnonzero(year.at < start)
    rows = np.flatnonzero((year.at >= start) & (year.at < at))
    heard = np.where(year.labelled_at[rows] <= at, year.labelled_at[rows], np.nan)
    has = np.isfinite(heard)
    sampled = year.is_sampled[rows]
    instant = (EPOCH + timedelta(days=as_of_day)).isoformat()
    return Evidence(
        site="made-up",
        as_of=instant,
        period_from=(EPOCH + timedelta(days=acceptance)).isoformat(),
        as_of_day=as_of_day,
        model=Model("chest", "simulated", "0" * 64, THRESHOLD),
        external=None if external is None else cases_of(external, np.arange(len(external.at))),
        local=cases_of(year, local) if len(local) else None,
        studies=cases_of(year, rows, as_of=at),
        labelled=Labelled(
            delay=(heard - year.at[rows]) / 86400,
            age=(at - year.at[rows]) / 86400,
            source=np.where(has, np.where(sampled, 3, 4), -1),
            reader_saw_ai=has & ~sampled,
            design_weight=np.where(sampled, 25.0, 0.0),
        ),
        rules=rules or AuditRules(),
    )


def validation(*, cases: int = 900, seed: int = 1001) -> Year:
    """An external validation from the same made-up world: *cases* with the three classes alike."""
    even = Scenario("external", "", prevalence=(1 / 3, 1 / 3, 1 / 3), verified=(1.0, 1.0))
    return made(even, days=max(1, cases // 60), a_day=60, change=0, seed=seed)
