"""Values that a configuration must not have: choices that do not exist, and numbers that are not possible."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scale import signatures
from scale.attribution.catalog import METHODS

PRECISIONS = ("highest", "high", "medium")  # of torch.set_float32_matmul_precision
MIXED = ("16-mixed", "bf16-mixed", "16", "bf16")  # trainer.precision: Lightning's names of mixed precision
LARGEST_SEED = 2**32 - 1  # NumPy's
LEAST = {  # numbers of a configuration of `scale.train`; null is allowed where it says something
    "threads": 1,
    "seed": 0,
    "budget.samples": 1,
    "budget.min_epochs": 1,
    "data.eval_batch_size": 1,
    "data.num_workers": 0,
    "trainer.max_epochs": 1,
    "trainer.num_nodes": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
}


def of_train(node: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of a configuration of `scale.train`."""
    for key, low in LEAST.items():
        part: Any = node
        for name in key.split("."):
            part = part.get(name) if isinstance(part, Mapping) else None
        if _is_number(part) and part < low:
            yield f"{key}={part}: give a number of at least {low}"
    if node["seed"] > LARGEST_SEED:
        yield f"seed={node['seed']}: give a number of at most {LARGEST_SEED}"
    yield from _choice("matmul_precision", node["matmul_precision"], PRECISIONS)
    trainer = node["trainer"]
    devices, accelerator = trainer.get("devices", 1), trainer.get("accelerator")
    if accelerator == "cpu" and not (_is_number(devices) and devices >= 1):
        yield f"trainer.devices={devices}: on CPUs give the number of processes, at least 1"
    elif _is_number(devices) and devices < 1 and devices != -1:
        yield f"trainer.devices={devices}: give a number of at least 1, or auto for all"
    if trainer.get("limit_val_batches") == 0:
        yield "trainer.limit_val_batches=0: the epoch is chosen on val, which needs at least one batch"
    if node["optimizer"].get("fused") and is_mixed(trainer.get("precision")) and trainer.get("gradient_clip_val"):
        yield (
            f"optimizer.fused=true with trainer.precision={trainer['precision']}: Lightning does not clip a fused "
            "optimizer's gradients in mixed precision; leave optimizer.fused out, or give trainer.gradient_clip_val=0"
        )


def is_mixed(precision: object) -> bool:
    """Whether a value of `trainer.precision` means mixed precision."""
    return str(precision) in MIXED


def of_explain(node: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of a configuration of `scale.explain`."""
    maps = node["attribution"]
    quality = maps["quality"]
    choices = [
        ("split", node["split"], ("train", "val", "test")),
        ("checkpoint", node["checkpoint"], ("best", "last")),
        ("attribution.baseline", maps["baseline"], ("zero", "mean", "blur")),
        ("attribution.quality.baseline", quality["baseline"], ("zero", "mean", "blur")),
        *(("attribution.methods", name, tuple(METHODS)) for name in maps["methods"] or ()),
    ]
    if not isinstance(node["target"], int) or isinstance(node["target"], bool):
        choices.append(("target", node["target"], ("predicted", "truth")))
    for key, given, allowed in choices:
        yield from _choice(key, given, allowed)
    least = {("samples", name): 0 for name in node["samples"]}
    least |= {("attribution", name): 1 for name in ("batch_size", "steps", "noise_samples")}
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


def _choice(key: str, given: Any, allowed: Sequence[str]) -> Iterator[str]:
    if given not in allowed:
        near = signatures.nearest(str(given), list(allowed))
        yield f"{key}={given}: there is no such choice{near}; allowed: {', '.join(allowed)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
