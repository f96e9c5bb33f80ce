"""A judgement as one self-contained HTML page for a QA officer: verdicts first, then what they rest on; no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from triage.audit import charts, drawing
from triage.audit.cases import CLASSES
from triage.audit.charts import Interval, Series
from triage.audit.page_style import STYLE

Body = Mapping[str, Any]
LINE = 22 * "_"
COLOUR_OF = {"IN CONTROL": "ok", "WATCH": "watch", "ALARM": "alarm", "INSUFFICIENT": "none"}
GLOSSARY = (
    ("IN CONTROL", "the data are enough to have shown a loss that matters, and show none"),
    ("WATCH", "weaker than expected; may be chance; look again with the next report"),
    ("ALARM", "worse than expected beyond the declared margin and chance; somebody must decide"),
    ("INSUFFICIENT", "neither good nor bad news: too few cases to tell"),
    ("Confidence sequence", "an interval that holds at every look at once, so that looking daily does not cry wolf"),
    ("Mature cohort", "studies old enough for nearly all their labels to have come"),
)


def page_of(body: Body) -> str:
    """The page of a judgement's *body*."""
    sections = (
        _top, _verdicts, _actions, _performance, _watching, _cause, _inputs, _calibration, _benefit, _subgroups,
        _verification, _labels, _waits, _tail,
    )  # fmt: skip
    inner = "\n".join(section(body) for section in sections)
    title = f"Does the model still perform? {body['site']}, as of {body['as_of'][:10]}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{inner}\n</body></html>\n"
    )


# --- words and numbers ---


def number(value: Any, digits: int = 3) -> str:
    """A figure as a person reads it; a dash for what cannot be given."""
    if value is None:
        return "–"
    if isinstance(value, float) and digits:
        return f"{value:.{digits}f}"
    return str(value)


def with_limits(figure: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Value and interval."""
    if figure is None or figure.get("value") is None:
        return "–"
    if figure.get("low") is None:
        return number(figure["value"], digits)
    return f"{figure['value']:.{digits}f} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are text."""
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>" if rows else "<p>Nothing to show.</p>"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _p(words: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(words)}</p>' if kind else f"<p>{escape(words)}</p>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _state(state: str) -> str:
    return f'<span class="state {COLOUR_OF.get(state, "none")}">{escape(state)}</span>'


# --- the sections ---


def _top(body: Body) -> str:
    model, counts = body["model"], body["counts"]
    facts = [
        ("site", body["site"]),
        ("as of", body["as_of"]),
        ("studies since", body["period_from"]),
        ("model", f"{model['name']} {model['version']}, COVID flagged from {number(model['threshold'])}"),
        ("card", model["card_sha256"][:16]),
        ("studies", f"{counts['studies']} of {counts['patients']} patients: {counts['assessed']} assessed, "
                    f"{sum(counts['refused'].values())} refused, {counts['flagged']} flagged"),
        ("labelled", f"{counts['labelled']}, {counts['with_class']} of them with one of the three classes ("
                     + ", ".join(f"{c} {n}" for c, n in counts["by_class"].items()) + ")"),
        ("data", f"sha256 {body['data_sha256'][:16]}"),
    ]  # fmt: skip
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts)
    return (
        "<header><h1>Does the model still perform as in external validation?</h1>"
        + _p("AI results are preliminary and not for diagnosis; not flagged means no effect, never negative.", "safety")
        + f'<dl class="facts">{listed}</dl></header>'
    )


def _verdicts(body: Body) -> str:
    found = body["verdicts"]
    cards = "".join(
        f'<div class="verdict {COLOUR_OF.get(v["state"], "none")}"><h3>{escape(title)}</h3>{_state(v["state"])}'
        f"<p>{escape(v['reason'])}</p></div>"
        for title, v in (
            ("A. Consistent with external validation?", found["external"]),
            ("B. Worse here since the local acceptance?", found["change"]),
        )
    )
    cause = found["cause"]
    why = (
        '<div class="verdict plain"><h3>C. If something moved: what?</h3>'
        f'<span class="state none">{escape(cause["name"])}</span><p>{escape(cause["sentence"])}</p></div>'
    )
    return f'<p class="sentence">{escape(found["sentence"])}</p><div class="verdicts">{cards}{why}</div>'


