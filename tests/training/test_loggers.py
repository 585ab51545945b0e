"""Each logger gets the configuration, the curves, the summary and the figures; read back from its own files."""

import contextlib
import csv
import json
import socket
import struct
import time

import pytest

import scale
from scale.train import train
from scale.training import loggers


def test_csv(small, tmp_path):
    metrics = train(scale.compose([*small, "logger=csv"]), tmp_path / "run")
    with (tmp_path / "run" / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    curve = [float(row["val/auc"]) for row in rows if row["val/loss"]]
    assert len(curve) == 2
    assert float(rows[-1]["test/auc"]) == metrics["test"]["auc"]


def test_tensorboard(small, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = train(scale.compose([*small, "logger=tensorboard"]), tmp_path / "run")
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert len(found.Scalars("val/auc")) == 2
    assert found.Scalars("test/auc")[0].value == pytest.approx(metrics["test"]["auc"], abs=1e-6)
    assert {"figures/history", "figures/test_roc"} <= set(found.Tags()["images"])


def test_none_leaves_the_history(small, tmp_path):
    train(scale.compose([*small, "logger=none"]), tmp_path / "run")
    assert (tmp_path / "run" / "history.csv").is_file()
    assert not (tmp_path / "run" / "csv").exists()


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
    assert "offline" in lines[0]


def test_wandb_with_a_key_but_no_network(monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)

    def refuse(*_, **__):
        raise OSError("unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    settings = loggers._unattended({"_target_": "x", "log_model": True})
    assert settings["offline"] is True
    assert settings["log_model"] is False  # Lightning refuses both together
    assert "cannot be reached" in caplog.text


def test_wandb_stays_online_where_it_can(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)

    class Connection:
        def close(self):
            pass

    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: Connection())
    assert "offline" not in loggers._unattended({"_target_": "x"})


def test_wandb_is_finished_after_a_failure(small, tmp_path, monkeypatch):
    import wandb

    from scale.tasks.problem import Problem

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(Problem, "loss", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(scale.compose([*small, "logger=wandb"]), tmp_path / "run")
    assert wandb.run is None
