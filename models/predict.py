"""`python -m models predict FOLDER --out scores.csv`: the shipped networks on any folder of radiographs."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.progress import track

from models import gate, runtimes
from models.engine import AT_ONCE, CLASSES, CONVENTION, Engine, Reading
from models.pictures import Picture, kind_of, read_picture
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import ChestClass

COLUMNS = (
    *("file", "image_id", "p_normal", "p_pneumonia", "p_covid", "gate_score", "gate_limit"),
    *("eligible", "reason", "flagged", "lung_area", "activation_outside", "doubtful"),
)
WITHOUT_HEART = "manual"
"""The mask convention of lung fields without the heart, as masks drawn by hand have it: what a site will compare."""
MOST_PIXELS = 64_000_000
"""Of the pictures held at a time."""
NOTHING_READ = 2

Outcome = Reading | UnusableRadiograph
Row = Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """One file and what it is called in the results."""

    path: Path
    name: str
    image_id: str


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`predict`."""
    purpose = "run the shipped networks on a folder of radiographs (PNG, JPEG, DICOM)"
    command = commands.add_parser("predict", help=purpose, description=purpose)
    command.add_argument("folder", type=Path, help="searched with everything below it")
    command.add_argument("--out", type=Path, required=True, help="CSV file, one row for each file found")
    command.add_argument("--masks", type=Path, help="folder for lung masks, IMAGE_ID.png as large as the image")
    command.add_argument(
        "--convention",
        help="what IMAGE_ID.png counts as lung; others get IMAGE_ID.CONVENTION.png "
        f"(default: {WITHOUT_HEART}, without the heart, where the network knows it, else {CONVENTION})",
    )
    command.add_argument("--weights", type=Path, help="folder of weights and cards (default: the shipped ones)")
    command.add_argument("--runtime", choices=("auto", *runtimes.NAMES), default="auto")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the CSV and the masks, say what was refused and why."""
    if not arguments.folder.is_dir():
        Console(stderr=True).print(f"{arguments.folder} is not a folder", markup=False)
        sys.exit(NOTHING_READ)
    engine = Engine.load(arguments.weights, threads=arguments.threads, runtime=arguments.runtime)
    conventions = _conventions(engine, arguments.convention)
    files = found(arguments.folder, besides=[p for p in (arguments.out, arguments.masks) if p])
    if arguments.masks:
        _refuse_to_overwrite(files, arguments.masks, conventions)
    rows, was_read = [], False
    batches = _batches(track(files, "radiographs", console=Console(stderr=True)), engine)
    for batch in batches:
        for file, picture, outcome in _outcomes(batch, engine):
            rows.append(row_of(file, picture, outcome, engine))
            was_read = was_read or isinstance(picture, Picture)
            if arguments.masks and isinstance(picture, Picture) and isinstance(outcome, Reading):
                for suffix, convention in conventions.items():
                    mask = mask_of(outcome, convention, picture.pixels.shape)
                    write_mask(arguments.masks / f"{file.image_id}{suffix}.png", mask)
    write_csv(arguments.out, rows)
    _summary(rows, arguments.out)
    if not was_read:
        sys.exit(NOTHING_READ)


def found(folder: Path, besides: Sequence[Path] = ()) -> list[Found]:
    """
    Every file below *folder*, by name.

    A picture's image_id is its stem; where several share one, the path without suffix, else the whole path. Files that
    are no pictures are called by their whole path, so that a report beside an image does not change the image's name.

    Args:
        besides: files and folders that are not looked at: what this run writes.
    """
    without = [p.resolve() for p in besides if p.resolve() != folder.resolve()]
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not _is_within(p.resolve(), folder, without))
    relative = [p.relative_to(folder) for p in paths]
    called = [(p.stem, p.with_suffix("").as_posix(), p.as_posix()) for p in relative]
    level = [0 if kind_of(p) else 2 for p in paths]
    while True:
        taken = Counter(names[at] for names, at in zip(called, level, strict=True))
        shared = [i for i, names in enumerate(called) if taken[names[level[i]]] > 1 and level[i] < 2]
        if not shared:
            break
        for i in shared:
            level[i] += 1
    return [
        Found(path, _printable(names[2]), _printable(names[at]))
        for path, names, at in zip(paths, called, level, strict=True)
    ]


def _is_within(path: Path, folder: Path, without: Sequence[Path]) -> bool:
    """Whether *path* is one of *without* or below one; a folder that holds all of *folder* hides nothing."""
    above = {folder.resolve(), *folder.resolve().parents}
    return any(p not in above and (path == p or p in path.parents) for p in without)


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _batches(files: Iterable[Found], engine: Engine) -> Iterator[list[tuple[Found, Picture | UnusableRadiograph]]]:
    """Decoded files, as many at a time as the networks take and memory allows."""
    batch: list[tuple[Found, Picture | UnusableRadiograph]] = []
    pixels = 0
    for file in files:
        try:
            picture: Picture | UnusableRadiograph = read_picture(file.path, engine.intended_use)
        except UnusableRadiograph as refusal:
            picture = refusal
        batch.append((file, picture))
        pixels += picture.pixels.size if isinstance(picture, Picture) else 0
        if len(batch) == AT_ONCE or pixels > MOST_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _outcomes(
    batch: Sequence[tuple[Found, Picture | UnusableRadiograph]], engine: Engine
) -> Iterator[tuple[Found, Picture | UnusableRadiograph, Outcome]]:
    """What the networks say of each, whatever the gates say."""
    read = iter(_read([p.pixels for _, p in batch if isinstance(p, Picture)], engine))
    for file, picture in batch:
        yield file, picture, next(read) if isinstance(picture, Picture) else picture


def _read(pictures: Sequence[npt.NDArray[np.float32]], engine: Engine) -> list[Outcome]:
    try:
        return engine.read(pictures, despite_implausible=True)
    except Exception as exc:  # one picture must not cost the others their results
        if len(pictures) == 1:
            return [UnusableRadiograph("engine-error", type(exc).__name__)]
        return [outcome for picture in pictures for outcome in _read([picture], engine)]


def row_of(file: Found, picture: Picture | UnusableRadiograph, outcome: Outcome, engine: Engine) -> Row:
    """One line of the CSV: figures wherever the networks could be run, and the first reason against their use."""
    card = engine.cards["chest"]
    limit = card.gate_limit if card.gate_limit is not None else float("inf")
    reason = picture.refusal if isinstance(picture, Picture) else str(picture)
    row = {"file": file.name, "image_id": file.image_id, "gate_limit": f"{limit:.6g}", "flagged": "false"}
    if isinstance(outcome, UnusableRadiograph):
        reason = reason or str(outcome)
    else:
        if outcome.implausible is not None:
            reason = reason or f"lungs-implausible: {outcome.implausible}"
        if outcome.gate_score > limit:
            reason = reason or f"out-of-distribution: score {outcome.gate_score:.2f}, limit {limit:.2f}"
        threshold, most = card.threshold_of(ChestClass.COVID), card.activation_outside_limit
        outside, covid = outcome.activation_outside, float(outcome.probabilities[CLASSES.index(ChestClass.COVID)])
        row |= {f"p_{c.value}": f"{p:.6f}" for c, p in zip(CLASSES, outcome.probabilities, strict=True)}
        row["gate_score"] = f"{outcome.gate_score:.6g}"
        row["flagged"] = _claim(reason is None and threshold is not None and covid >= threshold)
        row["lung_area"] = f"{outcome.mask.mean():.4f}"
        row["activation_outside"] = "" if outside is None else f"{outside:.4f}"
        row["doubtful"] = _claim(outside is not None and most is not None and outside > most)
    return {**row, "eligible": _claim(reason is None), "reason": reason or ""}


def _claim(holds: bool) -> str:
    return "true" if holds else "false"


def _conventions(engine: Engine, wanted: str | None) -> dict[str, str]:
    """By the mask file's suffix behind the image_id: the convention it follows."""
    if wanted is not None and wanted not in engine.conventions:
        raise SystemExit(f"the lung network knows {', '.join(engine.conventions)}, not {wanted}")
    first = wanted or (WITHOUT_HEART if WITHOUT_HEART in engine.conventions else CONVENTION)
    return {"": first, **{f".{c}": c for c in engine.conventions if c != first}}


