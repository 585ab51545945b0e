"""`python -m scale` and the console script `scale`: the commands, one line each."""

import runpy
import sys

from scale.utils.choices import nearest

COMMANDS = {
    "prepare": "turn a folder or a table of your own images into one file to train on",
    "train": "train and test on one data set",
    "tune": "search for a better configuration by val AUC",
    "describe": "shapes and multiply-adds of a network, as a table and a picture",
    "evaluate": "recompute a run's figures, or score a file in the official format",
    "predict": "predict new files, with calibrated probabilities, sets of classes and warnings",
    "explain": "maps of what a run's answers rest on, and how far each can be trusted",
    "export": "write a network as ONNX, torch.export or safetensors, with a model card",
    "serve": "a page and an API on this machine that predict files",
    "benchmark": "how fast networks train and answer on this machine",
    "report": "our results beside the published ones, as a table",
}


def main() -> None:
    """Runs `scale COMMAND ...` as `python -m scale.COMMAND ...`."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in COMMANDS:
        sys.argv = [sys.argv[0], *sys.argv[2:]]
        # As a module of its own, so that the processes of a distributed run are started by the same command.
        runpy.run_module(f"scale.{command}", run_name="__main__", alter_sys=True)
        return
    lines = "\n".join(f"  {name:12}{text}" for name, text in COMMANDS.items())
    usage = f"usage: scale COMMAND ...   (or python -m scale.COMMAND ...)\n\n{lines}\n\nscale COMMAND --help says more"
    if command in ("-h", "--help"):
        print(usage)
        return
    print(f"scale: there is no command {command!r}{nearest(command, list(COMMANDS))}\n\n{usage}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
