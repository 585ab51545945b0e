"""The LightningDataModule of a folder of images: it is prepared once and then read like any other file."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scale.data.catalog import DataSet
from scale.data.own import NpzDataModule
from scale.data.store import Split, folder
from scale.preparing.job import prepare
from scale.preparing.samples import files_below
from scale.preparing.settings import Settings
from scale.utils.files import exclusive

log = logging.getLogger("scale")
SHOWN = 5  # skipped files that are named in the log


class FolderDataModule(NpzDataModule):
    """A folder of images or volumes in subfolders for each class, or with a table of labels.

    Args:
        path: the folder.
        labels: CSV file whose paths are relative to the folder.
        cache: folder for what is prepared, `$SCALE_DATA_ROOT`, else `~/.medmnist`, if None. A folder whose files change
            is prepared anew.
        fold: of a preparation with folds: the one that is tested on.
        workers: reading processes; one for each core if None.
        prepare: keys of `scale.preparing.settings.Settings`.
        options: those of `ImageDataModule`.

    Raises:
        ValueError: a setting that does not exist or cannot be.
    """

    def __init__(
        self,
        path: str,
        *,
        labels: str | None = None,
        cache: str | None = None,
        fold: int | None = None,
        workers: int | None = None,
        prepare: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, cache=None, fold=fold, **options)
        self.table = None if labels is None else Path(labels).expanduser()
        self.folder, self.workers = cache, workers or os.cpu_count() or 1
        try:
            self.settings = Settings.of(prepare or {})
        except TypeError as error:
            name = str(error).rpartition("argument ")[2]
            raise ValueError(f"data.prepare has no key {name}; python -m scale.prepare --cfg job shows all") from None
        except ValueError as error:
            raise ValueError(f"data.prepare.{error}") from error

    def open(self) -> tuple[DataSet, dict[str, Split]]:
        """Prepares the folder unless an earlier run did, and reads the result."""
        return self.open_file(self.file(), name=self.path.absolute().name)

    def file(self) -> Path:
        """The prepared file, made first where it is not there.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: nothing can be made of it.
        """
        if not self.path.is_dir():
            raise FileNotFoundError(f"data.path={self.path}: no such folder: {self.path.absolute()}")
        name = self.path.absolute().name
        place = folder(self.folder) / "prepared" / f"{name}-{self._digest_of_files()}"
        output = place / "dataset.npz"
        hint = "give a folder that can be written with data.cache=... or SCALE_DATA_ROOT"
        if not output.exists():
            with exclusive(place / ".lock", hint=hint):
                if not output.exists():
                    self._prepare(output, name)
        return output

    def _prepare(self, output: Path, name: str) -> None:
        found = prepare(
            output, source=self.path, table=self.table, settings=self.settings, workers=self.workers, title=name
        )
        for line in found.lines:
            log.info("%s", line)
        for skipped, reason in found.skipped[:SHOWN]:
            log.warning("skipped: %s %s", skipped, reason)
        log.info("prepared: %s; look at the contact sheets in %s", output, found.folder)

    def _digest_of_files(self) -> str:
        """Tells another preparation: settings, and names, sizes and times of all files."""
        content: list[Any] = [self.settings.record(), str(self.path.absolute())]
        tables = [] if self.table is None else [self.table]
        for path in [*tables, *files_below(self.path)]:
            status = path.stat()
            content.append([str(path), status.st_size, status.st_mtime_ns])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