def _refuse_to_overwrite(files: Sequence[Found], masks: Path, conventions: Mapping[str, str]) -> None:
    inputs = {file.path.resolve() for file in files}
    for file in files:
        if any((masks / f"{file.image_id}{suffix}.png").resolve() in inputs for suffix in conventions):
            raise SystemExit(f"the masks would overwrite radiographs: choose another folder than {masks}")


def mask_of(reading: Reading, convention: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The kept lungs by *convention* as large as the image: its probabilities enlarged, then cut at one half."""
    probability = reading.lungs[convention].astype(np.float32)
    kept = reading.mask if convention == CONVENTION else gate.lung_field(probability).mask
    sure = np.where(kept, np.maximum(probability, 0.501), np.minimum(probability, 0.499))
    large = F.interpolate(torch.from_numpy(sure)[None, None], size=shape, mode="bilinear", align_corners=False)
    mask: npt.NDArray[np.bool_] = large[0, 0].numpy() > 0.5
    return mask


def write_mask(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    """A grey PNG, 255 inside, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(unfinished, format="PNG")
    unfinished.replace(path)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """All rows, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(path)


def _summary(rows: Sequence[Row], out: Path) -> None:
    """How many, and each refused file with its reason; nothing that a header says of a patient."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    refused = [row for row in rows if row["eligible"] == "false"]
    for row in refused:
        console.print(f"refused {row['file']}: {row['reason']}")
    by_reason = Counter(row["reason"].partition(":")[0] for row in refused)
    counts = ", ".join(f"{n} {reason}" for reason, n in by_reason.most_common())
    flagged = sum(row["flagged"] == "true" for row in rows)
    console.print(
        f"{len(rows)} files: {len(rows) - len(refused)} eligible, {flagged} of them flagged; {len(refused)} refused"
        + (f" ({counts})" if counts else "")
        + f". Written to {out}. Preliminary, for prioritisation only: no diagnosis."
    )
