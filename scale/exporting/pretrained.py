"""Reading back what `python -m scale.export format=safetensors` has written, from a folder or Hugging Face's hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scale.exporting.network import VERSION, fitted
from scale.inference.familiarity import Reference
from scale.inference.predictor import Member, Predictor
from scale.inference.uncertainty import MAHALANOBIS
from scale.preparing.preprocess import Preprocessing
from scale.runs.inputs import Inputs, flips_of
from scale.runs.reading import METRICS
from scale.tasks.problem import Problem

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"
NETWORKS = (  # the classes that a downloaded file may name
    "scale.models.scale_net.ScaleNet",
    "scale.models.baselines.ResNet",
    "scale.models.timm_net.TimmNet",
)


def load_predictor(
    places: Sequence[str | Path],
    *,
    device: str,
    alpha: float = 0.1,
    calibrate: bool = True,
    allow: Sequence[str] = (),
) -> Predictor:
    """Of runs, or of one folder that `scale.export` has written.

    Args:
        places: folders.
        device: where to compute.
        alpha: share of conformal sets that may miss the true class.
        calibrate: divide logits by the temperature that fits val best.
        allow: code of the user's own that the network may use, such as `my_package`.

    Raises:
        FileNotFoundError: there is no finished run, or the exported folder lacks a file.
        ValueError: runs that do not go together, or another alpha than the folder was exported with.
    """
    from scale.runs.load import load_run

    first = Path(places[0]).expanduser()
    if len(places) > 1 or not (first / CONFIG).is_file() or (first / METRICS).exists():
        runs = [load_run(place, allow=allow) for place in places]
        return Predictor.of_runs(runs, device=device, alpha=alpha, calibrate=calibrate)
    found = load_pretrained(first, device=device, allow=allow)
    if alpha != found.uncertainty.alpha or not calibrate:
        raise ValueError(
            f"run={first} was exported with alpha={found.uncertainty.alpha} and its temperature: "
            "give these, or the run itself, or export it again with another alpha"
        )
    return found


def load_pretrained(place: str | Path, *, device: str = "cpu", allow: Sequence[str] = ()) -> Predictor:
    """A trained network, ready for `predict`.

    Args:
        place: folder that `scale.export` wrote, or the id of its repository on the hub (which needs huggingface_hub).
        device: where to compute.
        allow: modules of yours that the network may come from, such as `my_package`.

    Raises:
        FileNotFoundError: the folder holds no exported model.
        ModuleNotFoundError: the place is no folder, and huggingface_hub is not installed.
        ValueError: a file is damaged, or names a class that is neither on the list nor allowed.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = _download(str(place))
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: write it with python -m scale.export run=DIR format=safetensors"
            )
    try:
        said = json.loads((folder / CONFIG).read_text())
        if said["version"] != VERSION:
            raise ValueError(f"version {said['version']}, not {VERSION}")
        how = Preprocessing.from_record(said["preprocessing"])
        problem = Problem(said["problem"], len(said["classes"]))
        classes = said["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError("classes is no list of names")
        flips = None if said.get("flips") is None else flips_of(said["flips"], how.spatial_dims)
        inputs = Inputs(how, tuple(map(str, classes)), str(said["title"]), flips)
        uncertainty = fitted(said["uncertainty"], problem.name)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG} cannot be read ({error})") from error
    member = _member(folder, said, allow, known=uncertainty.unlike.score == MAHALANOBIS)
    return Predictor([member], inputs=inputs, problem=problem, fitted=uncertainty, device=device, place=folder)


def _member(folder: Path, said: dict[str, Any], allow: Sequence[str], *, known: bool) -> Member:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    net = network_of(folder / CONFIG, said.get("network"), allow)
    try:
        state = load_file(folder / WEIGHTS)
        mean, std = state.pop("mean"), state.pop("std")
        reference = None
        if known:
            reference = Reference(state.pop("center").numpy(), state.pop("whitening").numpy(), np.empty(0))
        net.load_state_dict({key.removeprefix("net."): value for key, value in state.items()})
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{folder / WEIGHTS} does not fit the network of {CONFIG} ({str(error).splitlines()[0]})"
        ) from error
    return Member(net.eval(), mean, std, reference)


def network_of(path: Path, said: Any, allow: Sequence[str]) -> "nn.Module":
    """What a file, perhaps a stranger's, says that the network is."""
    from scale.config import bounds, flat, instantiate, targets

    node = dict(said) if isinstance(said, dict) else {}
    if any("${" in str(value) for _, value in flat(node)):
        raise ValueError(f"{path} holds an interpolation (${{...}}), which an exported network does not")
    target = str(node.get("_target_"))
    if target not in NETWORKS and (targets.listed(target) or not targets.allowed(target, allow)):
        raise ValueError(
            f"{path} names the network {target:.200}; allowed: {', '.join(NETWORKS)}, and what you allow yourself: "
            "load_pretrained(..., allow=['my_package'])"
        )
    targets.check(node, allow, path="model", source=str(path))
    # A network of 10^30 layers would be built for ever.
    wrong = next(bounds.problems({"model": node, "trainer": {}}), None)
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong}")
    if "pretrained" in node:
        node["pretrained"] = False  # the file has the weights
    try:
        net: nn.Module = instantiate(node, allow=allow)
    except (TypeError, KeyError, AttributeError, AssertionError) as error:
        raise ValueError(
            f"{path} is damaged: no network is built from it ({' '.join(str(error).split()):.200})"
        ) from error
    return net


def _download(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{repository} is no folder; to read it from the hub: pip install huggingface_hub"
        ) from None
    return Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS]))
