"""A judgement in the forms others ask for: rows for a registry, a performance summary as regulators lay it out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = (
    "site", "as_of", "period_from", "model", "model_version", "card_sha256", "domain", "metric", "subgroup", "value",
    "lower_95", "upper_95", "n", "reference_value", "state",
)  # fmt: skip
"""In the manner of a registry that pools sites (ACR Assess-AI): one figure a row, no patient, no study."""


def registry_csv(body: Mapping[str, Any]) -> str:
    """Every figure of a judgement as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    model = body["model"]
    head = (body["site"], body["as_of"], body["period_from"], model["name"], model["version"], model["card_sha256"])
    for row in _rows(body):
        writer.writerow([*head, *("" if cell is None else cell for cell in row)])
    return text.getvalue()


def _rows(body: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    performance, counts = body["performance"], body["counts"]
    yield "volume", "studies", "", counts["studies"], None, None, counts["studies"], None, ""
    yield "volume", "assessed", "", counts["assessed"], None, None, counts["studies"], None, ""
    yield "volume", "labelled", "", counts["labelled"], None, None, counts["studies"], None, ""
    for one in performance["figures"]:
        local, verdict = one["local"], one["verdict"]
        yield (
            "performance", one["figure"], "", local["value"], local["low"], local["high"], performance["cases"],
            one["external"]["value"], verdict["state"],
        )  # fmt: skip
    for one in performance["subgroups"]:
        for name in ("sensitivity", "specificity", "area"):
            figure = one[name]
            yield (
                "subgroup", f"COVID {name}", f"{one['factor']}={one['name']}", figure["value"], figure["low"],
                figure["high"], one["positives"] + one["negatives"], None, one["state"],
            )  # fmt: skip
    for one in body["drift"]["inputs"]:
        yield (
            "drift", one["name"], one["family"], one["effect"], None, None, one["current"], None, one["state"]
        )  # fmt: skip


def performance_summary(body: Mapping[str, Any]) -> str:
    """
    The judgement as a summary of real-world performance in Markdown, in the order of a regulator's questions.

    Device, intended use, data, reference standard, results with intervals, subgroups, limitations, changes, actions.
    """
    model, counts, performance = body["model"], body["counts"], body["performance"]
    labels = body["labels"]["sources"]
    standard = ", ".join(f"{s['source']} {s['studies']} ({s['reader_saw_ai']} by who saw the AI)" for s in labels)
    lines = [
        f"# Real-world performance of {model['name']} {model['version']} at {body['site']}",
        "",
        f"**Device.** {model['name']} {model['version']}, card sha256 {model['card_sha256']}; COVID flagged from "
        f"{model['threshold']}. Preliminary triage aid: it moves a study forward in the reading list, never back, and "
        "makes no diagnosis.",
        "",
        f"**Data.** {counts['studies']} consecutive studies of {counts['patients']} patients from "
        f"{body['period_from']} "
        f"to {body['as_of']}; {counts['assessed']} assessed, refused: "
        + (", ".join(f"{k} {v}" for k, v in counts["refused"].items()) or "none")
        + ".",
        "",
        f"**Reference standard.** {standard or 'none yet'}. {counts['with_class']} studies have one of the "
        f"three classes.",
        "",
        f"**Results.** Cohort: {performance['cohort']}; intervals 95 %, patients as clusters.",
        "",
        "| figure | here | external validation | outcome |",
        "|---|---|---|---|",
        *(f"| {f['figure']} | {_said(f['local'])} | {_said(f['external'])} | {f['verdict']['outcome']} |"
          for f in performance["figures"]),
        "",
        "**Subgroups (COVID sensitivity).** "
        + ("; ".join(f"{s['factor']} {s['name']} {_said(s['sensitivity'])}" for s in performance["subgroups"]
                     if s["is_adequate"]) or "none has enough cases")
        + ".",
        "",
        f"**Conclusions.** {body['verdicts']['sentence']} A: {body['verdicts']['external']['reason']} "
        f"B: {body['verdicts']['change']['reason']}",
        "",
        "**Actions.**",
        *(f"- {a}" for a in body["actions"]),
        "",
        "**Limitations.** Not every study has a truth, and who has one may depend on the AI's result; "
        "corrected figures "
        "are in the full report. Labels by readers who saw the AI agree with it more than they should.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _said(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "–"
    limits = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{limits}"