def _actions(body: Body) -> str:
    listed = "".join(f"<li>{escape(a)}</li>" for a in body["actions"])
    notes = "".join(_p(n, "note") for n in body["notes"])
    return _section("What to do", f"<ol>{listed}</ol>", notes)


def _performance(body: Body) -> str:
    found, margin = body["performance"], body["rules"]["margin"]
    rows = [
        Interval(
            f["figure"], _triple(f["local"]), _triple(f["external"]), f["verdict"]["outcome"].lower(),
            None if f["external"]["value"] is None else f["external"]["value"] - margin,
        )
        for f in found["figures"]
    ]  # fmt: skip
    words = [
        (f["figure"], with_limits(f["local"]), with_limits(f["external"]), f["verdict"]["outcome"].lower(),
         number(f["verdict"]["detectable_drop"]))
        for f in found["figures"]
    ]  # fmt: skip
    return _section(
        "Performance beside external validation",
        _p(
            f"Cohort: {found['cohort']}, {found['cases']} cases of {found['patients']} patients. Compared with: "
            f"{found['figures'][0]['basis']}. Declared margin {margin:.2f}: the tick marks what would lie beyond it. "
            "The external figures are uncertain too, and the verdict counts both uncertainties."
        ),
        _figure(charts.forest(rows, "Local and external figures", ours="here", theirs="external"), "95 % intervals"),
        table(("figure", "here", "external", "verdict", "drop that 80 % of such windows would show"), words),
        _confusion(found["confusion"]),
    )


def _confusion(matrix: Sequence[Sequence[float]]) -> str:
    rows = [[f"truly {c}", *(f"{n:.0f}" for n in row)] for c, row in zip(CLASSES, matrix, strict=True)]
    return table(("", *(f"called {c}" for c in CLASSES)), rows)


