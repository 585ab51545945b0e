"""Beginning with another run's weights: `init_from`, `freeze` and `optimizer.trunk_scale`."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from scale.models import parts
from scale.models.lifting import shrink_factor
from scale.models.scale_net import STREAMS
from scale.runs import CHECKPOINTS, METRICS, checkpoints, read_config, read_metrics, sets
from scale.runs import inputs as run_inputs
from scale.runs.reading import ANOTHER, INIT_FROM, check_complete
from scale.utils.files import read_json, sha256_of, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from scale.data.catalog import DataSet
    from scale.data.datamodule import ImageDataModule
    from scale.tasks.classification import ClassificationTask

log = logging.getLogger("scale")
WEIGHTS = "model.safetensors"  # of an exported folder
KEPT = ("source", "file", "sha256", "flag")  # of the record, also in `metrics.json`
GENERIC = re.compile(r"class \d+")  # names of classes that nobody named


@dataclass(frozen=True)
class Source:
    """A trained network, read from its file.

    Attributes:
        file: that holds the weights.
        sha256: of the file.
        state: parameters and buffers by their names in the network.
        flag: of the data set.
        problem: what its labels ask.
        classes: their names.
        spatial_dims: of its samples.
    """

    file: Path
    sha256: str
    state: "Mapping[str, Tensor]"
    flag: str
    problem: str
    classes: tuple[str, ...]
    spatial_dims: int

    def has_labels_of(self, info: "DataSet") -> bool:
        """Whether its heads say what those of a data set are to say; classes without names are known by the set."""
        alike = (self.problem, self.classes) == (info.problem, tuple(info.labels))
        named = not all(GENERIC.fullmatch(name) for name in self.classes)
        return alike and (named or self.flag == info.flag)


def check(config: DictConfig) -> None:
    """Raises FileNotFoundError or ValueError where `init_from` names nothing to begin with; reads no weights."""
    if config.init_from is not None and config.resume is None:
        _file(Path(config.init_from).expanduser())


def read(place: str | Path, info: "DataSet | None" = None) -> Source:
    """The network of a finished run's folder, or of a folder or file of `scale.export` in safetensors.

    Tensors and plain values alone are read; nothing that the files say is run.

    Args:
        place: of it.
        info: of the data set that it is to begin with: of a joint run's networks the nearest is taken.

    Raises:
        FileNotFoundError: there is no such thing.
        ValueError: it is of another kind, not finished, or damaged.
    """
    path = Path(place).expanduser()
    file = _file(path)
    if file.suffix == ".safetensors":
        return _exported(file)
    metrics = read_metrics(path)
    return _of_joint(path, file, metrics, info) if sets.names(metrics) else _of_run(path, file, metrics)


def begin(
    config: DictConfig, task: "ClassificationTask", datamodule: "ImageDataModule", folder: Path, *, resumed: bool
) -> dict[str, Any]:
    """Loads what `init_from` names, freezes what `freeze` says, and tells the task what was loaded.

    Args:
        config: of the run.
        task: with a new network; changed in place.
        datamodule: of the run's data set.
        folder: of the run.
        resumed: from a checkpoint, which has the weights: only what was loaded then is read, from the record.

    Returns:
        What `metrics.json` says of it; empty where nothing was loaded or frozen.

    Raises:
        ValueError: nothing fits, what is to be frozen was not loaded, or the source is not what the record says.
    """
    if config.init_from is None and config.freeze == "none":
        return {}
    still = parts.frozen(task.net, config.freeze)
    scale = float(config.optimizer.get("trunk_scale", 1.0))
    if config.init_from is None:  # of pretrained weights
        record: dict[str, Any] = {"loaded": [], "parts": list(still)}
    elif resumed:
        record = read_json(folder / INIT_FROM, cure=ANOTHER)
    else:
        record = _load(config, task, datamodule.info)
        _compare(record, folder)
        if config.rerun is not None:
            _compare(record, Path(config.rerun).expanduser())
        if getattr(rank_zero_only, "rank", 0) == 0:
            write_json(folder / INIT_FROM, record)
    lacking = [name for name in still if name not in record["parts"]]
    if lacking:
        reason = record["new"].get(lacking[0], "not there")
        raise ValueError(f"freeze={config.freeze}: {lacking[0]} was not loaded from {config.init_from} ({reason})")
    names = parts.parts(task.net)
    task.begin_with(record["loaded"], trunk_scale=scale, frozen=[m for name in still for m in names[name].modules])
    if still:
        free = sum(p.numel() for p in task.net.parameters() if p.requires_grad)
        log.info("frozen: %s; %s parameters are trained", ", ".join(still), f"{free:,}")
    if not any(p.requires_grad for p in task.net.parameters()):
        raise ValueError(f"freeze={config.freeze} leaves nothing to train")
    kept = {key: record[key] for key in KEPT if key in record}
    return {"init_from": {**kept, "parts": record["parts"], "freeze": config.freeze, "trunk_scale": scale}}


def _load(config: DictConfig, task: "ClassificationTask", info: "DataSet") -> dict[str, Any]:
    source = read(config.init_from, info)
    net: Any = task.net
    alike = source.has_labels_of(info)
    same_dims = source.spatial_dims == info.spatial_dims
    taken = parts.take_over(net, source.state, same_dims=same_dims, same_labels=alike)
    new = "; ".join(f"{name} ({why})" for name, why in taken.new.items())
    if not taken.parts:
        raise ValueError(f"init_from={config.init_from}: nothing of it fits this network: {new}")
    state = net.state_dict()
    count = sum(state[name].numel() for name in taken.loaded)
    log.info("init_from %s: loaded %s (%s values)", config.init_from, ", ".join(taken.parts), f"{count:,}")
    log.info("init_from: new: %s", new or "nothing")
    found = {"source": str(config.init_from), "file": str(source.file), "sha256": source.sha256, "flag": source.flag}
    return {**found, "parts": taken.parts, "new": taken.new, "loaded": taken.loaded}


def _compare(record: Mapping[str, Any], folder: Path) -> None:
    """Raises ValueError if a run was begun with another file than the one that was read now."""
    if not (folder / INIT_FROM).is_file():
        return
    then = read_json(folder / INIT_FROM, cure=ANOTHER)
    if then.get("sha256") != record["sha256"]:
        raise ValueError(
            f"init_from={record['source']}: {record['file']} is not the file that {folder} was begun with (its sha256 "
            "differs): put that one back, or train a new run"
        )


def _file(path: Path) -> Path:
    """The file with the weights."""
    if path.is_dir():
        if (path / METRICS).is_file():
            return sets.home(path) / CHECKPOINTS / "best.ckpt"
        if (path / WEIGHTS).is_file():
            return path / WEIGHTS
        raise FileNotFoundError(
            f"init_from={path}: give the folder of a finished run (with {METRICS}) or one that "
            f"python -m scale.export format=safetensors wrote (with {WEIGHTS})"
        )
    if not path.exists():
        raise FileNotFoundError(f"init_from={path}: there is no such folder or file")
    if path.suffix != ".safetensors":
        raise ValueError(f"init_from={path}: give a run folder, or what scale.export format=safetensors wrote")
    return path


def _of_joint(folder: Path, file: Path, metrics: Mapping[str, Any], info: "DataSet | None") -> Source:
    """Of a joint run the network of the same data set, else of one of the same dimensions.

    That of images has a planar stream alone; the volumetric one is then taken from that of volumes, if there is one.
    """
    places = [Path(sets.folder_of(folder, name)) for name in sets.names(metrics)]
    found = {place: read_metrics(place) for place in places}
    # sets share their stems: what rests for one of them is trained by another one
    reduced = any(shrink_factor(tuple(each["image_shape"][1:])) > 1 for each in found.values())
    sources = [_of_run(place, file, each, reduced=reduced) for place, each in found.items()]
    wanted = (None, 3) if info is None else (info.flag, info.spatial_dims)
    nearest = min(sources, key=lambda source: (source.flag != wanted[0], source.spatial_dims != wanted[1]))
    volumes = next((source for source in sources if source.spatial_dims == 3), None)
    if nearest.spatial_dims == 3 or volumes is None:
        return nearest
    stream = ("streams.volumetric.", "scale_attention.volumetric.")  # not its head, which asks about other labels
    added = {key: value for key, value in volumes.state.items() if key.startswith(stream)}
    return replace(nearest, state={**parts.own_head(nearest.state, "planar"), **added})


def _of_run(folder: Path, file: Path, metrics: dict[str, Any], *, reduced: bool | None = None) -> Source:
    check_complete(metrics, folder)
    if reduced is None:
        reduced = shrink_factor(tuple(metrics["image_shape"][1:])) > 1
    model = read_config(folder).get("model") or {}
    said = run_inputs.read(folder, metrics)
    state = checkpoints.read(file)
    if (name := sets.name_in(folder)) is not None:
        state = checkpoints.of_member(state, name)
    weights = state["state_dict"]
    own = {key.removeprefix("net."): value for key, value in weights.items() if key.startswith("net.")}
    return Source(
        file=file,
        sha256=sha256_of(file),
        state=_without_what_rested(own, reduced=reduced, resolution=model.get("planar_resolution")),
        flag=str(metrics["flag"]),
        problem=str(metrics["problem"]),
        classes=tuple(said.classes),
        spatial_dims=len(metrics["image_shape"]) - 1,
    )


def _exported(file: Path) -> Source:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"init_from={file} needs safetensors: pip install 'scale-medvision[export]'"
        ) from None
    try:
        with safe_open(file, framework="pt") as opened:
            said = json.loads((opened.metadata() or {})["scale"])
            names = [name for name in list(opened.keys()) if name.startswith("net.")]
            state = {name.removeprefix("net."): opened.get_tensor(name) for name in names}
        classes: Sequence[str] = said["classes"]
        shape = said["image_shape"]
        resolution = said["network"].get("planar_resolution")
        state = _without_what_rested(state, reduced=shrink_factor(tuple(shape[1:])) > 1, resolution=resolution)
        return Source(
            file, sha256_of(file), state, str(said["flag"]), str(said["problem"]), tuple(classes), len(shape) - 1
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"init_from={file} is damaged, or not of scale.export ({reason:.160}); {ANOTHER}") from error


def _without_what_rested(
    state: "Mapping[str, Tensor]", *, reduced: bool, resolution: str | None
) -> "dict[str, Tensor]":
    """Zeros in the place of weights that were never trained: of a stem whose samples were not reduced the second half.

    At another size they are used; as they were drawn they would be noise.
    """
    found = dict(state)
    for stream in STREAMS:
        name = f"streams.{stream}.stem.weight"
        if name in found and not (reduced and (stream != "planar" or resolution != "full")):
            weight = found[name].clone()
            weight[:, weight.shape[1] // 2 :] = 0
            found[name] = weight
    return found
