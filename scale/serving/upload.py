"""An uploaded file, read within limits and gone afterwards."""

import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from scale.readers import Picture, UnreadableError, read
from scale.readers.files import DIRECTORY, SUFFIXES, kind_of

MAX_FILES = 4000  # of a zipped series


def read_upload(name: str, content: bytes, *, max_values: int, max_bytes: int) -> Picture:
    """The picture in an upload: one file, or a zip of the slices of one DICOM series.

    Args:
        name: the file's name, of which the ending alone is used.
        content: its bytes.
        max_values: pixels or voxels.
        max_bytes: of what a zip file unpacks to.

    Raises:
        UnreadableError: it cannot be used; says why.
    """
    with tempfile.TemporaryDirectory(prefix="scale-serve-") as place:  # readers take files; gone when this ends
        path = Path(place) / f"upload{_ending(name)}"
        if path.suffix == ".zip":
            path = _unpacked(content, Path(place) / "series", max_bytes=max_bytes)
        else:
            path.write_bytes(content)
            if kind_of(path) is None:
                raise UnreadableError(f"is of an unknown kind ({_ending(name) or 'no ending'})")
        return read(path, limit=max_values)


def _ending(name: str) -> str:
    """The ending of a name, without anything that could be a path."""
    base = PurePosixPath(name.replace("\\", "/")).name.lower()
    for ending in (".nii.gz", ".zip"):
        if base.endswith(ending):
            return ending
    suffix = PurePosixPath(base).suffix
    return suffix if suffix[1:].isalnum() and len(suffix) <= 8 else ""


def _unpacked(content: bytes, folder: Path, *, max_bytes: int) -> Path:
    """The files of a zip, flat and renamed; a lone file is that file, several are a series."""
    import io

    folder.mkdir()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = {member: PurePosixPath(member.filename).name.lower() for member in archive.infolist()}
            members = [m for m, own in names.items() if not (m.is_dir() or own.startswith(".") or own == DIRECTORY)]
            if not members:
                raise UnreadableError("is an empty zip file")
            if len(members) > MAX_FILES or sum(member.file_size for member in members) > max_bytes:
                raise UnreadableError(f"unpacks to {len(members)} files or more bytes than allowed ({max_bytes:,})")
            for number, member in enumerate(members):
                with archive.open(member) as file:
                    raw = file.read(max_bytes + 1)  # what a header says is not believed
                max_bytes -= len(raw)
                if max_bytes < 0:
                    raise UnreadableError("unpacks to more bytes than allowed (a decompression bomb)")
                ending = _ending(member.filename)  # that of 1.2.840.113619.10 is none
                (folder / f"{number:05d}{ending if ending in SUFFIXES else ''}").write_bytes(raw)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"is a damaged or locked zip file ({str(error) or type(error).__name__})") from error
    files = sorted(folder.iterdir())
    return files[0] if len(files) == 1 else folder
