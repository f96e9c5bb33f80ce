"""The shipped engine, loaded once, and where the real radiographs are."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from integrations.dicomweb.radiograph import to_radiograph
from models.engine import Engine
from triage.demo.sample import own_samples
from triage.domain.imaging import InstanceFacts, Radiograph


@cache
def synthetic(number: int) -> np.ndarray:
    """The pixels of one of the demo's frontal radiographs, counted from 1."""
    frontals = [sample for sample in own_samples() if sample.ending.reason is None]
    return to_radiograph(frontals[number - 1].files[0].read_bytes()).pixels


@pytest.fixture(scope="session")
def make_radiograph() -> Callable[..., Radiograph]:
    """A valid radiograph by default; hand over `pixels` to name what matters."""

    def make(pixels: np.ndarray | None = None, number: int = 1) -> Radiograph:
        facts = InstanceFacts("1.2.3", "1.2.3.1", f"1.2.3.1.{number}", "1.2.840.10008.5.1.4.1.1.1.1", modality="DX")
        return Radiograph(synthetic(number) if pixels is None else pixels, facts)

    return make


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The shipped weights."""
    return Engine.load()


@pytest.fixture
def lenient(engine: Engine) -> Engine:
    """The shipped weights with the out-of-distribution limit lifted: a phantom is no radiograph."""
    loose = copy.copy(engine)
    loose.cards = {**engine.cards, "chest": replace(engine.cards["chest"], gate_limit=1e9)}
    return loose


@pytest.fixture(scope="session")
def cxr() -> Path:
    """The folder of real radiographs, where this machine has one."""
    folder = os.environ.get("TRIAGE_CXR")
    if not folder or not (Path(folder) / "manifest.csv").is_file():
        pytest.skip("TRIAGE_CXR names no folder of real radiographs")
    return Path(folder)
