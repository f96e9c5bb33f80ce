"""
Milliseconds a radiograph costs from bytes to assessment: decoding, networks, gates; by runtime and batch size.

    python -m benchmarks.engine [--rounds 5] [--threads 2] [--folder FOLDER]

The first line is the same path with plain PyTorch: fp32, one image at a time, default memory layout. All are measured
in turn in every round, so a busy machine slows them alike. "gates" is everything else: squaring, the gates themselves,
the crop, shares, contours, statistics. bf16 and ONNX Runtime are no runtimes of the product: the first is measured
here for the record, the second was measured once (benchmarks/README.md).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from benchmarks.common import machine
from integrations.dicomweb.radiograph import to_radiograph
from models import runtimes
from models.card import verified_weights
from models.engine import WEIGHTS, Engine, loaded
from models.pictures import read_picture
from models.runtimes import Run
from triage.demo.sample import own_samples
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import UnusableRadiograph
from triage.domain.finding import Assessment
from triage.domain.imaging import InstanceFacts, Radiograph

AT = datetime(2026, 1, 1, tzinfo=UTC)
Decode = Callable[[], Radiograph]


class Timed:
    """A network that keeps the time spent in it."""

    def __init__(self, run: Run) -> None:
        self._run, self.seconds = run, 0.0

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        started = time.perf_counter()
        try:
            return self._run(images)
        finally:
            self.seconds += time.perf_counter() - started


@dataclass
class Variant:
    """One way to run the networks, and what it cost so far: (decoding, networks, gates, total, processor) in ms."""

    name: str
    engine: Engine
    at_once: int
    costs: list[tuple[float, ...]]

    def median(self, column: int) -> float:
        """Milliseconds a radiograph."""
        return statistics.median(cost[column] for cost in self.costs)


def one_by_one(net: nn.Module) -> Run:
    """Plain fp32 in the default layout, image after image."""

    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            parts = [_several(net(image[None])) for image in images]
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))

    return run


def half(net: nn.Module) -> Run:
    """bf16 by autocast, channels-last, in batches."""
    net = net.to(memory_format=torch.channels_last)

    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            outputs = net(images.contiguous(memory_format=torch.channels_last))
        return tuple(output.float() for output in _several(outputs))

    return run


def _several(output: torch.Tensor | Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return (output,) if isinstance(output, torch.Tensor) else tuple(output)


def with_networks(engine: Engine, run_of: Callable[[nn.Module], Run]) -> Engine:
    """*engine* with its networks run by *run_of*."""
    other = copy.copy(engine)
    for name, attribute in (("lungs", "_lungs"), ("chest", "_chest")):
        card = engine.cards[name]
        net = loaded(card, safetensors.torch.load(verified_weights(WEIGHTS / f"{name}.safetensors", card)))
        setattr(other, attribute, run_of(net.eval().requires_grad_(False)))
    return other


def variants(threads: int) -> list[Variant]:
    """Everything that is compared, each with networks that keep their time."""
    engines: dict[str, tuple[Engine, tuple[int, ...]]] = {}
    for name in runtimes.NAMES:
        if name.startswith("cuda") and not torch.cuda.is_available():
            continue
        started = time.perf_counter()
        engines[name] = Engine.load(threads=threads, runtime=name), (1, 4, 16)
        print(f"loading {name}: {time.perf_counter() - started:.1f} s")
    plain = engines["torch"][0]
    engines = {
        "plain": (with_networks(plain, one_by_one), (1,)),
        **engines,
        "torch bf16": (with_networks(plain, half), (1, 16)),
    }
    found = []
    for name, (engine, sizes) in engines.items():
        timed = copy.copy(engine)
        timed._lungs, timed._chest = Timed(engine._lungs), Timed(engine._chest)
        found += [Variant(name, timed, size, []) for size in sizes]
    return found


def measure(variant: Variant, decoders: Sequence[Decode]) -> None:
    """Decode and assess all, in the variant's batches; one cost a batch."""
    size, engine = variant.at_once, variant.engine
    lungs, chest = engine._lungs, engine._chest
    assert isinstance(lungs, Timed) and isinstance(chest, Timed)
    for first in range(0, len(decoders) - size + 1, size):
        used, before, started = time.process_time(), lungs.seconds + chest.seconds, time.perf_counter()
        radiographs = [decode() for decode in decoders[first : first + size]]
        decoded = time.perf_counter()
        engine.assess(radiographs, AT)
        ended = time.perf_counter()
        networks = lungs.seconds + chest.seconds - before
        seconds = (
            decoded - started,
            networks,
            ended - decoded - networks,
            ended - started,
            time.process_time() - used,
        )
        variant.costs.append(tuple(1000 * s / size for s in seconds))


def decoders_of(folder: Path | None, engine: Engine) -> list[Decode]:
    """What decodes each radiograph that is assessed to the end: of *folder*, else the demo's own."""
    if folder is None:
        contents = [s.files[0].read_bytes() for s in own_samples() if s.ending.reason is None]
        every: list[Decode] = [lambda content=content: to_radiograph(content) for content in contents]  # type: ignore[misc]
    else:
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        every = [lambda path=path: radiograph_of(path) for path in paths]  # type: ignore[misc]
    kept = []
    for decode in every:
        try:
            (outcome,) = engine.assess([decode()], AT)
        except UnusableRadiograph:
            continue
        kept += [decode] if isinstance(outcome, Assessment) else []
    return kept


def radiograph_of(path: Path) -> Radiograph:
    """A picture file with invented identity."""
    facts = InstanceFacts("1.2.3", "1.2.3.1", "1.2.3.1.1", "1.2.840.10008.5.1.4.1.1.1.1", modality="DX")
    return Radiograph(read_picture(path, IntendedUse()).pixels, facts)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="pictures to use (default: the demo's synthetic samples)")
    chosen = parser.parse_args()
    print(f"{machine()}, {chosen.threads} threads")
    compared = variants(chosen.threads)
    decoders = decoders_of(chosen.folder, compared[0].engine)
    for variant in compared:  # once unmeasured
        measure(variant, decoders[:16])
        variant.costs.clear()
    for _ in range(chosen.rounds):
        for variant in compared:
            measure(variant, decoders)
    print(
        f"{len(decoders)} radiographs, {chosen.rounds} rounds, median ms a radiograph; ratio: plain's over this one's"
    )
    print("| runtime | at once | decoding | networks | ratio | gates | total | ratio | processor time |")
    print("|---|---|---|---|---|---|---|---|---|")
    plain = compared[0]
    for v in compared:
        decoding, networks, gates, total, processor = (v.median(column) for column in range(5))
        print(
            f"| {v.name} | {v.at_once} | {decoding:.1f} | {networks:.1f} | {plain.median(1) / networks:.1f} "
            f"| {gates:.1f} | {total:.1f} | {plain.median(3) / total:.1f} | {processor:.1f} |"
        )
    if torch.cuda.is_available():
        print(f"peak memory of the GPU: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
