"""The nominal response model's part of a reader study's page: readers as the posterior sees them, what help changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from triage.audit.blocks import Block, Heading, Paragraph, Rows
from triage.audit.cases import CLASSES
from triage.audit.item_response import Fit, Posterior, Results, fit, results
from triage.audit.nominal_readings import readings
from triage.audit.predictive_check import predictive_check
from triage.audit.reader_table import WITH, WITHOUT, ReaderTable

MODEL = (
    "Multidimensional nominal response model (Nishio et al.): the answer of a reader to a case is drawn from "
    "softmax of "
    "the reader's row for the true class less the case's offsets; normal priors of SD 2. Our own sampler. Readings are "
    "taken as independent given reader and case."
)


def fitted(table: ReaderTable, *, seed: int = 1) -> tuple[Fit, tuple[str, ...]]:
    """The posterior of a study's readings, and the names of its modalities in the model's order."""
    names = tuple(m for m in (WITHOUT, WITH) if m in table.modalities) or table.modalities[:1]
    place = {table.modalities.index(name): i for i, name in enumerate(names)}
    kept = np.isin(table.modality, list(place))
    modality = np.array([place[int(m)] for m in table.modality[kept]])
    of = readings(table.reader[kept], table.case[kept], table.response[kept], table.truth, modality)
    return fit(of, seed=seed), names


def summary(found: tuple[Fit, tuple[str, ...]]) -> Mapping[str, Any]:
    """For the JSON beside the page."""
    said = results(found[0])
    return {
        "modalities": found[1],
        "diagnosis": said.diagnosis,
        "theta_centred": said.theta,
        "confusion": said.confusion,
        "accuracy": said.accuracy,
        "sensitivity": said.sensitivity,
        "specificity": said.specificity,
        "difficulty_rank": said.rank,
        "help": said.help,
        "predictive_p": predictive_check(found[0]).p,
    }


def blocks(found: tuple[Fit, tuple[str, ...]], names: tuple[str, ...]) -> list[Block]:
    """
    What a page shows.

    Args:
        names: of the readers.
    """
    of, modalities = found
    said, check = results(of), predictive_check(of)
    shown: list[Block] = [
        Heading("Item-response model"),
        Paragraph(MODEL),
        Paragraph(f"Chains: {said.diagnosis.verdict} (R-hat {said.diagnosis.r_hat:.4f}, effective draws "
                  f"{said.diagnosis.ess_bulk:.0f} bulk, {said.diagnosis.ess_tail:.0f} tail).",
                  is_warning=not said.diagnosis.is_usable),
        Rows(
            ("reader", "modality", "accuracy", *(f"sensitivity {c}" for c in CLASSES), "predictive p"),
            [
                (reader, modality, _one(said.accuracy, m, i),
                 *(_one(said.sensitivity, m, i, k) for k in range(len(CLASSES))), f"{check.p[m, i]:.2f}")
                for i, reader in enumerate(names)
                for m, modality in enumerate(modalities)
            ],
        ),
        Paragraph(
            "Medians and 95 % intervals over all cases of the study. A predictive p near 0: the model does not "
            "describe that reader."
        ),
    ]  # fmt: skip
    return [*shown, *_help(said)]


def _help(said: Results) -> list[Block]:
    if said.help is None:
        return []
    rows = [
        (f"true class {c}", _one(said.help.delta, k, k), f"{said.help.delta.above_0[k, k]:.3f}",
         _one(said.help.sensitivity, k))
        for k, c in enumerate(CLASSES)
    ]  # fmt: skip
    rows.append(("all classes", "", "", _one(said.help.accuracy)))
    return [
        Paragraph("What reading with the model changed, beyond what readers differ by."),
        Rows(("", "change of centred theta", "P(above 0)", "gain in sensitivity, or accuracy"), rows),
    ]


def _one(of: Posterior, *at: int) -> str:
    return f"{of.median[at]:.3f} ({of.low[at]:.3f} to {of.high[at]:.3f})"
