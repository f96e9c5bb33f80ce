"""A reader study as one page: readers without and with the model, what the gain generalises to, pooled ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from triage.audit import drawing
from triage.audit.blocks import Block, Bullets, Drawings, Heading, Paragraph, Rows, to_html
from triage.audit.cases import CLASSES
from triage.audit.mrmc_covariance import Covariance
from triage.audit.mrmc_power import Sampling, cases_needed, pilot_of
from triage.audit.obuchowski_rockette import Analysis, Generalisation
from triage.audit.reader_figures import beside_paper
from triage.audit.reader_study import OneFigure, ReaderStudy

KINDS = (
    ("readers and cases like these (RRRC)", "rrrc"),
    ("these readers, cases like these (FRRC, clipped)", "frrc"),
    ("the same, not clipped", "frrc_unclipped"),
    ("readers like these, these cases (RRFC)", "rrfc"),
)
WARNING = (
    "A model that helps readers is still not a diagnosis. Figures are of this study's readers, cases and class mix; a "
    "sequential design (without, then with) cannot tell the model's help from a second look."
)


def page_of(study: ReaderStudy, *, title: str, note: str = "", more: Sequence[Block] = ()) -> str:
    """The page; *note* stands on top, such as that the study is synthetic, *more* at the end."""
    return to_html(title, [*_top(study, note), *_readers(study), *_gains(study), *_roc(study), *_components(study),
                           *_power(study), *_paper(study), *more])  # fmt: skip


def _top(study: ReaderStudy, note: str) -> list[Block]:
    cases = ", ".join(f"{c} {n}" for c, n in zip(CLASSES, study.cases, strict=True))
    complete = "every reader read every case in every modality" if study.is_complete else "readings are missing"
    found: list[Block] = [Paragraph(note, is_warning=True)] if note else []
    found += [
        Paragraph(WARNING, is_warning=True),
        Paragraph(f"{len(study.readers)} readers, {sum(study.cases)} cases ({cases}), modalities "
                  f"{', '.join(study.modalities)}; {complete}. Intervals {study.level:.0%}."),
    ]  # fmt: skip
    order = study.order
    if order is not None and order.flags:
        found.append(Bullets([f.value for f in order.flags]))
    return found


def _readers(study: ReaderStudy) -> list[Block]:
    figures = [study.accuracy, *(c.figure for c in study.classes), study.hand_till]
    head = ["reader", *(f"{f.name} {m}" for f in figures for m in study.modalities)]
    rows = [
        [reader, *(_number(f.value[m, i]) for f in figures for m in range(len(study.modalities)))]
        for i, reader in enumerate(study.readers)
    ]
    spread = [
        (s.figure, s.modality, _number(s.mean), _number(s.sd), f"{_number(s.low)} to {_number(s.high)}")
        for s in study.spreads
    ]
    return [
        Heading("Readers"), Rows(head, rows),
        Rows(("figure", "modality", "mean of readers", "SD", "range"), spread),
    ]  # fmt: skip


def _gains(study: ReaderStudy) -> list[Block]:
    rows = []
    for figure in (study.accuracy, *(c.figure for c in study.classes), study.hand_till):
        for words, name in KINDS:
            rows += _gain(figure, words, getattr(figure.primary, name))
    adjusted = [
        (a.generalisation, *(f"{_number(p, 4)} / {_number(q, 4)}" for p, q in zip(a.p, a.adjusted, strict=True)))
        for a in study.adjusted[study.classes[0].figure.quoted]
    ]
    return [
        Heading("What the model changes"),
        Paragraph(
            "RRRC is the question usually asked: would other readers on other cases gain too? FRRC speaks of "
            "these readers "
            "only, RRFC of these cases only; where Cov2 < Cov3 the two ways of FRRC differ, and both are given."
        ),
        Rows(("figure", "generalises to", "gain", "interval", "p"), rows),
        Rows(("p plain / Holm", *(f"AUC {c}" for c in CLASSES)), adjusted),
    ]


def _gain(figure: OneFigure, words: str, found: Generalisation) -> list[tuple[str, ...]]:
    return [
        (f"{figure.name}, {figure.quoted.value}", words, f"{g.first} - {g.second}: {_number(g.value)}",
         f"{_number(g.low)} to {_number(g.high)}", _number(g.p, 4))
        for g in found.gains
    ]  # fmt: skip


def _roc(study: ReaderStudy) -> list[Block]:
    svgs = [
        drawing.roc({f"{p.modality} {p.area:.3f}": p.points.tolist() for p in one.pooled}, one.figure.name)
        for one in study.classes
    ]
    return [Drawings(svgs, "Pooled ROC curves: all readings of a modality as one, as in the paper's figure")]


def _components(study: ReaderStudy) -> list[Block]:
    rows = []
    for one in study.classes:
        for method in Covariance:
            if method in one.figure.analyses:
                rows.append(_component_row(one.figure.name, method, one.figure.analyses[method]))
    return [
        Heading("Variance components"),
        Rows(
            ("figure", "covariance", "Var R", "Var TR", "Var error", "DBM: R, C, TR, TC, RC, rest", "Cov2 < Cov3"), rows
        ),
    ]


def _component_row(name: str, method: Covariance, analysis: Analysis) -> tuple[str, ...]:
    c, d = analysis.components, analysis.components.dbm
    dbm = ", ".join(_number(v, 5) for v in (d.var_r, d.var_c, d.var_tr, d.var_tc, d.var_rc, d.var_trc_error))
    clipped = "yes" if c.is_clipped else "no"
    return name, method.value, _number(c.var_r, 5), _number(c.var_tr, 5), _number(c.var, 5), dbm, clipped


def _power(study: ReaderStudy) -> list[Block]:
    if len(study.modalities) < 2:
        return []
    pilot = pilot_of(study.classes[-1].figure.primary.components)
    rows = []
    for readers in (4, 6, 8, 12):
        cells = [str(readers)]
        for effect in (0.03, 0.05):
            needed = cases_needed(pilot, readers, effect, sampling=Sampling.RRRC)
            cells.append("more than 20,000" if needed is None else str(needed.cases))
        rows.append(cells)
    return [
        Heading("Planning the next study"),
        Rows(("readers", "cases for a gain of 0.03 in AUC covid, power 0.8", "cases for 0.05"), rows),
    ]


def _paper(study: ReaderStudy) -> list[Block]:
    rows = [
        (row.figure, row.modality, f"{row.mean:.3f} ± {row.sd:.3f}",
         "–" if ours is None else f"{_number(ours.mean)} ± {_number(ours.sd)}")
        for row, ours in beside_paper(study.spreads)
    ]  # fmt: skip
    return [
        Heading("Beside the published study (OTHER readers, OTHER cases)"),
        Rows(("figure", "modality", "Nishio et al.", "here"), rows),
    ]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "–"
