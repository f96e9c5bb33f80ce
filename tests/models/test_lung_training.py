"""Lung networks: the plain U-Net, what teaches which output, how often each picture is drawn, the search's page."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from PIL import Image
from torch import nn

from models import networks
from models.card import read
from models.plain_unet import PlainUNet
from models.training import data, loop, lungs, tune
from tests.models.making import draw_chest

SMALL = lungs.Settings(network="plain-unet", depth=2, width=4, side=32, batch=4, opacities=1)


def make_pictures(groups: str = "msc", n: int = 3) -> lungs.Pictures:
    """Two bright lungs on dark; manual masks for m, v7 ones for s and c."""
    image = torch.zeros(1, lungs.CACHED_SIDE, lungs.CACHED_SIDE, dtype=torch.uint8)
    image[:, 60:200, 40:110] = image[:, 60:200, 150:220] = 255
    group = torch.tensor(["msc".index(g) for g in groups for _ in range(n)])
    known = torch.stack([group == 0, group != 0], dim=1)
    count = len(group)
    return lungs.Pictures(image.repeat(count, 1, 1, 1), image.repeat(count, 2, 1, 1), known, group)


@pytest.mark.parametrize(("depth", "convolutions"), [(2, 1), (3, 2), (5, 2)])
def test_the_plain_u_net_answers_at_the_size_it_is_asked_at(depth: int, convolutions: int) -> None:
    net = PlainUNet(depth, 4, convolutions, 0.1, outputs=2)
    assert net(torch.zeros(2, 1, 64, 64)).shape == (2, 2, 64, 64)
    assert len(net.up) == depth and len(net.down) == depth + 1


def test_the_plain_u_net_doubles_its_channels_eightfold_at_most() -> None:
    net = PlainUNet(5, 4, 2, 0.0, outputs=1)
    assert [block[0].out_channels for block in net.down] == [4, 8, 16, 32, 32, 32]


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, network="unet", decoder=64)], ids=["plain", "encoder"])
def test_settings_make_a_network_with_one_output_for_each_convention(settings: lungs.Settings) -> None:
    net = networks.build(settings.architecture(lungs.CONVENTIONS)).eval()
    assert net(torch.zeros(1, 1, 32, 32)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize("loss", ["dice", "tversky"])
def test_a_mask_that_is_not_known_teaches_nothing(loss: str) -> None:
    settings = replace(SMALL, loss=loss)  # type: ignore[arg-type]
    logits = torch.randn(2, 2, 8, 8, requires_grad=True)
    target, known = torch.ones(2, 2, 8, 8), torch.tensor([[True, False], [False, True]])
    lungs.agreement_loss(logits, target, known, settings).backward()
    gradient = logits.grad.abs().sum((2, 3))  # type: ignore[union-attr]
    assert ((gradient > 0) == known).all()


def test_missed_lung_costs_more_where_the_settings_say_so() -> None:
    target, known = torch.zeros(1, 1, 16, 16), torch.tensor([[True]])
    target[..., :8] = 1
    missing = torch.full((1, 1, 16, 16), -9.0)
    missing[..., :4] = 9.0
    heavy, light = (replace(SMALL, loss="tversky", missed=m) for m in (0.7, 0.4))
    assert lungs.agreement_loss(missing, target, known, heavy) > lungs.agreement_loss(missing, target, known, light)


def test_groups_share_the_draws_as_the_settings_say() -> None:
    settings = replace(SMALL, manual=0.3, severe=0.2)
    group = torch.tensor([0] * 10 + [1] * 2 + [2] * 50)
    weights = lungs.drawing_weights(group, settings)
    assert [float(weights[group == g].sum()) for g in range(3)] == pytest.approx([0.3, 0.2, 0.5])


def test_the_draws_of_a_missing_group_go_to_the_others() -> None:
    weights = lungs.drawing_weights(torch.tensor([1, 2, 2]), replace(SMALL, manual=0.5, severe=0.25))
    assert bool((weights > 0).all()) and float(weights.sum()) == pytest.approx(0.5)


def test_the_merit_counts_the_worst_tenth_and_each_convention_alike() -> None:
    dice = torch.full((20, 2), torch.nan)
    dice[:10, 0] = 0.9
    dice[0, 0] = 0.5  # mean 0.86, worst tenth 0.5
    dice[10:, 1] = 1.0
    assert lungs.merit(dice) == pytest.approx(((0.86 + 0.5) / 2 + 1.0) / 2)


def test_levelling_undoes_outlines_that_are_drawn_too_wide() -> None:
    class Wide(nn.Module):
        """Says lung where the picture is bright, and less surely where it is not quite dark."""

        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(1, 2, 1)
            nn.init.constant_(self.last.weight, 2.0)
            nn.init.constant_(self.last.bias, 0.0)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            said: torch.Tensor = self.last(images)
            return said

    pictures, net = make_pictures(), Wide()
    pictures.images[:, :, 20:60] = 140
    before = lungs.held_out_dice(net, pictures, 64).nanmean()
    taken = lungs.level(net, pictures, 64)
    assert all(t > 0 for t in taken)
    assert float(lungs.held_out_dice(net, pictures, 64).nanmean()) > float(before) + 0.1
    assert lungs.level(net, pictures, 64) == pytest.approx([0.0, 0.0], abs=1.0), "once is enough"


def test_a_coarse_stage_takes_its_share_of_the_plan(tmp_path: Path) -> None:
    plan = loop.Plan(steps=100, budget_minutes=10, seed=1, checkpoint=tmp_path / "lungs.checkpoint.safetensors")
    before, rest = lungs.stages(plan, 0.4)
    assert before is not None
    assert (before.steps, before.budget_minutes, rest.steps, rest.budget_minutes) == (40, 4.0, 60, 6.0)
    assert before.checkpoint != rest.checkpoint == plan.checkpoint
    assert lungs.stages(plan, 0.0) == (None, plan)


def test_a_run_in_two_stages_learns_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan = loop.Plan(
        steps=60, budget_minutes=5, seed=1, checkpoint=tmp_path / "t.safetensors", learning_rate=1e-2, average_over=10
    )
    settings, pictures = replace(SMALL, coarse=0.5, spoilt=0.0), make_pictures()
    net = lungs.train(pictures, settings, lungs.CONVENTIONS, plan, None)
    dice = lungs.held_out_dice(net, pictures, settings.side)
    assert (dice.isnan() == ~pictures.known).all() and float(dice.nanmean()) > 0.7
    again = lungs.train(pictures, settings, lungs.CONVENTIONS, replace(plan, resume=True), None)
    for mine, new in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.allclose(mine, new, atol=1e-2), "nothing was left to do but half precision's rounding"


def make_folder(folder: Path) -> Path:
    """A corpus of drawn radiographs: two of each kind that lungs are trained on, one trained on, one held out."""
    (folder / "masks").mkdir(parents=True)
    rows = ["image_id,source,file,patient_id,label,view,age,sex,licence,licence_class,role,fold,notes"]
    masks = ["image_id,mask_path,mask_origin"]
    held_out, trained_on = (_a_child(is_held_out=is_held_out) for is_held_out in (True, False))
    kinds = [
        ("shenzhen", "dev", "stirenko_manual", "research", (("p0", "0"), ("p1", "1"))),
        ("hannover_v1crop", "segmentation-only", "v7", "attribution", (("h0", "0"), ("h1", "1"))),
        ("kermany", "paediatric", "v7", "attribution", ((held_out, ""), (trained_on, ""))),
        ("web_eurorad", "external", "v7", "nc", (("e0", ""), ("e1", ""))),
        ("montgomery", "external", "nlm_manual", "nc", (("m0", ""), ("m1", ""))),
    ]
    for source, role, origin, licence, patients in kinds:
        for patient, fold in patients:
            name = f"{source}-{patient}"
            picture = draw_chest(96, 96, seed=len(rows))
            Image.fromarray((picture * 255).astype(np.uint8)).save(folder / f"{name}.png")
            mask = np.zeros((96, 96), np.uint8)
            mask[15:70, 15:42] = mask[15:70, 54:81] = 255
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
            rows.append(f"{name},{source},{name}.png,{patient},normal,PA,40,F,,{licence},{role},{fold},")
            masks.append(f"{name},masks/{name}.png,{origin}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "masks.csv").write_text("\n".join(masks) + "\n")
    return folder


def _a_child(*, is_held_out: bool) -> str:
    from tests.models.test_training import make_case

    names = (f"child{i}" for i in range(1000))
    return next(
        n
        for n in names
        if bool(data.lung_cases([make_case(role="paediatric", patient_id=n)], held_out=True)) is is_held_out
    )


def search(folder: Path, trials: int, out: Path) -> argparse.Namespace:
    return argparse.Namespace(
        cxr=folder,
        scratch=out / "scratch",
        weights_from=None,
        trials=trials,
        budget_minutes=5.0,
        seed=1,
        out=out / "tuning.json",
    )


def test_the_search_goes_on_where_it_stopped_and_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "STEPS", 2)
    folder = make_folder(tmp_path / "cxr")
    for trials in (1, 2):
        tune.run(search(folder, trials, tmp_path))
        found = json.loads((tmp_path / "tuning.json").read_text())
        assert [t["number"] for t in found["trials"]] == list(range(trials))
    assert found["trials"][0]["settings"]["decoder"] == 128, "what one would do untuned is the first to be tried"
    settings = lungs.Settings(**found["best"])
    assert networks.build(settings.architecture(lungs.CONVENTIONS)) is not None
    page = (tmp_path / "tuning.md").read_text()
    assert page.count("\n| 0 |") == page.count("\n| 1 |") == 1 and f"Best: trial {found['best_trial']}." in page


def test_every_trial_s_settings_make_a_network() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    kinds = set()
    for _ in range(12):
        settings = tune.suggested(study.ask())
        kinds.add(settings.network)
        assert settings.severe + settings.manual < 1
        assert settings.side % 2 ** max(settings.depth, 5) == 0
    assert kinds == {"unet", "plain-unet"}


def test_a_look_judges_some_of_each_group(cxr: Path) -> None:
    every = data.lung_cases(data.read_manifest(cxr), held_out=True, licensed=False)
    judged = tune.judged_on(every)
    groups = [lungs.group_of(c) for c in judged]
    assert {g: groups.count(g) for g in lungs.GROUPS} == tune.MOST_JUDGED
    assert all(c.role != "external" for c in judged)


@pytest.mark.parametrize("network", ["baseline", "optimised"])
def test_training_lungs_writes_weights_and_card(tmp_path: Path, network: str) -> None:
    best = tmp_path / "best.json"
    best.write_text(json.dumps({"best": {"network": "plain-unet", "depth": 2, "width": 4, "batch": 2}}))
    arguments = argparse.Namespace(
        cxr=make_folder(tmp_path / "cxr"),
        out=tmp_path,
        weights_from=None,
        network=network,
        settings=best,
        side=32,
        coarse=0.5,
        licensed=False,
    )
    plan = loop.Plan(steps=4, budget_minutes=5, seed=1, checkpoint=tmp_path / "lungs.checkpoint.safetensors")

    def how(plan: loop.Plan) -> dict[str, object]:
        steps, spent_s = loop.progress_of(plan.checkpoint)
        return {"steps": steps, "took_minutes": round(spent_s / 60, 1), "started_from": "random weights"}

    lungs.run(arguments, plan, how)
    card, _ = read(tmp_path / ("lungs-baseline.json" if network == "baseline" else "lungs.json"))
    assert card.architecture["conventions"] == list(lungs.CONVENTIONS)
    assert (card.training["steps"], card.training["of_these_at_half_the_side"]) == (4, 2)
    assert {row["source"] for row in card.data} == {"shenzhen", "hannover_v1crop", "kermany"}
    assert card.commercial_use is False
