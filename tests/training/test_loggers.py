"""Each logger gets the configuration, the curves, the summary and the figures; read back from its own files."""

import contextlib
import json
import os
import pty
import struct
import subprocess
import sys
import time

import pytest

import scale
from scale.train import train
from scale.training import loggers


def test_tensorboard(small, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = train(scale.compose([*small, "logger=tensorboard"]), tmp_path / "run")
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert len(found.Scalars("val/auc")) == 2
    assert found.Scalars("test/auc")[0].value == pytest.approx(metrics["test"]["auc"], abs=1e-6)
    assert {"figures/history", "figures/test_roc"} <= set(found.Tags()["images"])


@pytest.mark.parametrize("name", ["none", "csv"])
def test_the_history_is_the_one_table_of_curves(small, tmp_path, name):
    """`csv` is the old name of `none`: a second table, of Lightning's, said the same in other words."""
    train(scale.compose([*small, f"logger={name}"]), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").rglob("*.csv") if path.parent.name != "predictions"] == [
        "history.csv"
    ]
    assert scale.compose([f"logger={name}"]) == scale.compose()


def leveldb_records(data, block=32768):
    """Records of a LevelDB log (github.com/google/leveldb/blob/main/doc/log_format.md) behind W&B's 7-byte header."""
    place, parts = 7, []
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def read_wandb(folder):
    """Configuration, history, summary and media of the one offline run below a folder, from its binary log."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    config, history, summary, name = {}, [], {}, None
    for _ in range(100):  # W&B's own process may still be writing the last records
        records = [wandb_internal_pb2.Record() for _ in leveldb_records(path.read_bytes())]
        with contextlib.suppress(DecodeError):
            for record, data in zip(records, leveldb_records(path.read_bytes()), strict=False):
                record.ParseFromString(data)
            if any(record.HasField("exit") for record in records):
                break
        time.sleep(0.1)
    for record in records:
        for item in [*record.run.config.update, *record.config.update]:
            config[item.key or item.nested_key[0]] = json.loads(item.value_json)
        if record.HasField("run"):
            name = record.run.run_id
        if record.HasField("history"):
            history.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
        for item in record.summary.update:
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return name, config, history, summary, [p.name for p in path.parent.rglob("*.png")]


def test_wandb_without_key_or_network(small, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    names = set()
    for number in range(2):  # two runs in one process are two W&B runs
        folder = tmp_path / f"run{number}"
        metrics = train(scale.compose([*small, "logger=wandb", f"seed={number}"]), folder)
        name, config, history, summary, pictures = read_wandb(folder)
        names.add(name)
        assert config["seed"] == number
        assert config["data"]["batch_size"] == 16
        curve = [row["val/auc"] for row in history if "val/auc" in row]
        assert len(curve) == 2
        assert summary["test/auc"] == pytest.approx(metrics["test"]["auc"])
        assert summary["val/acc"] == pytest.approx(metrics["val"]["acc"])
        assert any("test_roc" in picture for picture in pictures)
    assert len(names) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert len(lines) == 2
    assert "no API key" in lines[0]
    assert f"wandb sync {tmp_path}" in lines[0]
    assert "offline" in lines[0]


LOGS_IN = """
import logging, sys
from pathlib import Path
logging.basicConfig(format="%(message)s", stream=sys.stdout)
from scale.training import loggers
settings, supplied = loggers._wandb({"project": "scale", "log_model": True}, Path(sys.argv[1]))
print(supplied["settings"].mode, settings["log_model"], "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "Failed to authenticate with"),
        ({}, "there is no API key"),
        ({"WANDB_MODE": "offline"}, None),  # asked for: nothing to say
    ],
)
def test_wandb_neither_asks_nor_hangs(tmp_path, environment, expected):
    """On a terminal, where W&B's own default is to ask for a key."""
    parent, child = pty.openpty()
    others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    process = subprocess.run(
        [sys.executable, "-c", LOGS_IN, str(tmp_path)], stdin=child, stdout=subprocess.PIPE, check=True, text=True,
        timeout=200, env={**others, "HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), **environment},
    )  # fmt: skip
    os.close(parent)
    os.close(child)
    said = process.stdout.splitlines()
    assert said[-1] == "offline False False"  # Lightning refuses to log models offline
    why = [line for line in said if line.startswith("W&B:") and "log_model" not in line]
    assert len(why) == (expected is not None)
    if expected is not None:
        assert expected in why[0]
        assert f"wandb sync {tmp_path}/wandb/offline-*" in why[0]


def test_wandb_stays_online_where_it_can(monkeypatch, tmp_path):
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    settings, supplied = loggers._wandb({"log_model": True}, tmp_path)
    assert (supplied["settings"].mode, settings["log_model"]) == ("online", True)


def test_wandb_is_finished_after_a_failure(small, tmp_path, monkeypatch):
    import wandb

    from scale.tasks.problem import Problem

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(Problem, "loss", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(scale.compose([*small, "logger=wandb"]), tmp_path / "run")
    assert wandb.run is None
