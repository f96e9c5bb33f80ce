"""Training: who is trained on, figures, augmentation, and that a run can be stopped and gone on with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models import networks
from models.training import (
    augment,
    baselines,
    chest,
    data,
    experiments,
    figures,
    linear,
    loop,
    lungs,
    transplant,
)
from models.training.chest import balanced
from models.training.recipe import AUGMENTATIONS, Augmentation, Recipe, disagreement


def make_case(**changes: object) -> data.Case:
    base = dict(
        image_id="a",
        source="nih_cxr14",
        path=Path("a.png"),
        patient_id="p",
        label="normal",
        role="dev",
        fold=1,
        age=40.0,
        sex="F",
        view="PA",
        licence="",
        licence_class="attribution",
        masks=(("v7", Path("m.png")),),
    )
    return data.Case(**(base | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "external"},
        {"role": "paediatric"},
        {"role": "segmentation-only"},
        {"label": "other"},
        {"fold": 0},
        {"age": 12.0},
        {"age": None},
        {"licence_class": "nc"},
    ],
)
def test_who_is_kept_out_of_the_classifier_s_training(changes: dict[str, object]) -> None:
    assert data.chest_cases([make_case()], held_out=False)
    assert not data.chest_cases([make_case(**changes)], held_out=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "external"},
        {"fold": 0},
        {"licence_class": "nc"},
        {"licence_class": "research-use-with-attribution; mask nc"},
        {"masks": ()},
        {"masks": (("stirenko_manual", Path("m.png")),)},
    ],
)
def test_whose_masks_are_kept_out_of_the_lungs_training(changes: dict[str, object]) -> None:
    assert data.lung_cases([make_case()])
    assert not data.lung_cases([make_case(**changes)])


def test_no_patient_is_on_both_sides_of_the_real_split(cxr: Path) -> None:
    every = data.read_manifest(cxr)
    held_out = {c.patient_id for c in data.chest_cases(every, held_out=True)}
    assert held_out
    assert not held_out & {c.patient_id for c in data.chest_cases(every, held_out=False)}
    assert not held_out & {c.patient_id for c in data.lung_cases(every)}
    external = {c.patient_id for c in data.external_cases(every)}
    assert not external & {c.patient_id for c in data.chest_cases(every, held_out=False) + data.lung_cases(every)}


def test_batches_are_drawn_alike_from_each_class() -> None:
    cases = [make_case()] * 90 + [make_case(source="shenzhen")] * 10
    cases += [make_case(label="pneumonia")] * 7 + [make_case(label="covid")] * 3
    weights = balanced(cases)
    assert float(weights[:100].sum()) == pytest.approx(1)
    assert float(weights[100:107].sum()) == pytest.approx(1)
    assert float(weights[107:].sum()) == pytest.approx(1)
    assert float(weights[90:100].sum()) == pytest.approx(0.25), "a tenth of the images, a quarter of the draws"


def test_wilson_s_interval_is_the_textbook_one() -> None:
    low, high = figures.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert figures.wilson(0, 0) == (0.0, 1.0)


def test_the_area_counts_ties_half() -> None:
    positive = np.array([True, True, False, False])
    assert figures.auc(np.array([0.9, 0.8, 0.2, 0.1]), positive) == 1
    assert figures.auc(np.array([0.5, 0.5, 0.5, 0.5]), positive) == 0.5
    assert np.isnan(figures.auc(np.array([0.5]), np.array([True])))


def test_intervals_are_wider_when_a_patient_has_many_images() -> None:
    rng = np.random.default_rng(1)
    value = np.repeat(rng.random(20), 10)
    each = figures.by_patient([str(i) for i in range(200)], lambda i: float(value[i].mean()))
    clustered = figures.by_patient([str(i // 10) for i in range(200)], lambda i: float(value[i].mean()))
    assert clustered[1] - clustered[0] > 2 * (each[1] - each[0])


def test_augmentation_depends_on_the_seed_alone() -> None:
    def batch(seed: int) -> torch.Tensor:
        g = torch.Generator().manual_seed(seed)
        images = torch.linspace(0, 1, 4 * 32 * 32).reshape(4, 1, 32, 32)
        theta = augment.geometry(4, g, scale=1.2, aspect=1.1, degrees=10, shift=0.1)
        images = augment.degrade(augment.light(augment.opacities(augment.warp(images, theta), g), g), g)
        return augment.mixup(augment.spoil(images, g), torch.eye(4), g)[0]

    assert torch.equal(batch(1), batch(1))
    assert not torch.equal(batch(1), batch(2))


def test_mixup_keeps_targets_summing_to_one() -> None:
    g = torch.Generator().manual_seed(1)
    _, targets = augment.mixup(torch.rand(16, 1, 8, 8, generator=g), torch.eye(3)[torch.arange(16) % 3], g)
    assert torch.allclose(targets.sum(1), torch.ones(16))
    assert (targets.max(1).values < 1).any()


def test_an_efficientnet_started_from_mobilenet_says_what_mobilenet_says(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(4)
    small = timm.create_model("mobilenetv2_100", pretrained=False)
    save_file({k: v.contiguous() for k, v in small.state_dict().items()}, tmp_path / "w.safetensors")
    backbone = networks.Chest("efficientnet_lite1").backbone
    images = torch.rand(2, 1, 64, 64)
    teacher = baselines.imagenet_network(tmp_path / "w.safetensors")
    fresh = backbone.eval()(images).mean((2, 3))
    backbone.load_state_dict(transplant.from_mobilenet(backbone.state_dict(), tmp_path / "w.safetensors"))
    with torch.no_grad():
        assert torch.allclose(backbone(images).mean((2, 3)), teacher(images), atol=1e-5)
        assert not torch.allclose(fresh, teacher(images), atol=1e-3)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)


def distance(net: nn.Module, generator: torch.Generator) -> torch.Tensor:
    x = torch.randn(16, 2, generator=generator)
    return ((net.line(x)[:, 0] - x.sum(1)) ** 2).mean()  # type: ignore[operator,union-attr]


def test_training_learns_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    from dataclasses import replace

    plan = loop.Plan(300, 1, 1, tmp_path / "line.checkpoint.safetensors", learning_rate=0.05)
    torch.manual_seed(1)
    trained = loop.train(Line(), distance, plan)
    assert distance(trained, torch.Generator().manual_seed(9)) < 0.05
    assert loop.progress_of(plan.checkpoint)[0] == 300
    again = loop.train(Line(), distance, replace(plan, steps=310, resume=True))
    assert loop.progress_of(plan.checkpoint)[0] == 310
    assert distance(again, torch.Generator().manual_seed(9)) < 0.05


def test_training_stops_within_its_budget(tmp_path: Path) -> None:
    plan = loop.Plan(10**6, 0.01, 1, tmp_path / "line.checkpoint.safetensors")
    loop.train(Line(), distance, plan)
    assert loop.progress_of(plan.checkpoint)[1] < 5


def test_a_checkpoint_of_either_network_stays_under_20_mb() -> None:
    for architecture in (
        lungs.Settings().architecture(lungs.CONVENTIONS),
        lungs.BASELINE.architecture(lungs.CONVENTIONS),
        networks.CHEST_ARCHITECTURE,
    ):
        size = sum(t.numel() for t in networks.build(architecture).state_dict().values())
        assert 2 * 2 * size < 20_000_000, "two states in half precision"


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_every_augmentation_gives_pictures_of_the_asked_size_and_targets_that_sum_to_one(
    augmentation: Augmentation,
) -> None:
    images, labels = torch.rand(8, 1, 96, 96), torch.arange(8) % 3
    how = Recipe(augmentation=augmentation, side=64)
    for seed in range(4):
        pictures, targets = how.drawn(images, labels, 3, torch.Generator().manual_seed(seed))
        assert pictures.shape == (8, 1, 64, 64)
        assert torch.allclose(targets.sum(1), torch.ones(8), atol=1e-5)
        assert (targets >= 0).all()


def test_ricap_weighs_its_targets_by_the_area_each_image_covers() -> None:
    images = torch.arange(8).float().view(8, 1, 1, 1).expand(8, 1, 20, 20).contiguous()
    pictures, targets = augment.ricap(images, torch.eye(8), torch.Generator().manual_seed(3))
    shares = torch.stack([(pictures == k).float().mean((1, 2, 3)) for k in range(8)], dim=1)
    assert torch.allclose(targets, shares, atol=1e-6)
    assert (shares > 0).sum(1).max() > 1


def test_lungs_with_tuberculosis_stand_with_pneumonia_and_share_its_weight() -> None:
    cases = [make_case(source="shenzhen", label="other"), make_case(label="pneumonia"), make_case(), make_case()]
    assert data.label_of(cases[0]) == data.label_of(cases[1])
    weights = balanced(cases)
    assert float(weights[0] + weights[1]) == pytest.approx(float(weights[2] + weights[3]))


def test_what_is_only_known_to_be_abnormal_weighs_half_a_class_and_leaves_the_classes_alike() -> None:
    cases = [make_case(source="shenzhen", label="other"), make_case(label="pneumonia"), make_case(), make_case()]
    labels = chest.labels_of(cases, Recipe(tuberculosis="abnormal"))
    assert labels.tolist() == [3, 1, 0, 0]
    weights = balanced(cases, labels)
    assert float(weights[0]) == pytest.approx(chest.OPEN_WEIGHT)
    assert float(weights[1]) == pytest.approx(float(weights[2] + weights[3])) == pytest.approx(1.0)
    assert chest.labels_of(cases, Recipe(tuberculosis="pneumonia")).tolist() == [1, 1, 0, 0]


def test_an_abnormal_image_asks_only_that_it_is_not_called_normal() -> None:
    abnormal = torch.tensor([[0.0, 0, 0, 1]])
    pneumonia, covid, normal = torch.tensor([[0.0, 5, 0]]), torch.tensor([[0.0, 0, 5]]), torch.tensor([[5.0, 0, 0]])
    either = float(disagreement(pneumonia, abnormal))
    assert either == pytest.approx(float(disagreement(covid, abnormal))) == pytest.approx(0.0067, abs=1e-3)
    assert float(disagreement(normal, abnormal)) > 4
    named = torch.tensor([[0.2, 0.7, 0.1, 0]])
    ours = float(disagreement(covid, named))
    assert ours == pytest.approx(float(nn.functional.cross_entropy(covid, named[:, :3])))


def test_a_linear_reader_learns_from_rows_that_are_only_not_the_first_class() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2, 3], 50)
    features = rng.normal(size=(200, 3)) + 4 * np.eye(3)[[0, 1, 2, 1]][np.arange(200) // 50]
    said = linear.fit(features, labels, np.ones(200), penalty=1e-3, classes=3).probabilities(features)
    assert said.shape == (200, 3)
    assert (said[150:].argmax(1) != 0).mean() > 0.95
    assert (said[:50].argmax(1) == 0).mean() > 0.95


def test_each_experiment_leaves_out_what_its_name_says() -> None:
    names = [r.name for r in experiments.runs()]
    assert len(names) == len(set(names))
    for source in experiments.SOURCES:
        assert any(r.study == "leave-one-source-out" and r.left_out == (source,) for r in experiments.runs())


def test_a_fitted_head_says_what_the_linear_reader_of_the_untouched_features_says() -> None:
    torch.manual_seed(0)
    how = Recipe(side=32, kept=1.0, start="random", penalty=0.1)
    crops = torch.randint(0, 256, (12, 1, chest.CACHED_SIDE, chest.CACHED_SIDE), dtype=torch.uint8)
    labels, weights = torch.arange(12) % 3, torch.full((12,), 1 / 12)
    net = networks.build(how.architecture)
    chest.start_head(net, crops, labels, weights, how)
    probability, embedding = chest.scored(net, crops, 32)
    reader = linear.fit(embedding, labels.numpy(), weights.numpy(), penalty=0.1, classes=3)
    assert probability == pytest.approx(reader.probabilities(embedding), abs=1e-3)


@pytest.mark.parametrize("reads", [(0, 1, 2, 3), (1, 2)])
def test_each_place_s_shares_make_up_the_logit(reads: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = networks.build({**networks.CHEST_ARCHITECTURE, "reads": list(reads)}).eval()
    with torch.inference_mode():
        logits, embedding, activation = net(torch.randn(3, 1, 64, 64))
    assert torch.allclose(activation.mean((2, 3)), logits, atol=1e-4)
    assert activation.shape[2:] == (64 // 2 ** (reads[-1] + 1),) * 2
    assert embedding.shape[1] == net.classifier.in_features  # type: ignore[union-attr]


def test_a_backbone_ends_with_the_last_map_that_is_read() -> None:
    whole = networks.build(networks.CHEST_ARCHITECTURE)
    early = networks.build({**networks.CHEST_ARCHITECTURE, "reads": [0, 1, 2, 3]})
    count = [sum(p.numel() for p in net.parameters()) for net in (early, whole)]
    assert count[0] < count[1] / 3


def test_held_stages_take_no_part_in_training(tmp_path: Path) -> None:
    cases = [make_case(), make_case(label="pneumonia"), make_case(label="covid")] * 4
    crops = torch.randint(0, 256, (12, 1, chest.CACHED_SIDE, chest.CACHED_SIDE), dtype=torch.uint8)
    held = Recipe(side=32, batch=4, start="random", kept=0.0, frozen=2)
    states = []
    for steps in (0, 3):
        plan = loop.Plan(steps=steps, budget_minutes=1, seed=1, checkpoint=tmp_path / f"{steps}.safetensors")
        states.append(chest.train(cases, crops, held, plan, None).state_dict())
    moved = {k for k in states[0] if not torch.equal(states[0][k], states[1][k])}
    assert not any(k.startswith(("backbone.conv_stem", "backbone.blocks.0", "backbone.blocks.1")) for k in moved)
    assert any(k.startswith("backbone.blocks.2") for k in moved)


def test_normalisation_keeps_its_statistics_where_it_is_told_to() -> None:
    torch.manual_seed(0)
    net = networks.build({**networks.CHEST_ARCHITECTURE, "side": 32})
    assert isinstance(net, networks.Chest)
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    net.holds_statistics = True
    net.train()(torch.randn(4, 1, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items() if k in before)
    net.holds_statistics = False
    net.train()(torch.randn(4, 1, 32, 32))
    assert not all(torch.equal(v, before[k]) for k, v in net.state_dict().items() if k in before)


def test_final_weights_lie_on_the_line_to_the_start(tmp_path: Path) -> None:
    cases = [make_case(), make_case(label="pneumonia"), make_case(label="covid")] * 4
    crops = torch.randint(0, 256, (12, 1, chest.CACHED_SIDE, chest.CACHED_SIDE), dtype=torch.uint8)

    def trained(kept: float, steps: int) -> nn.Module:
        plan = loop.Plan(steps=steps, budget_minutes=1, seed=1, checkpoint=tmp_path / f"{kept}-{steps}.safetensors")
        how = Recipe(side=32, batch=4, start="random", kept=kept, frozen=0)
        return chest.train(cases, crops, how, plan, None)

    start, all_the_way, half_way = trained(0, 0), trained(0, 4), trained(0.5, 4)
    key = "classifier.weight"
    first, last, middle = (net.state_dict()[key] for net in (start, all_the_way, half_way))
    went = (last - first).norm()
    assert went > 0
    assert (middle - first).norm() / went == pytest.approx(0.5, abs=0.1)