def _triple(figure: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    return figure["value"], figure["low"], figure["high"]


def _watching(body: Body) -> str:
    parts = []
    for name, watch in body["change"]["detectors"].items():
        course = watch["course"]
        days = course["days"]
        first = days[0] if days else 0
        total, hits, line, band = 0.0, 0.0, [], []
        for day, n, h, low, high in zip(days, course["n"], course["hits"], course["low"], course["high"], strict=True):
            total, hits = total + n, hits + h
            line.append((day - first, hits / total if total else None))
            band.append((low, high))
        reference = watch["baseline"]["reference"]
        parts.append(f"<h3>{escape(name)} {_state(watch['state'])}</h3>")
        parts.append(_figure(
            charts.course(
                [Series("all labels so far", line, band)], name, across="days since acceptance", up="share",
                limits=[] if reference is None else [(reference, "lower limit of the acceptance")],
                marks=_days(watch, first),
            ),
            "Share so far with its confidence sequence, which holds at every day at once",
        ))  # fmt: skip
        evidence = [(d - first, None if e is None else 2.718281828459045 ** min(e, 60.0))
                    for d, e in zip(days, course["evidence"], strict=True)]  # fmt: skip
        parts.append(_figure(
            charts.course(
                [Series("evidence of a fall", evidence)], "Evidence of a fall (e-SR)", across="days since acceptance",
                up="evidence", is_log=True, limits=[(watch["alarm_at"], "alarm")], marks=_days(watch, first),
            ),
            f"A false alarm at most once in {watch['rules']['alarm_every']:g} days with labels on average; a fall of "
            f"{watch['rules']['drop']:.2f} is found after {number(watch['delay']['median'], 0)} days in half "
            f"of all cases",
        ))  # fmt: skip
    return _section("Watched every day", *(parts or [_p(body["verdicts"]["change"]["reason"])]))


def _days(watch: Mapping[str, Any], first: int) -> list[tuple[float, str]]:
    named = (("since_day", "most likely began"), ("first_alarm_day", "alarm"))
    return [(watch[key] - first, words) for key, words in named if watch[key] is not None]


def _cause(body: Body) -> str:
    parts = body["drift"]["attribution"]
    rows = "".join(f"<li><b>{escape(p['name'])}</b>: {escape(p['sentence'])}</li>" for p in parts)
    shares = body["drift"]["prevalence"]
    drawn = [
        (f"{c}, {when}", shares[key][k] if shares[key] else None,
         shares[f"{key}_low"][k] if shares.get(f"{key}_low") else None,
         shares[f"{key}_high"][k] if shares.get(f"{key}_high") else None)
        for k, c in enumerate(CLASSES) for when, key in (("at acceptance", "reference"), ("now", "current"))
    ] if shares else []  # fmt: skip
    chart = charts.bars(drawn, "Share of each class", most=1.0) if drawn else ""
    caption = "Class shares without labels (expectation-maximisation), 95 % bootstrap intervals"
    return _section(
        "What moved",
        _p(body["drift"]["cause"]["sentence"]),
        f"<ul>{rows}</ul>",
        _figure(chart, caption) if chart else "",
    )


def _inputs(body: Body) -> str:
    rows = [
        (r["family"], r["name"], f"{r['reference']} / {r['current']}", number(r["effect"]), number(r["p"], 4),
         number(r["adjusted"], 4), r["state"])
        for r in body["drift"]["inputs"]
    ]  # fmt: skip
    estimated = body["drift"]["estimated"]
    words = [_p(estimated["assumption"], "note")] if estimated else []
    if estimated:
        words.insert(0, _p(
            f"Expected accuracy without labels: {with_limits(estimated['accuracy'])}; realised where labelled: "
            f"{with_limits(estimated['realised'])}."
        ))  # fmt: skip
    return _section(
        "The images and what the model said of them",
        _p(
            "Effect: the largest change in the share of cases on one side of any value. p is adjusted for "
            "looking at all "
            "of these at once. A changed input is no harm by itself and never an alarm."
        ),
        table(("kind", "what", "cases then / now", "effect", "p", "adjusted p", "state"), rows),
        *words,
    )


def _calibration(body: Body) -> str:
    found, pictures, rows = body["performance"]["calibration"], [], []
    for name, one in found.items():
        points = [(b["n"], b["predicted"], b["observed"] * b["n"]) for b in one["reliability"]
                  if b["n"] and b["predicted"] is not None]  # fmt: skip
        pictures.append(drawing.reliability(points, name))
        line = one["line"]
        rows.append(
            (name, number(line["intercept"]), number(line["slope"]), number(one["brier"]), number(one["error"]))
        )
    return _section(
        "Calibration",
        _figure("".join(pictures), "said against seen, in bins of equal counts"),
        table(("class", "intercept", "slope", "Brier score", "calibration error, debiased"), rows),
    )


def _benefit(body: Body) -> str:
    found = body["performance"]["net_benefit"]
    curve = found["curve"]
    lines = [
        Series("model", list(zip(curve["threshold"], curve["model"], strict=True))),
        Series("flag all", list(zip(curve["threshold"], curve["flag_all"], strict=True)), colour=1),
        Series("flag none", [(t, 0.0) for t in curve["threshold"]], colour=2),
    ]
    top = max([0.02, *(v for v in curve["model"] if v is not None)])
    return _section(
        "Is flagging worth it?",
        _figure(
            charts.course(lines, "Net benefit for COVID", across="threshold", up="true positives a case",
                          span=(-0.25 * top, 1.15 * top), marks=[(found["threshold"], "policy")]),
            f"At the policy threshold {found['threshold']:.2f}: {with_limits(found['at_threshold'], 4)}; flagging all "
            f"would give {number(found['flag_all'], 4)}",
        ),
    )  # fmt: skip


def _subgroups(body: Body) -> str:
    rows = [
        Interval(
            f"{s['factor']} {s['name']}", _triple(s["sensitivity"]), None,
            f"n={s['positives']}+{s['negatives']}, {s['state'].lower()}" if s["is_adequate"]
            else f"insufficient: {s['positives']} COVID, {s['negatives']} others",
        )
        for s in body["performance"]["subgroups"]
    ][:40]  # fmt: skip
    if not rows:
        return ""
    return _section(
        "Subgroups: sensitivity for COVID at the operating point",
        _figure(charts.forest(rows, "Sensitivity by subgroup", ours="sensitivity", theirs=""), "95 % intervals; a "
                "subgroup is marked WATCH only if it stays low after being drawn towards the whole"),
    )  # fmt: skip


def _verification(body: Body) -> str:
    found = body["corrected"]
    ways = (
        ("every label so far, uncorrected", found["naive"]),
        ("Begg and Greenes: truth missing at random among flagged and among unflagged", found["begg_greenes"]),
        ("random audit sample: no assumption", found["random_audit"]),
        ("early view: each label weighed by how few of its kind have come", body["labels"]["early_view"]),
    )
    rows = [(words, with_limits(one["sensitivity"]), with_limits(one["specificity"])) for words, one in ways]
    low, high = (
        (found["bounds_if_not_at_random"][0] or [None, None]) if found["bounds_if_not_at_random"] else (None, None)
    )
    return _section(
        "Who was verified, and what that does to the figures",
        _p(f"{found['verified']} of {found['studies']} old enough studies have a truth; "
        f"{found['audit_reads']} unflagged ones "
           "were read because they were drawn by chance."),
        table(("COVID", "sensitivity", "specificity"), rows),
        _p(f"If the truth is not missing at random (odds up to two either way) the sensitivity lies between "
        f"{number(low)} "
           f"and {number(high)}."),
    )  # fmt: skip


def _labels(body: Body) -> str:
    found = body["labels"]
    rows = [(s["source"], str(s["studies"]), str(s["reader_saw_ai"])) for s in found["sources"]]
    lines = [
        Series("flagged" if c["flagged"] else "not flagged",
               list(zip([0.0, *c["age"]], [0.0, *c["share"]], strict=True)),
               colour=0 if c["flagged"] else 1, is_step=True)
        for c in found["delay"]
    ]  # fmt: skip
    return _section(
        "Labels",
        table(("source", "studies", "reader saw the AI"), rows),
        _figure(
            charts.course(
                lines, "Share of studies with a label", across="days since the study", up="share", span=(0, 1)
            ),
            "Kaplan-Meier; flagged studies are read first, so labels so far flatter the sensitivity",
        ),
        _p(f"{found['amended']} studies were amended by their own source; "
           + ("; ".join(f"{c['first']} and {c['second']} differ on {c['differ']} of {c['both']}"
                        for c in found["conflicts"])
              or "no two sources label the same study") + "."),
    )  # fmt: skip


def _waits(body: Body) -> str:
    found = body["waits"]
    if found is None:
        return _section("Waits", _p("Nothing has been read yet."))
    rows = [
        (f"{g['kind']}: {g['name']}", str(g["studies"]), _minutes(g["real_median_s"]), _minutes(g["real_p90_s"]),
         _minutes(g["real_p99_s"]), _minutes(g["mean_s"]), _minutes(g["first_come_mean_s"]), _saved(g["saving_s"]))
        for g in found["groups"]
    ]  # fmt: skip
    return _section(
        "Waits, from the first readable image to opening",
        _p("Beside what first come, first read would have given with the same openings. What some gain, "
        "others wait; the "
           "COVID that the AI missed is among those who wait."),
        table(("studies", "n", "median", "p90", "p99", "mean", "first come mean", "saved (95 %)"), rows),
    )  # fmt: skip


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds / 60:.1f} min"


def _saved(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "–"
    limits = "" if figure["low"] is None else f" ({figure['low'] / 60:.1f} to {figure['high'] / 60:.1f})"
    return f"{figure['value'] / 60:+.1f} min{limits}"


def _tail(body: Body) -> str:
    budget, rules = body["budget"], body["rules"]
    rows = [(f"{s['year']}-{s['month']:02d}", s["family"], number(s["alpha"], 4)) for s in budget["spent"]]
    words = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in GLOSSARY)
    return _section(
        "Small print",
        _p(f"Error budget of {budget['year']}: {budget['alpha_year']:.2f} for all looks at drift and cause together, "
           f"{budget['spent_before']:.3f} spent before, {budget['this_report']:.3f} by this report. Daily watch: "
           f"{budget['daily_watch']}."),
        table(("month", "family", "alpha"), rows) if rows else "",
        _p("Declared before looking: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in rules.items()) + "."),
        f'<dl class="words">{words}</dl>',
        f"<pre>{escape(body['command'])}</pre>",
        f'<p class="sign">Reviewed by {LINE} &nbsp; on {LINE[:14]} &nbsp; decision {LINE}</p>',
    )  # fmt: skip
