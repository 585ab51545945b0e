"""Values that a configuration of `scale.explain` must not have."""

from collections.abc import Iterator, Mapping
from typing import Any

from scale.attribution.catalog import ALL, METHODS
from scale.config.checks import wrong_choice


def of_explain(node: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of a configuration of `scale.explain`."""
    maps = node["attribution"]
    quality = maps["quality"]
    choices = [
        ("split", node["split"], ("train", "val", "test")),
        ("checkpoint", node["checkpoint"], ("best", "last")),
        ("attribution.baseline", maps["baseline"], ("zero", "mean", "blur")),
        ("attribution.quality.baseline", quality["baseline"], ("zero", "mean", "blur")),
        *(("attribution.methods", name, (*METHODS, ALL)) for name in maps["methods"] or ()),
    ]
    if not isinstance(node["target"], int) or isinstance(node["target"], bool):
        choices.append(("target", node["target"], ("predicted", "truth")))
    for key, given, allowed in choices:
        yield from wrong_choice(key, given, allowed)
    least = {("samples", name): 0 for name in node["samples"]}
    least |= {("attribution", name): 1 for name in ("batch_size", "steps", "view_steps", "noise_samples")}
    least |= {("quality", name): 1 for name in ("steps", "perturbed", "perturbations")} | {("quality", "samples"): 0}
    parts = {"samples": node["samples"], "attribution": maps, "quality": quality}
    for (part, name), low in least.items():
        if parts[part][name] < low:
            place = "attribution.quality" if part == "quality" else part
            yield f"{place}.{name}={parts[part][name]}: give a number of at least {low}"
    if node["threads"] is not None and node["threads"] < 1:
        yield f"threads={node['threads']}: give a number of at least 1"
    if not 0 < maps["window"] <= 1 or maps["noise"] < 0:
        yield f"attribution.window={maps['window']} and noise={maps['noise']}: give 0 < window <= 1 and noise >= 0"
