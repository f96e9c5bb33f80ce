"""The tables of the small runs: what each arm scores on sources it has never seen, with intervals by patient."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engine import CLASSES
from models.training.figures import auc, by_patient
from triage.domain.finding import ChestClass

NORMAL, PNEUMONIA, COVID = (CLASSES.index(c) for c in (ChestClass.NORMAL, ChestClass.PNEUMONIA, ChestClass.COVID))
Rows = npt.NDArray[np.int_]


@dataclass(frozen=True)
class Scored:
    """Test images of one run or of several, and their probabilities (n, 3)."""

    source: npt.NDArray[np.str_]
    label: npt.NDArray[np.str_]
    patient: npt.NDArray[np.str_]
    probability: npt.NDArray[np.float64]

    @classmethod
    def of(cls, done: Iterable[tuple[str, Mapping[str, Any]]], *, only_left_out: bool) -> Scored:
        """From the stored *done* runs, each with a name that keeps its patients apart from another's."""
        rows = [
            (source, label, f"{name}/{source}/{patient}", p)
            for name, run in done
            for source, label, _, patient, *p in run["tested"]
            if source in run["left_out"] or not only_left_out
        ]
        return cls(
            np.array([r[0] for r in rows]),
            np.array([r[1] for r in rows]),
            np.array([r[2] for r in rows]),
            np.array([r[3] for r in rows], dtype=np.float64).reshape(-1, 3),
        )

    def where(self, chosen: npt.NDArray[np.bool_]) -> Scored:
        """Some of the images."""
        return Scored(self.source[chosen], self.label[chosen], self.patient[chosen], self.probability[chosen])

    @property
    def truth(self) -> Rows:
        """Class indices; only of images labelled with a class."""
        return np.array([CLASSES.index(ChestClass(x)) for x in self.label], dtype=np.int_)


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The stored runs of each study."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted(folder.glob("*.json")):
        run = json.loads(file.read_text())
        found[run["study"]].append(run)
    return found


def recalls(scored: Scored) -> list[float]:
    """Of normal, pneumonia and COVID: how often the class is the most probable one."""
    chosen, truth = scored.probability.argmax(1), scored.truth
    return [float((chosen[truth == k] == k).mean()) for k in range(len(CLASSES))]


def areas(scored: Scored) -> list[float]:
    """One class against the rest, for each class."""
    return [auc(scored.probability[:, k], scored.truth == k) for k in range(len(CLASSES))]


def balanced_accuracy(scored: Scored) -> tuple[float, float, float]:
    """Mean recall with its 95 % interval by patient."""
    hit, truth = scored.probability.argmax(1) == scored.truth, scored.truth

    def mean_recall(rows: Rows) -> float:
        return float(np.mean([hit[rows][truth[rows] == k].mean() for k in np.unique(truth[rows])]))

    return mean_recall(np.arange(len(truth))), *by_patient(list(scored.patient), mean_recall)


def pair_area(scored: Scored, positive: tuple[str, str], negative: tuple[str, str], k: int) -> float:
    """Area of class *k*'s probability between two groups of (source, label)."""
    p = (scored.source == positive[0]) & (scored.label == positive[1])
    n = (scored.source == negative[0]) & (scored.label == negative[1])
    return auc(scored.probability[p | n, k], p[p | n])


def is_class(scored: Scored) -> npt.NDArray[np.bool_]:
    """Labelled normal, pneumonia or COVID."""
    return np.isin(scored.label, [str(c) for c in CLASSES])


