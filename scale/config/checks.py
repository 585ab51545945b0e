"""Values that a configuration must not have: choices that do not exist, and numbers that are not possible."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scale.config import bounds, signatures
from scale.data import catalog, companion
from scale.data import sets as joint
from scale.utils.choices import nearest

PRECISIONS = ("highest", "high", "medium")  # of torch.set_float32_matmul_precision
# Of trainer.precision; Lightning's further ones are of libraries that are not ours.
PRECISIONS_OF_TRAINER = (
    *("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
    *("32", "bf16", "16", "64"),
)
ACCELERATORS = ("cpu", "gpu", "cuda", "mps", "auto")
CALIBRATE = ("none", "temperature")  # evaluation.assessment's
FREEZE = ("none", "trunk", "planar", "volumetric", "all_but_head")  # models.parts', which imports torch
RULES = ("youden", "f1")  # evaluation.calibration's, which import scipy
MIXED = ("16-mixed", "bf16-mixed", "16", "bf16")  # trainer.precision: Lightning's names of mixed precision
JOINT = frozenset({"balance", "batch_size", "drop_last", "num_workers", "on_gpu", "seed"})  # of all sets together
JOINT_DEFAULTS = {"lifted_width": 0.5, "lifted_depths": [0, 1, 1]}  # of `conf/model/_scale.yaml`
ONE_STREAM = {"fusion": "attention", "auxiliary": True, "lifting": "full", "modality_dropout": 0.0}  # the same, of two
LARGEST_SEED = 2**32 - 1  # NumPy's
LEAST = {  # numbers of a configuration of `scale.train`; null is allowed where it says something
    "seed": 0,
    "budget.samples": 1,
    "budget.min_epochs": 1,
    "data.eval_batch_size": 1,
    "trainer.num_nodes": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
}


def of_train(node: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of a configuration of `scale.train`."""
    yield from bounds.problems(node)
    for key, low in LEAST.items():
        part: Any = node
        for name in key.split("."):
            part = part.get(name) if isinstance(part, Mapping) else None
        if _is_number(part) and part < low:
            yield f"{key}={part}: give a number of at least {low}"
    if node["seed"] > LARGEST_SEED:
        yield f"seed={node['seed']}: give a number of at most {LARGEST_SEED}"
    yield from _of_transfer(node)
    if str(node["data"].get("_target_")).endswith(".JointDataModule"):
        yield from _of_joint(node)
    yield from _of_loggers(node["logger"] or {})
    yield from wrong_choice("matmul_precision", node["matmul_precision"], PRECISIONS)
    yield from of_evaluation(node["evaluation"])
    trainer = node["trainer"]
    yield from wrong_choice("trainer.precision", str(trainer.get("precision", "32-true")), PRECISIONS_OF_TRAINER)
    yield from wrong_choice("trainer.accelerator", str(trainer.get("accelerator", "auto")), ACCELERATORS)
    devices, accelerator = trainer.get("devices", 1), trainer.get("accelerator")
    if accelerator == "cpu" and not (_is_number(devices) and devices >= 1):
        yield f"trainer.devices={devices}: on CPUs give the number of processes, at least 1"
    elif _is_number(devices) and devices < 1 and devices != -1:
        yield f"trainer.devices={devices}: give a number of at least 1, or auto for all"
    yield from _of_epochs(trainer)
    if node["optimizer"].get("fused") and is_mixed(trainer.get("precision")) and trainer.get("gradient_clip_val"):
        yield (
            f"optimizer.fused=true with trainer.precision={trainer['precision']}: Lightning does not clip a fused "
            "optimizer's gradients in mixed precision; leave optimizer.fused out, or give trainer.gradient_clip_val=0"
        )
    yield from _of_graphs(node)
    yield from _of_processes(node)
    data = node["data"]
    own = str(data.get("_target_")).endswith(".NpzDataModule") and data.get("problem") is None
    if own and not companion.path_of(Path(str(data["path"])).expanduser()).is_file():
        yield "data.problem must be given: binary, multiclass, multilabel or ordinal (a prepared file says it itself)"
    if wrong := wrong_dims(node["data_dims"], spatial_dims(data)):
        yield wrong
    if data.get("flag") is not None:
        try:
            catalog.get(data["flag"]).check_size(data.get("size", 28))
        except ValueError as error:
            yield f"data: {error}"


