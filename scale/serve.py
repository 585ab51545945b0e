"""`python -m scale.serve`: a page and an API on this machine that predict files. Research only."""

import ipaddress
import logging
import sys

import hydra
from omegaconf import DictConfig

from scale import config as configuration
from scale.config.help import show_help
from scale.utils.cli import one_line_errors

HELP = """\
usage: python -m scale.serve run=DIR [explain=METHOD] [port=8000] [key=value ...]

A page on which one drops a PNG, a NIfTI file or a zipped DICOM series and sees probabilities, the conformal set, a
warning where the file looks unlike the training data, and with explain=METHOD the map; a JSON API beside it
(POST /predict, GET /model, /openapi.json). It listens on this machine only unless public=true, keeps nothing, and is
for research only.

  python -m scale.serve run=DIR explain=integrated_gradients
  curl -F file=@scan.nii.gz http://127.0.0.1:8000/predict
  python -m scale.serve --cfg job                                   shows every key with its value
"""


def check_host(host: str, *, public: bool) -> None:
    """Raises ValueError for an address that other machines reach, unless asked for."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not public:
        raise ValueError(f"host={host} can be reached from other machines, and there is no password: add public=true")


def _run(config: DictConfig) -> None:
    if config.run is None:
        raise ValueError("give run=<folder of a finished run>")
    check_host(config.host, public=config.public)
    for key in ("max_megabytes", "max_megapixels"):
        if config[key] < 1:
            raise ValueError(f"{key}={config[key]}: give a number of at least 1")
    if not 1 <= config.port <= 65535:
        raise ValueError(f"port={config.port}: give a number from 1 to 65535")
    try:
        import uvicorn

        from scale.serving.app import NOTICE, create_app
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed: pip install 'scale-medvision[serve]'") from error
    import tempfile
    from pathlib import Path

    from scale.exporting.pretrained import load_predictor
    from scale.inference.maps import Explainer
    from scale.runs.predict import find_device

    device = find_device(config.accelerator)
    predictor = load_predictor([config.run], device=device, alpha=config.alpha, allow=config.allow)
    explainer = None if config.explain is None else Explainer(predictor, config.explain, Path(tempfile.gettempdir()))
    app = create_app(
        predictor,
        explainer=explainer,
        max_bytes=config.max_megabytes << 20,
        max_values=config.max_megapixels * 1_000_000,
    )
    print(f"http://{config.host}:{config.port}  {NOTICE}  Ctrl-C ends it.", flush=True)
    uvicorn.run(app, host=config.host, port=config.port, log_level="warning")


def _job(config: DictConfig) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    with one_line_errors():
        _run(config)


def main() -> None:
    """The command."""
    if show_help(sys.argv[1:], HELP):
        return
    configuration.check_command_line(sys.argv[1:], name="serve")
    folder = str(configuration.directory())
    hydra.main(version_base=configuration.VERSION_BASE, config_path=folder, config_name="serve")(_job)()


if __name__ == "__main__":
    main()
