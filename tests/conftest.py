"""Fixtures shared by all tests. Nothing here or below them uses the network."""

import os
import signal
import socket
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the commands that tests start, beside one another
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # tests in the background start commands that they interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
REPOSITORY = Path(__file__).resolve().parent.parent
LONGEST = (  # of the files, by CPU time: begun first, so that no worker is left alone with one of them at the end
    *("test_train.py", "test_explain.py", "test_resume.py", "test_compose.py", "test_tune.py", "test_attack.py"),
    *("test_methods.py", "test_sweep.py", "test_loggers.py", "test_predict.py", "01_quickstart.ipynb", "test_sync.py"),
    *("test_strangers.py", "test_study.py", "test_readme.py", "test_benchmark.py", "test_space.py"),
)


def pytest_configure(config):
    there = {path.name for path in Path(__file__).parent.rglob("test_*.py")}
    there |= {path.name for path in config.rootpath.glob("notebooks/*.ipynb")}
    if gone := set(LONGEST) - there:
        raise pytest.UsageError(f"tests/conftest.py begins with files that are not there: {', '.join(sorted(gone))}")


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A connection to anything but this machine is an error."""
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors are faster with one thread, and results do not depend on the machine's cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the official npz files."""
    given = os.environ.get("SCALE_TEST_DATA")
    if not given or not Path(given).is_dir():
        pytest.skip("no real data: SCALE_TEST_DATA names no folder with the official npz files")
    return Path(given)


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory) -> Path:
    """A data folder for phantoms that the tests share."""
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture
def small(phantom_root) -> list[str]:
    """Overrides for a phantom that trains in a second."""
    return [
        "data=phantom2d",
        f"data.root={phantom_root}",
        "data.samples={train: 48, val: 24, test: 32}",
        "data.batch_size=16",
        "model=scale_tiny",
        "budget.min_epochs=2",
        "budget.max_epochs=2",
        "report=false",
    ]


@pytest.fixture(scope="session")
def a_run(tmp_path_factory, phantom_root) -> Path:
    """The folder of a finished run of two epochs, to be copied before it is changed."""
    import scale
    from scale.train import train

    given = [
        *("data=phantom2d", f"data.root={phantom_root}", "data.samples={train: 32, val: 16, test: 24}"),
        *("data.batch_size=16", "model=scale_tiny", "budget.min_epochs=2", "budget.max_epochs=2", "logger=none"),
    ]
    folder = tmp_path_factory.mktemp("a_run") / "run"
    train(scale.compose(given), folder, overrides=given)
    return folder


@pytest.fixture(scope="session")
def run3d(tmp_path_factory) -> Path:
    """A run on binary phantoms of 28 voxels."""
    return _finished(tmp_path_factory, "phantom3d", "{train: 32, val: 24, test: 12}")


@pytest.fixture(scope="session")
def run2d(tmp_path_factory) -> Path:
    """A run on colour phantoms of four classes."""
    options = ["data.problem=multiclass", "data.num_classes=4", "data.channels=3"]
    return _finished(tmp_path_factory, "phantom2d", "{train: 64, val: 40, test: 24}", *options)


def _finished(factory, data, samples, *options) -> Path:
    from scale.config import compose
    from scale.train import train

    folder = factory.mktemp(data)
    overrides = [
        f"data={data}", f"data.root={folder}/data", f"data.samples={samples}", "model=scale_tiny", "logger=none",
        "budget.min_epochs=1", "budget.max_epochs=1", "report=false", *options,
    ]  # fmt: skip
    train(compose(overrides), folder / "run", overrides=overrides)
    return folder / "run"