def left_out_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every image scored by the network that never saw its source, per arm and seed."""
    lines = [
        "| arm | seed | balanced accuracy | recall normal / pneumonia / COVID | AUC normal / pneumonia / COVID |",
        "|---|---|---|---|---|",
    ]
    for arm, seed in sorted({(r["arm"], r["seed"]) for r in runs}):
        mine = [(str(r["left_out"]), r) for r in runs if (r["arm"], r["seed"]) == (arm, seed)]
        scored = Scored.of(mine, only_left_out=True)
        scored = scored.where(is_class(scored))
        value, low, high = balanced_accuracy(scored)
        lines.append(
            f"| {arm} | {seed} | {value:.3f} ({low:.3f}–{high:.3f}), n={len(scored.label)} | "
            f"{_joined(recalls(scored))} | {_joined(areas(scored))} |"
        )
    return lines


def unseen_table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The arms of an ablation, on two sources left out together and on fold 0 of the sources that were seen."""
    columns: dict[str, Callable[[Scored], float]] = {
        "AUC normal, Shenzhen TB against normal": lambda s: pair_area(
            s, ("shenzhen", "normal"), ("shenzhen", "other"), NORMAL
        ),
        "AUC COVID, journals against Shenzhen normal": lambda s: pair_area(
            s, ("web_other", "covid"), ("shenzhen", "normal"), COVID
        ),
        "AUC COVID, journals against Shenzhen TB": lambda s: pair_area(
            s, ("web_other", "covid"), ("shenzhen", "other"), COVID
        ),
        "recall normal, Shenzhen": lambda s: _recall(s, "shenzhen", NORMAL),
        "recall COVID, journals": lambda s: _recall(s, "web_other", COVID),
        "AUC pneumonia against normal, NIH fold 0 (seen)": lambda s: pair_area(
            s, ("nih_cxr14", "pneumonia"), ("nih_cxr14", "normal"), PNEUMONIA
        ),
        "recall COVID, Hannover fold 0 (seen)": lambda s: _recall(s, "hannover", COVID),
    }
    arms = sorted({r["arm"] for r in runs}, key=lambda a: [r["arm"] for r in runs].index(a))
    lines = ["| arm | seeds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for arm in arms:
        mine = [r for r in runs if r["arm"] == arm]
        each = [[figure(Scored.of([("", r)], only_left_out=False)) for figure in columns.values()] for r in mine]
        cells = [" / ".join(f"{seed[i]:.3f}" for seed in each) for i in range(len(columns))]
        lines.append(f"| {arm} | {len(mine)} | " + " | ".join(cells) + " |")
    return lines


def _recall(scored: Scored, source: str, k: int) -> float:
    own = (scored.source == source) & (scored.label == str(CLASSES[k]))
    return float((scored.probability[own].argmax(1) == k).mean())


def _joined(values: Iterable[float]) -> str:
    return " / ".join(f"{v:.3f}" for v in values)


def page(folder: Path) -> str:
    """Every table as Markdown; what has not been run yet is missing and said so."""
    studies = read(folder)
    ablations = [r for study in ("augmentation", "input", "start") for r in studies.get(study, [])]
    lines = [
        "# How the classifier is trained: small runs",
        "",
        "Every run: EfficientNet-Lite1, steps of 32 images, one processor core, whole sources left out; 160 steps at",
        "128 px where nothing else is said, the shipped recipe 100 steps at 192 px, a linear reader none.",
        "Each image below is scored by a network that never saw its source, save where a column says *seen*.",
        "Values of several seeds stand side by side. The external role took no part.",
        "",
        "    python -m models experiments --cxr $TRIAGE_CXR --weights-from IMAGENET --scratch DIR --budget-minutes 60",
        "    python -m models experiments … --baselines    # trivial and frozen features",
        "    python -m models experiments … --report       # this page from the stored runs",
        "",
        f"Runs stored: {sum(map(len, studies.values()))}. A missing run is begun by the first command.",
        "",
        "## Augmentation, input, start: Shenzhen and the journals left out together",
        "",
        *unseen_table(ablations),
        "",
        "## Leave one source out",
        "",
        *left_out_table(_complete(studies.get("leave-one-source-out", []))),
        "",
        *licence_section(studies),
        "## How to read this",
        "",
        "Where a class comes from one source alone (pneumonia from NIH, nearly all COVID from Hannover), leaving that",
        "source out takes the class away from training: a source-blind reader would score about a third, a reader of",
        "sources less.",
    ]
    return "\n".join(lines) + "\n"


def licence_section(studies: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """What images without written permission of commercial use are worth, on sources neither arm has seen."""
    all_of, permitted = studies.get("leave-one-source-out", []), studies.get("licence", [])
    arms = {
        "all": [r for r in all_of if r["arm"] == "with tuberculosis"],
        "commercially permitted": [r for r in permitted if r["arm"] == "commercially permitted"],
        "shipped recipe, all": [r for r in all_of if r["arm"] == "shipped recipe"],
        "shipped recipe, commercially permitted": [r for r in permitted if r["arm"].startswith("shipped recipe")],
    }
    lines = [
        "## Only images that may be used commercially",
        "",
        "Without Shenzhen the permitted images have normals and pneumonias from NIH alone, so NIH cannot be left out;",
        "of the other three sources, left out one by one, only normals and COVID count (they hold one pneumonia).",
        "",
        "| trained on | seed | mean of both recalls | recall normal, COVID | AUC normal, COVID |",
        "|---|---|---|---|---|",
    ]
    for arm, runs in arms.items():
        for seed in sorted({r["seed"] for r in runs}):
            mine = [(str(r["left_out"]), r) for r in runs if r["seed"] == seed and r["left_out"] != ["nih_cxr14"]]
            if len(mine) < 3:
                continue
            scored = Scored.of(mine, only_left_out=True)
            scored = scored.where(np.isin(scored.label, [str(ChestClass.NORMAL), str(ChestClass.COVID)]))
            value, low, high = balanced_accuracy(scored)
            shown = (NORMAL, COVID)
            hits = [float((scored.probability[scored.truth == k].argmax(1) == k).mean()) for k in shown]
            both = [auc(scored.probability[:, k], scored.truth == k) for k in shown]
            mean = f"{value:.3f} ({low:.3f}–{high:.3f}), n={len(scored.label)}"
            lines.append(f"| {arm} | {seed} | {mean} | {_joined(hits)} | {_joined(both)} |")
    return [*lines, ""]


def _complete(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Arms of which every source has been left out; Shenzhen's run serves the arm without its tuberculosis too."""
    shared = {r["seed"]: r for r in runs if r["arm"] == "with tuberculosis" and r["left_out"] == ["shenzhen"]}
    runs = list(runs) + [{**r, "arm": "without tuberculosis"} for r in shared.values()]
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for r in runs:
        groups[r["arm"], r["seed"]].append(r)
    return [r for group in groups.values() if len({tuple(r["left_out"]) for r in group}) == 4 for r in group]
