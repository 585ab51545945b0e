"""In the place of `python -m scale.train` in tests of what starts runs: a curve of two overrides, no torch.

Writes what a run writes: `history.csv` and a checkpoint each epoch, `metrics.json` at the end; goes on from the
checkpoint; ends with its parent. `computed.txt` has a line for each epoch that was computed. The epoch with the lowest
loss, which it keeps, is not the one with the highest AUC.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

KEPT = 3  # epoch


def main() -> None:
    values = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    assert values["test"] == "false"
    if float(values["optimizer.weight_decay"]) > float(os.environ.get("STAND_IN_FAILS_ABOVE", "inf")):
        print("begins\nscale: this weight decay\n  is too much\nSet the environment variable HYDRA_FULL_ERROR=1")
        sys.exit(1)
    folder = Path(values.get("resume") or values["hydra.run.dir"].strip("'"))
    assert not (folder / "metrics.json").exists()
    (folder / "config.yaml").write_text("callbacks: {checkpoint: {monitor: loss}}\n")
    (folder / "checkpoints").mkdir(exist_ok=True)
    checkpoint, history = folder / "checkpoints" / "last.ckpt", folder / "history.csv"
    rows = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
    peak = 0.9 - 0.1 * abs(math.log10(float(values["optimizer.lr"]) / 0.01))
    for epoch in range(len(rows), int(values["budget.max_epochs"])):
        waits = epoch == 4 and int(folder.name) >= 3 and peak < float(os.environ.get("STAND_IN_WAITS_BELOW", "-inf"))
        time.sleep(600 if waits else float(os.environ.get("STAND_IN_SECONDS", "0.01")))
        if os.getppid() != int(os.environ["SCALE_PARENT"]):
            sys.exit(143)
        rows.append([epoch, peak - 0.2 / (epoch + 1), 0.1 * abs(epoch - KEPT)])
        replace(checkpoint, json.dumps(rows))
        with (folder / "computed.txt").open("a") as file:
            file.write(f"{epoch}\n")
        replace(history, "epoch,val/auc,val/loss\n" + "".join(f"{n},{auc},{loss}\n" for n, auc, loss in rows))
    best = rows[KEPT][1] if math.isfinite(peak) else None
    replace(folder / "metrics.json", json.dumps({"val": {"auc": best}}))


def replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


main()
