"""Configuration values: each leaf gets the wrong type, NaN, infinity, a negative, zero, a huge number."""

import copy
import math
from functools import partial

import pytest
import torch
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from promise import FEW, MANY, kept, run

from scale import config as configuration
from scale.config import ConfigError
from scale.config.compose import _problems
from scale.tasks.build import build_datamodule, build_task
from scale.tasks.problem import Problem
from scale.training import hardware
from scale.training.trainer import build_trainer

VALUES = (
    *("abc", "", None, math.nan, math.inf, -math.inf, -1, -0.5, 0, 0.0, 1e30, 10**30, True, [], {}, [1, 2], ["a"]),
    *("1e5", "none", {"a": 1}, 0.5, 1, 2, 3),
)
ELSEWHERE = ("paths", "resume", "rerun", "data.root", "data.samples", "trainer.fast_dev_run", "data._target_")
NOT_BUILT = (
    "accelerator",
    "devices",
    "strategy",
    "num_nodes",
    "compile",
    "cuda_graphs",
)  # the machine's; a compiler takes minutes


@pytest.fixture(scope="module")
def usual(phantom_root):
    return configuration.compose(
        [
            *("data=phantom2d", f"data.root={phantom_root}", "data.samples={train: 16, val: 8, test: 8}"),
            *("data.batch_size=8", "model=scale_tiny", "logger=none", "callbacks=explain", "trainer=fast_dev_run"),
        ]
    )


def keys(config):
    found = [key for key, _ in configuration.flat(configuration.plain(config))]
    return [key for key in found if not key.startswith(ELSEWHERE)]


def step(config, folder):
    """A step of training and one of evaluation, from a configuration that nothing was said against."""
    hardware.check(config)
    module = build_datamodule(config)
    module.setup()
    problem = Problem(module.info.problem, len(module.info.labels))
    task = build_task(config, problem, image_shape=module.image_shape)
    build_trainer(config, folder, samples=len(module.train_labels), logger=[])
    batch = module.prepare(next(iter(module.train_dataloader())), training=True)
    optimizer = task._optimizer(task.parameters())
    schedule = task._scheduler(optimizer, total_steps=4)
    loss = task.training_step(batch, 0) if math.isfinite(float(batch["image"].sum())) else torch.tensor(math.nan)
    loss.backward()
    optimizer.step()
    schedule.step()
    with torch.inference_mode():
        chances = problem.probabilities(task.eval()(batch["image"]))
    assert math.isfinite(float(loss))
    assert ((chances >= 0) & (chances <= 1)).all()


def one(usual, folder, key, value):
    config = copy.deepcopy(usual)
    name = key.rpartition(".")[2]
    with kept("config", key, name):
        try:
            OmegaConf.update(config, key, value)
        except OmegaConfBaseException as error:
            raise ConfigError([f"{key}: {error}"]) from error
        problems = list(_problems(config))
        if problems:
            raise ConfigError([line for line in problems if key in line or name in line] or problems)
        config = configuration.grant(config) if key != "allow" else config
        if name not in NOT_BUILT:
            step(config, folder)


def many(usual, folder, count):
    names = keys(usual)
    draws = st.tuples(st.sampled_from(names), st.sampled_from(VALUES))
    run(count, draws, partial(one, usual, folder))


@pytest.fixture(autouse=True)
def _as_it_was():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_value(usual, tmp_path):
    many(usual, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_value_many(usual, tmp_path):
    many(usual, tmp_path, 2 * MANY)
