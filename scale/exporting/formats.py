"""One file for each format, read back and compared with torch before it is kept."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scale.exporting.network import Deployed
from scale.utils.choices import suggest

log = logging.getLogger("scale")
FILES = {"onnx": "model.onnx", "torch_export": "model.pt2", "safetensors": "model.safetensors"}
TOLERANCE = 1e-4  # of probabilities, between runtimes
BATCH = 64
Runner = Callable[[np.ndarray], np.ndarray]  # images (B, C, *S), uint8, to probabilities (B, columns)


def check_format(name: str) -> None:
    """Raises ValueError or ModuleNotFoundError where a format does not exist or lacks its library."""
    if name not in FILES:
        raise ValueError(f"format={name!r}: {suggest(name, FILES)}")
    needed = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",)}.get(name, ())
    for library in needed:
        if importlib.util.find_spec(library) is None:
            raise ModuleNotFoundError(f"format={name} needs {library}: pip install 'scale-medvision[export]'")


def write(path: Path, name: str, network: Deployed, said: Mapping[str, Any]) -> None:
    """Writes a network in a format of `FILES`, with the record `said` as its metadata; any batch size goes in."""
    text = json.dumps(said)
    shape = said["image_shape"]
    example = torch.zeros((2, *shape), dtype=torch.uint8)
    dynamic = {"images": {0: torch.export.Dim("batch", min=1)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of exporters, on operators of their own
        if name == "safetensors":
            from safetensors.torch import save_file

            state = {key: value.contiguous() for key, value in network.state_dict().items()}
            save_file(state, path, metadata={"scale": text})
        elif name == "torch_export":
            program = torch.export.export(network, (example,), dynamic_shapes=dynamic)
            torch.export.save(program, path, extra_files={"scale.json": text})
        else:
            _write_onnx(path, network, example, dynamic, text)
    path.chmod(0o644)  # safetensors gives 0600, but the folder is to be shared


def runner(path: Path, name: str, network: Deployed, said: Mapping[str, Any], *, allow: Sequence[str] = ()) -> Runner:
    """What the written file says, in its own runtime; weights alone in the network that is built from the record.

    Raises:
        ValueError: the weights do not fit the network of the record.
    """
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: np.asarray(session.run(["probabilities"], {"images": images})[0])
    if name == "torch_export":
        module: torch.nn.Module = torch.export.load(path).module()
    else:
        import copy

        from safetensors.torch import load_file

        from scale.exporting.pretrained import network_of

        module = copy.deepcopy(network)
        module.net = network_of(path, said["network"], allow)
        for value in module.state_dict().values():
            value.zero_()  # so that a tensor that the file lacks shows
        try:
            module.load_state_dict(load_file(path))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path.name} does not fit the network of its record ({reason})") from error
        module.eval()
    return lambda images: _run(module, images)


def compare(given: Iterator[np.ndarray], network: Deployed, run: Runner) -> tuple[float, np.ndarray]:
    """The largest difference of probabilities between a runner and torch, and the runner's probabilities (N, columns).

    Args:
        given: batches of images (B, C, *S), uint8.
        network: in torch.
        run: the other.
    """
    worst, parts = 0.0, []
    for images in given:
        found = run(images)
        worst = max(worst, float(np.abs(found - _run(network, images)).max()))
        parts.append(found)
    return worst, np.concatenate(parts)


def _run(module: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(module(torch.from_numpy(images))[0].numpy())


def _write_onnx(path: Path, network: Deployed, example: torch.Tensor, dynamic: Any, text: str) -> None:
    import onnx

    torch.onnx.export(
        network,
        (example,),
        path,
        dynamo=True,
        external_data=False,  # one file
        dynamic_shapes=dynamic,
        input_names=["images"],
        output_names=network.outputs,
        verbose=False,
    )
    model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = "scale", text
    onnx.checker.check_model(model)
    onnx.save(model, path)
