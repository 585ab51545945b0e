"""`python -m scale` and the console script `scale`: the commands, one line each."""

import runpy
import sys
from pathlib import Path

from scale.utils.choices import nearest

COMMANDS = {
    "prepare": "turn a folder or a table of your own images into one file to train on",
    "train": "train and test on one data set",
    "tune": "search for a better configuration by val AUC",
    "describe": "a data set: counts, duplicates, caveats; a network: shapes and multiply-adds",
    "evaluate": "recompute a run's metrics, or score a file in the official format",
    "predict": "predict new files, with calibrated probabilities, sets of classes and warnings",
    "explain": "attribution maps of a run's predictions, and how far each can be trusted",
    "export": "write a network as ONNX, torch.export or safetensors, with a model card",
    "serve": "a page and an API on this machine that predict files",
    "benchmark": "how fast networks train and predict on this machine",
    "report": "a leaderboard of runs beside the published results; the tables of a sweep",
}


def main() -> None:
    """Runs `scale COMMAND ...` as `python -m scale.COMMAND ...`."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in COMMANDS:
        sys.argv = [sys.argv[0], *sys.argv[2:]]
        # As a module of its own, so that the processes of a distributed run are started by the same command.
        runpy.run_module(f"scale.{command}", run_name="__main__", alter_sys=True)
        return
    if command == "--completion":
        script = (Path(__file__).parent / "utils" / "completion.bash").read_text(encoding="utf-8")
        print(script.replace("{commands}", " ".join(COMMANDS)), end="")
        return
    lines = "\n".join(f"  {name:12}{text}" for name, text in COMMANDS.items())
    usage = f"usage: scale COMMAND ...   (or python -m scale.COMMAND ...)\n\n{lines}\n\nscale COMMAND --help says more"
    usage += '\nscale --completion prints the completion for bash: eval "$(scale --completion)"'
    if command in ("-h", "--help"):
        print(usage)
        return
    print(f"scale: there is no command {command!r}{nearest(command, list(COMMANDS))}\n\n{usage}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