def _of_epochs(trainer: Mapping[str, Any]) -> Iterator[str]:
    """Options of Lightning that would change what an epoch is, or when val judges it."""
    if trainer.get("val_check_interval") not in (None, 1.0):
        yield (
            f"trainer.val_check_interval={trainer['val_check_interval']}: val judges the weights of an epoch's end, "
            "which are kept: give 1.0 or leave it out"
        )
    if trainer.get("overfit_batches"):
        yield (
            f"trainer.overfit_batches={trainer['overfit_batches']}: batches are drawn anew in every epoch: give "
            "debug=overfit, which takes the same few samples"
        )


def _of_graphs(node: Mapping[str, Any]) -> Iterator[str]:
    task, trainer = node["task"], node["trainer"]
    if not task.get("cuda_graphs"):
        return
    if trainer.get("accelerator") not in ("gpu", "cuda", "auto"):
        yield "task.cuda_graphs=true is for a GPU: give trainer=gpu too"
    if _several(trainer):
        yield "task.cuda_graphs=true trains on one device: give trainer=gpu, with trainer.devices=1"
    unlike = {"compile": task.get("compile"), "task.flip_consistency": task.get("flip_consistency")}
    unlike["trainer.accumulate_grad_batches"] = trainer.get("accumulate_grad_batches", 1) != 1
    unlike["data=joint"] = str(node["data"].get("_target_")).endswith(".JointDataModule")
    for key, given in unlike.items():  # what a replay returns holds until the next one, of one shape
        if given:
            yield f"task.cuda_graphs=true is not for {key}: leave one of them out"


def _of_processes(node: Mapping[str, Any]) -> Iterator[str]:
    task, model, trainer = node["task"], node["model"], node["trainer"]
    heads = str(model.get("_target_")).endswith(".ScaleNet") and model.get("auxiliary", True)
    if _several(trainer) and heads and model.get("streams", "both") == "both" and task.get("auxiliary_weight") == 0:
        yield (
            "task.auxiliary_weight=0 leaves a stream's head without gradient, which several processes do not allow: "
            "give ablation=no_auxiliary, a network without these heads, or trainer.devices=1"
        )


def _several(trainer: Mapping[str, Any]) -> bool:
    """Whether a training may have more than one process."""
    devices = trainer.get("devices", 1)  # a list names them
    count = len(devices) if isinstance(devices, list) else devices
    return bool(count != 1 or trainer.get("num_nodes", 1) != 1)


def _of_transfer(node: Mapping[str, Any]) -> Iterator[str]:
    yield from wrong_choice("freeze", node["freeze"], FREEZE)
    if node["init_from"] is None:
        if node["freeze"] != "none" and not node["model"].get("pretrained"):
            yield f"freeze={node['freeze']} keeps what was learned before: give init_from=<run folder> too"
        if node["optimizer"].get("trunk_scale", 1) != 1:
            yield "optimizer.trunk_scale is for what init_from loads: give init_from=<run folder> too"


def _of_joint(node: Mapping[str, Any]) -> Iterator[str]:
    data, model, trainer = node["data"], node["model"], node["trainer"]
    if data.get("sets") != "???":  # said by the check of the signature
        wrong = list(joint.problems(data.get("sets"), data.get("options")))
        yield from wrong or _of_sets(data)
    if not str(model.get("_target_")).endswith(".ScaleNet"):
        yield "data=joint is for the SCALE networks, whose streams data sets can share: give model=scale or scale_tiny"
    elif model.get("streams") == "volumetric":
        yield "data=joint with model.streams=volumetric: images have the planar stream alone; give both or planar"
    for key, given in (("init_from", node["init_from"]), ("evaluation.tta", node["evaluation"]["tta"] or None)):
        if given is not None:
            yield f"{key} is not for data=joint: leave it out"
    if node["compile"] or node["task"].get("compile"):
        yield "compile=true is not for data=joint: leave it out"
    yield from _of_joint_network(data, model)
    for name, callback in node["callbacks"].items():
        if callback and str(callback.get("_target_")).endswith(".LogExplanations"):
            yield (
                f"callbacks.{name} draws one data set, so it is not for data=joint: leave it out, and explain the run "
                "afterwards (python -m scale.explain run=DIR set=NAME)"
            )
    if _several(trainer):
        yield "data=joint trains on one device: give trainer=cpu or trainer=gpu, with trainer.devices=1"


