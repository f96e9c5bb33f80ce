"""Every way to run the networks says what plain fp32 says, on drawn radiographs and on real ones."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from integrations.dicomweb.radiograph import to_radiograph
from models import networks, runtimes
from models.card import read, verified_weights
from models.engine import WEIGHTS, Engine, Reading, loaded
from models.runtimes import TOLERANCE
from triage.domain.errors import Misconfigured, UnusableRadiograph

SAMPLES = Path(__file__).parents[2] / "triage" / "demo" / "samples"
OTHERS = [n for n in runtimes.NAMES if n == "openvino" or (n == "cuda" and torch.cuda.is_available())]


@pytest.fixture(scope="module")
def reference() -> Engine:
    return Engine.load(runtime="torch")


@pytest.fixture(scope="module", params=OTHERS)
def other(request) -> Engine:
    return Engine.load(runtime=request.param)


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return float(2 * (one & two).sum() / max((one.sum() + two.sum()), 1))


def assert_alike(reference: Engine, other: Engine, pictures: list[np.ndarray]) -> int:
    """How many of the pictures were read; each by both, and both say the same of it."""
    pairs = list(zip(reference.read(pictures), other.read(pictures), strict=True))
    for plain, fast in pairs:
        assert type(plain) is type(fast)
        if isinstance(plain, UnusableRadiograph):
            assert plain.reason == fast.reason
            continue
        assert np.abs(plain.probabilities - fast.probabilities).max() <= TOLERANCE.probability
        assert dice(plain.mask, fast.mask) >= TOLERANCE.dice
        assert fast.gate_score == pytest.approx(plain.gate_score, rel=TOLERANCE.gate_score)
    return sum(isinstance(plain, Reading) for plain, _ in pairs)


def test_the_samples_get_the_same_answers(reference, other) -> None:
    pictures = []
    for path in sorted(SAMPLES.glob("*.dcm")):
        try:
            pictures.append(to_radiograph(path.read_bytes()).pixels)
        except UnusableRadiograph:
            continue
    assert assert_alike(reference, other, pictures) >= 25


def test_real_radiographs_get_the_same_answers(reference, other, cxr) -> None:
    from models.training import data

    cases = data.chest_cases(data.read_manifest(cxr), held_out=True)[::8]
    assert assert_alike(reference, other, [data.read_pixels(c.path) for c in cases]) >= 0.8 * len(cases)


def net_of(name: str) -> tuple[nn.Module, int]:
    card, _ = read(WEIGHTS / f"{name}.json")
    stored = safetensors.torch.load(verified_weights(WEIGHTS / f"{name}.safetensors", card))
    return loaded(card, stored).eval(), int(card.architecture["side"])


def test_openvino_says_the_same_whatever_stands_beside_and_however_many_threads() -> None:
    net, side = net_of("chest")
    images = torch.randn(5, 1, side, side, generator=torch.Generator().manual_seed(1))
    one, two = (runtimes.prepared(net, side, "openvino", threads) for threads in (1, 2))
    together = one(images)
    for output, (alone, threaded) in enumerate(zip(one(images[3:4]), two(images), strict=True)):
        assert torch.equal(together[output][3:4], alone)
        assert torch.equal(together[output], threaded)


def test_several_threads_may_ask_one_network() -> None:
    from concurrent.futures import ThreadPoolExecutor

    net, side = net_of("chest")
    run = runtimes.prepared(net, side, "openvino", 2)
    batches = torch.randn(6, 3, 1, side, side, generator=torch.Generator().manual_seed(2))
    expected = [run(batch)[0] for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda batch: run(batch)[0], batches))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_lung_network_may_have_an_output_for_each_convention(reference) -> None:
    """One whose second output says the opposite of the first; the engine's pipeline reads v7, wherever it stands."""
    from dataclasses import replace

    def both(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (logits,) = reference._lungs(images)
        logits = logits[:, -1:]
        return (torch.cat([-logits, logits], dim=1),)

    card = reference.cards["lungs"]
    cards = {
        **reference.cards,
        "lungs": replace(card, architecture={**card.architecture, "conventions": ["manual", "v7"]}),
    }
    identities = {"lungs": reference.segmenter, "chest": reference.classifier}
    engine = Engine(both, reference._chest, cards, identities, reference._familiarity, "torch")
    square = np.random.default_rng(0).random((256, 256)).astype(np.float32)
    (plain,) = reference.lung_probability([square])
    (heart,) = engine.lung_probability([square])
    (manual,) = engine.lung_probability([square], "manual")
    assert np.array_equal(heart, plain)
    assert np.allclose(manual, 1 - plain, atol=1e-6)
    picture = to_radiograph((SAMPLES / "01-normal.dcm").read_bytes()).pixels
    (one,), (other,) = reference.read([picture]), engine.read([picture])
    assert np.array_equal(one.mask, other.mask)
    assert list(other.lungs) == ["manual", "v7"]
    with pytest.raises(Misconfigured, match="knows manual, v7, not 'heart'"):
        engine.lung_probability([square], "heart")


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_an_ensemble_speaks_as_the_mean_of_its_members(runtime: str) -> None:
    torch.manual_seed(0)
    ensemble = networks.build({**networks.CHEST_ARCHITECTURE, "members": 2, "side": 64})
    assert isinstance(ensemble, networks.ChestEnsemble)
    images = torch.randn(3, 1, 64, 64)
    logits, embedding, activation = runtimes.prepared(ensemble, 64, runtime, 2)(images)
    each = [runtimes.prepared(member, 64, "torch")(images) for member in ensemble.members]
    assert torch.allclose(logits, (each[0][0] + each[1][0]) / 2, atol=1e-4)
    assert torch.allclose(embedding, torch.cat([each[0][1], each[1][1]], dim=1), atol=1e-4)
    assert torch.allclose(activation, (each[0][2] + each[1][2]) / 2, atol=1e-4)


def test_one_member_is_no_ensemble() -> None:
    assert isinstance(networks.build({**networks.CHEST_ARCHITECTURE, "members": 1}), networks.Chest)


def test_without_openvino_the_networks_run_on_pytorch(monkeypatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtimes.chosen() == "torch"
    with pytest.raises(Misconfigured, match="there is torch"):
        runtimes.chosen("openvino")


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(Misconfigured, match="'tpu' is not to be had here"):
        runtimes.chosen("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU goes first")
def test_a_processor_gets_openvino(engine) -> None:
    assert engine.runtime == runtimes.chosen() == "openvino"


def test_openvino_is_loaded_without_its_telemetry() -> None:
    code = (
        "import sys, torch; from models import runtimes; "
        "runtimes.prepared(torch.nn.Conv2d(1, 1, 3), 8, 'openvino', 1); "
        "import openvino; import openvino.tools.ovc.telemetry_utils as t; "
        "print(t.tm.__name__, [m for m in sys.modules if m.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub []"
