"""Reads what W&B wrote offline: its binary log, a LevelDB log of protocol-buffer records, and the files beside it."""

import contextlib
import json
import struct
import time
from dataclasses import dataclass, field


@dataclass
class Written:
    """One offline W&B run."""

    run: object = None
    config: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    axes: dict = field(default_factory=dict)  # x axis by metric
    artifacts: dict = field(default_factory=dict)  # by name: where each file waits to be uploaded, by its own path
    files: object = None  # folder of the media

    def table(self, name):
        """Columns and rows of a table that was logged under a name."""
        (entry,) = [row[name] for row in self.history if name in row]
        found = json.loads((self.files / entry["path"]).read_text())
        return found["columns"], found["data"]


def _blocks(data, block=32768):
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


def _records(path):
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    records = []
    for _ in range(100):  # W&B's own process may still be writing the last records
        records = []
        with contextlib.suppress(DecodeError):
            for data in _blocks(path.read_bytes()):
                record = wandb_internal_pb2.Record()
                record.ParseFromString(data)
                records.append(record)
            if any(record.HasField("exit") for record in records):
                break
        time.sleep(0.1)
    return records


def _put(node, item):
    """A record's value at its place: a name, or the names of the dicts that lead to it."""
    *above, last = item.nested_key or [item.key]
    for name in above:
        node = node.setdefault(name, {})
    node[last] = json.loads(item.value_json)


def read(folder):
    """The newest offline run below a run folder."""
    path = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))[-1]
    found, names = Written(files=path.parent / "files"), []
    for record in _records(path):
        for item in [*record.run.config.update, *record.config.update]:
            _put(found.config, item)
        if record.HasField("run"):
            found.run = record.run
        if record.HasField("history"):
            found.history.append({})
            for item in record.history.item:
                _put(found.history[-1], item)
        for item in record.summary.update:
            _put(found.summary, item)
        if record.HasField("metric"):
            names.append(record.metric.name or record.metric.glob_name)
            axis = record.metric.step_metric
            if not axis and record.metric.step_metric_index:
                axis = names[record.metric.step_metric_index - 1]
            found.axes[names[-1]] = axis
        artifact = record.artifact if record.HasField("artifact") else record.request.log_artifact.artifact
        if artifact.name:
            found.artifacts[artifact.name] = {entry.path: entry.local_path for entry in artifact.manifest.contents}
    return found