def _of_joint_network(data: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    """What a joint network does not have: it would be another name for the same network."""
    width, depths = model.get("lifted_width"), model.get("lifted_depths")
    if width not in (None, JOINT_DEFAULTS["lifted_width"], 1.0):
        yield f"model.lifted_width={width} is not for data=joint, whose streams are shared at full width: leave it out"
    if depths not in (None, JOINT_DEFAULTS["lifted_depths"], model.get("planar_depths")):
        yield f"model.lifted_depths={depths} is not for data=joint, where they are model.planar_depths: leave it out"
    names = data.get("sets")
    if not isinstance(names, list) or any(str(name).endswith("3d") for name in names):
        return
    for key, usual in ONE_STREAM.items():
        if model.get(key, usual) != usual:
            yield (
                f"model.{key}={model[key]} changes nothing where data=joint has images alone, which have the planar "
                "stream alone: leave it out, or add a set of volumes"
            )


def _of_sets(data: Mapping[str, Any]) -> Iterator[str]:
    if data.get("drop_last") is False:
        yield "data.drop_last=false is not for data=joint, whose batches are all whole: leave it out"
    for name in data["sets"]:
        own = (data.get("options") or {}).get(name, {})
        for key in sorted(JOINT.intersection(own)):
            yield f"data.options.{name}.{key} is not for data=joint, which draws the batches of all sets: leave it out"
        module = "own.Phantom" if name in joint.PHANTOMS else "datamodule.MedMNIST"
        given = {"_target_": f"scale.data.{module}DataModule", **own}
        yield from signatures.check(given, path=f"data.options.{name}", supplied=frozenset({"flag"}))
        size = own.get("size", data.get("size", 28))
        if name in catalog.FLAGS and size not in catalog.get(name).sizes:
            known = ", ".join(map(str, catalog.get(name).sizes))
            yield f"data.sets: {name} has no size {size!r}; published sizes are {known} (data.size, data.options)"


def _of_loggers(nodes: Mapping[str, Any]) -> Iterator[str]:
    for name, node in nodes.items():
        count = node.get("samples", 0) if isinstance(node, Mapping) else 0
        if not _is_number(count) or count < 0 or count % 1:
            yield f"logger.{name}.samples={count}: give a whole number of at least 0"


def of_evaluation(node: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of an `evaluation` node; null stands for those of a run's training."""
    for key, allowed in (("calibrate", CALIBRATE), ("threshold", RULES)):
        if node[key] is not None:
            yield from wrong_choice(f"evaluation.{key}", node[key], allowed)
    coverage = node["coverage"]
    if coverage is not None and not 0 < coverage < 1:
        yield f"evaluation.coverage={coverage}: give a share between 0 and 1, such as 0.9"


def is_mixed(precision: object) -> bool:
    """Whether a value of `trainer.precision` means mixed precision."""
    return str(precision) in MIXED


def wrong_choice(key: str, given: Any, allowed: Sequence[str]) -> Iterator[str]:
    """One text if `given` is none of the choices that a key has."""
    if given not in allowed:
        near = nearest(str(given), list(allowed))
        yield f"{key}={given}: there is no such choice{near}; allowed: {', '.join(allowed)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def wrong_dims(wanted: int | None, dims: int | None) -> str | None:
    """What is wrong where a model or an experiment is for data of other dimensions; None in a 2 or 3 is unknown."""
    if None in (wanted, dims) or wanted == dims:
        return None
    kinds = {2: ("images", "2D, such as breastmnist"), 3: ("volumes", "3D, such as vesselmnist3d")}
    if wanted not in kinds:
        return f"data_dims={wanted}: give 2, 3 or null"
    what, example = kinds[wanted]
    return f"data: {dims}D, but the model or experiment that was chosen is for {what} only: choose data in {example}"


def spatial_dims(data: dict[str, Any]) -> int | None:
    """Dimensions of what a plain `data` node names, where it can be told before the files are opened."""
    if data.get("flag") in catalog.FLAGS:
        return catalog.get(data["flag"]).spatial_dims
    dims = data.get("spatial_dims")
    return dims if isinstance(dims, int) else None
