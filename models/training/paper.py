"""The figures of Nishio et al. (2019-2022), printed beside ours: other images, other patients, so no comparison."""

from __future__ import annotations

from typing import Any

CAUTION = "measured on other data: no comparison"


def _figure(who: str, what: str, value: float, spread: float | None = None) -> dict[str, Any]:
    return {"who": who, "what": what, "value": value, "spread": spread, "on": CAUTION}


CHEST = (
    _figure("their network", "accuracy", 0.733),
    _figure("their network", "AUC normal against rest", 0.913),
    _figure("their network", "AUC pneumonia against rest", 0.937),
    _figure("their network", "AUC covid against rest", 0.786),
    _figure("eight readers without it", "accuracy", 0.696, 0.031),
    _figure("eight readers without it", "AUC normal against rest", 0.889, 0.027),
    _figure("eight readers without it", "AUC pneumonia against rest", 0.844, 0.046),
    _figure("eight readers without it", "AUC covid against rest", 0.716, 0.028),
    _figure("eight readers with it", "AUC normal against rest", 0.903, 0.028),
    _figure("eight readers with it", "AUC pneumonia against rest", 0.883, 0.055),
    _figure("eight readers with it", "AUC covid against rest", 0.762, 0.029),
)
LUNGS = (
    _figure("baseline U-Net", "Dice, JSRT", 0.979),
    _figure("baseline U-Net", "Dice, Montgomery", 0.941),
    _figure("baseline U-Net", "Dice, severe", 0.889),
    _figure("optimised U-Net", "Dice, JSRT", 0.976),
    _figure("optimised U-Net", "Dice, Montgomery", 0.973),
    _figure("optimised U-Net", "Dice, severe", 0.932),
)


def network_figure(what: str) -> str:
    """Their network's figure of the same name, or a dash."""
    found = next((f["value"] for f in CHEST if f["who"] == "their network" and f["what"] == what), None)
    return "–" if found is None else f"{found:.3f}"


def spread_of(figure: dict[str, Any]) -> str:
    """The figure with its spread over readers, where there is one."""
    return f"{figure['value']:.3f}" + ("" if figure["spread"] is None else f" ± {figure['spread']:.3f}")
