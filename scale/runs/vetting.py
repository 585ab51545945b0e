"""What a run's record may say when its run is resumed or repeated: what is trained, and nothing else.

The record may be a stranger's. It decides neither what code runs, nor what Hydra does, nor where something is written.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from scale.config import targets
from scale.config.compose import ConfigError, compose, compose_unchecked, directory
from scale.config.keys import flat, plain
from scale.runs.reading import ANOTHER, OVERRIDES

NOT_RECORDED = ("allow", "paths", "resume", "rerun")  # the present command's alone
WRITING = ("callbacks", "logger")  # groups whose members may be told where to write
PLACES = ("dirpath", "save_dir", "dir", "root_dir", "log_dir", "filename", "tracking_uri", "artifact_location")
OPTION = re.compile(r"[\w-]+(/[\w-]+)*")


def kept(recorded: Sequence[str], folder: Path) -> list[str]:
    """The recorded overrides that are the run's own.

    Raises:
        ValueError: one of them is no override, speaks to Hydra, or names an option by a path.
    """
    found = []
    for text in recorded:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise ValueError(f"{folder / OVERRIDES} is damaged: {text!r:.80} is no override; {ANOTHER}") from error
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] == "hydra" or override.package is not None or "@" in text.partition("=")[0]:
            raise ValueError(
                f"{folder / OVERRIDES} says {text!r:.80}: a record says what is trained and nothing to Hydra; give "
                "what you want of it on your own command line, and take the line out of the record"
            )
        if override.is_sweep_override():
            raise ValueError(f"{folder / OVERRIDES} says {text!r:.80}, which is for several runs; {ANOTHER}")
        if "." not in key and ("/" in key or (directory() / key).is_dir()):
            value = override.value()
            for option in value if isinstance(value, list) else [value]:
                if option is not None and not OPTION.fullmatch(str(option)):
                    raise ValueError(f"{folder / OVERRIDES} says {text!r:.80}: an option has a name, not a path")
        if key.split(".")[0] not in NOT_RECORDED:
            found.append(text)
    return found


def check(
    overrides: Sequence[str], recorded: Sequence[str], given: Sequence[str], folder: Path, *, config_dir: str | None
) -> None:
    """Compares what recorded and given overrides make together with what the user gave.

    Args:
        overrides: both, as they will be composed.
        recorded: those of the record.
        given: those of the command line.
        folder: of the record.
        config_dir: further folder of options, of the command line.

    Raises:
        TargetError: the record names code that is neither ours nor the user's.
        ValueError: it says where something is to be written, or what cannot be composed.
    """
    try:
        config = plain(compose_unchecked(overrides, config_dir=config_dir))
    except (HydraException, OmegaConfBaseException):
        try:
            compose(recorded, config_dir=config_dir)
        except ConfigError as error:
            raise ValueError(f"{folder / OVERRIDES}: {error.problems[0]}") from error
        return  # the check of the command line says why
    words = [text for text in given if not text.startswith(("resume=", "rerun="))]
    if config_dir is not None:
        words += [path.read_text(encoding="utf-8", errors="replace") for path in Path(config_dir).rglob("*.yaml")]
    own = [name for name in targets.unlisted(config) if _says(name, words)]
    targets.check(config, [*config["allow"], *own], source=str(folder))
    for group in WRITING:
        for key, value in flat(config.get(group) or {}, group):
            for text in (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)):
                named = key.rpartition(".")[2] in PLACES or _is_place(text)
                if not key.endswith("._target_") and named and not _says(text, words):
                    raise ValueError(
                        f"{folder} says {key}={text}: a record does not say where something is written; give it on "
                        "your own command line if you want it"
                    )


def _says(text: str, words: Sequence[str]) -> bool:
    pattern = re.compile(rf"(?<![\w.]){re.escape(text)}(?![\w.])")
    return any(pattern.search(word) for word in words)


def _is_place(text: str) -> bool:
    return text.startswith("~") or ".." in text or any(sign in text for sign in ("/", "\\", ":"))
