"""DICOM images, multi-frame files and series, by pydicom (extra `dicom`)."""

import importlib
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scale.readers.picture import Picture, UnreadableError, check_not_empty, check_size, most_values, one_line

_META = 132 + 12  # bytes before what the group's length counts: preamble, DICM and the length itself (PS3.10)
_BYTES_OF_A_VALUE, _HEADER = 8, 1 << 20  # at most, in a file that is inflated

TOLERANCE = 0.01  # of a slice distance, and of direction cosines
SIDEWAYS = 0.05  # of a slice distance: how far beside the line through the first and the last slice one may lie
TAGS = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")  # alike in all slices of a volume


def read_dicom(paths: Sequence[Path]) -> Picture:
    """Reads a file, or a series: sorted along the normal of its slices, whatever the names and numbers say.

    Stored values become real ones (rescale slope and intercept, Hounsfield units in CT); MONOCHROME1 is inverted.

    Returns:
        An image (H, W) or (H, W, 3); a volume (column, row, slice) with its affine; a multi-frame file without
        positions as (frame, row, column).

    Raises:
        UnreadableError: damaged, without pixels, compressed in a way no installed plug-in reads, or a series that is
            none: two series, a missing or doubled slice, slices beside the line of the others, mixed sizes, spacings or
            orientations.
        ModuleNotFoundError: pydicom is not installed.
    """
    _library()
    headers = [_header(path) if len(paths) == 1 else _of_slice(path, _header) for path in paths]
    if len(paths) == 1:
        return _file(paths[0], headers[0])
    order, step = _sorted(headers)
    first = headers[order[0]]
    check_size((len(paths), int(first.Rows), int(first.Columns)))
    slices = [_of_slice(paths[place], _pixels) for place in order]
    if any(values.ndim != 2 for values in slices):
        raise UnreadableError("is a series of colour or multi-frame files: each is a file of its own")
    kind = np.result_type(*(values.dtype for values in slices))
    values = np.stack([values.T for values in slices], axis=-1).astype(kind, copy=False)
    rows, columns = (float(value) for value in first.PixelSpacing)
    affine = _affine(first.ImageOrientationPatient, first.ImagePositionPatient, (columns, rows), step)
    return Picture(values, 3, affine=affine, spacing=(columns, rows, float(np.linalg.norm(step))))


def series_of(paths: Sequence[Path]) -> tuple[dict[str, list[Path]], dict[Path, str]]:
    """Files by their SeriesInstanceUID, and why a file could not be read."""
    _library()
    found: dict[str, list[Path]] = {}
    broken: dict[Path, str] = {}
    for path in paths:
        try:
            header = _header(path)
        except UnreadableError as error:
            broken[path] = str(error)
            continue
        found.setdefault(str(header.get("SeriesInstanceUID", path)), []).append(path)
    return found, broken


def _library() -> Any:
    try:
        return importlib.import_module("pydicom")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("DICOM files need pydicom: pip install 'scale-medvision[dicom]'") from None


def _of_slice(path: Path, part: Callable[[Path], Any]) -> Any:
    """A part of a file of a series; what is wrong with it names the file, as the series has another name."""
    try:
        return part(path)
    except UnreadableError as error:
        raise UnreadableError(f"has the file {path.name}, which {error}") from error


def _header(path: Path) -> Any:
    check_not_empty(path)
    try:
        _check_inflated(path)
        header = _library().dcmread(path, stop_before_pixels=True)
        if header.get("Rows") is None or header.get("Columns") is None:
            raise UnreadableError("is a DICOM file without an image (no Rows and Columns)")
    except UnreadableError:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise UnreadableError(f"is truncated, damaged or no DICOM file ({one_line(error)})") from error
    return header


def _check_inflated(path: Path) -> None:
    """Raises UnreadableError for a deflated file (PS3.5 A.5) that would grow beyond any image; reads it in parts."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    most, grown = _BYTES_OF_A_VALUE * most_values() + _HEADER, 0
    with path.open("rb") as file:
        file.seek(_META + int(meta.FileMetaInformationGroupLength))
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while (part := file.read(1 << 16)) and not inflate.eof:
            while part:
                grown += len(inflate.decompress(part, 1 << 20))
                part = inflate.unconsumed_tail
                if grown > most:
                    raise UnreadableError("is deflated and grows beyond the limit (a decompression bomb)")


def _pixels(path: Path) -> np.ndarray:
    """Real values of one file: (H, W), (H, W, 3), (F, H, W) or (F, H, W, 3)."""
    pydicom = _library()
    from pydicom.pixels import apply_color_lut, pixel_array

    try:
        data = pydicom.dcmread(path)
        check_size((int(data.get("NumberOfFrames") or 1), int(data.Rows), int(data.Columns)))
        stored = pixel_array(data, allow_excess_frames=False)
        check_size(stored.shape)
        stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        kind = str(data.get("PhotometricInterpretation", "MONOCHROME2"))
        if kind == "PALETTE COLOR":
            colours = apply_color_lut(stored, data)
            return _eight_bits(colours, 8 * colours.dtype.itemsize)
        if not kind.startswith("MONOCHROME"):
            return _eight_bits(stored, int(data.BitsStored))
        if kind == "MONOCHROME1":  # PS3.3 C.7.6.3.1.2: the lowest value is white
            top = (1 << int(data.BitsStored)) - 1
            stored = (-1 - stored) if int(data.PixelRepresentation) else (top - stored).astype(stored.dtype)
        return _real_values(stored, data)
    except UnreadableError:
        raise
    except Exception as error:  # plug-ins of many makers
        if "all plugins are missing" in str(error):
            syntax = data.file_meta.TransferSyntaxUID.name
            raise UnreadableError(
                f"is compressed as {syntax}, which needs: pip install python-gdcm pyjpegls"
            ) from error
        raise UnreadableError(f"has pixels that cannot be read ({one_line(error)})") from error


def _real_values(stored: np.ndarray, data: Any) -> np.ndarray:
    """Stored values as they are where nothing rescales them, else float32.

    Enhanced files (PS3.3 C.7.6.16.2.9) rescale each frame by its own functional group, else by the shared one.
    """
    rescaled = _frame_rescales(data)
    if rescaled is None:
        from pydicom.pixels import apply_modality_lut

        if _rescale(data) == (1, 0) and "ModalityLUTSequence" not in data:
            return stored
        return np.asarray(apply_modality_lut(stored, data), np.float32)
    if all(pair == (1, 0) for pair in rescaled):
        return stored
    frames = stored.reshape(-1, *stored.shape[-2:])
    if len(rescaled) not in (1, len(frames)):
        raise UnreadableError(f"has {len(frames)} frames, but rescale slopes of {len(rescaled)}")
    slopes, intercepts = np.array(rescaled, float).T[..., None, None]
    return (frames * slopes + intercepts).astype(np.float32).reshape(stored.shape)


def _frame_rescales(data: Any) -> list[tuple[float, float]] | None:
    """(slope, intercept) of each frame, one where all share it; None where no functional group rescales."""
    name = "PixelValueTransformationSequence"
    shared = [group for group in data.get("SharedFunctionalGroupsSequence") or () if group.get(name)][:1]
    own = list(data.get("PerFrameFunctionalGroupsSequence") or ())
    if not any(group.get(name) for group in own):
        return [_rescale(shared[0][name][0])] if shared else None
    chosen = [group if group.get(name) else shared[0] if shared else None for group in own]
    if None in chosen:
        raise UnreadableError(f"has no rescale slope for frame {chosen.index(None) + 1} of {len(own)}")
    return [_rescale(group[name][0]) for group in chosen if group is not None]


def _rescale(group: Any) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where they are missing."""
    return float(group.get("RescaleSlope") or 1), float(group.get("RescaleIntercept") or 0)


def _eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """The upper 8 of colours' bits."""
    return (values >> max(bits - 8, 0)).astype(np.uint8)


def _file(path: Path, header: Any) -> Picture:
    values = _pixels(path)
    frames = int(header.get("NumberOfFrames") or 1)
    if frames == 1:
        spacing = _spacing(header)
        return Picture(
            values.reshape(values.shape[-2:]) if values.ndim == 3 and values.shape[0] == 1 else values,
            2,
            spacing=spacing,
        )
    positions = _frame_positions(header)
    if positions is None:
        return Picture(values, 3)
    order, step = positions
    orientation, origin, (rows, columns) = _frame_geometry(header, order[0])
    if len(order) != len(values):
        raise UnreadableError(f"has {len(values)} frames, but positions of {len(order)}")
    stack = np.moveaxis(values[order], 0, 2)  # (row, column, slice[, C])
    affine = _affine(orientation, origin, (columns, rows), step)
    spacing = (columns, rows, float(np.linalg.norm(step)))
    return Picture(np.ascontiguousarray(stack.swapaxes(0, 1)), 3, affine=affine, spacing=spacing)


def _frame_positions(header: Any) -> tuple[list[int], np.ndarray] | None:
    """Order and step of an enhanced multi-frame file; None where its frames have no positions."""
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups or any("PlanePositionSequence" not in group for group in groups):
        return None
    try:
        geometry = [_frame_geometry(header, place) for place in range(len(groups))]
    except (AttributeError, KeyError, IndexError):
        return None
    return _along([g[0] for g in geometry], [g[1] for g in geometry])


def _frame_geometry(header: Any, place: int) -> tuple[Any, Any, tuple[float, float]]:
    """Orientation, position and (row, column) spacing of one frame of an enhanced file."""
    own = header.PerFrameFunctionalGroupsSequence[place]
    shared = header.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in header else own
    orientation = (own if "PlaneOrientationSequence" in own else shared).PlaneOrientationSequence[0]
    measures = (own if "PixelMeasuresSequence" in own else shared).PixelMeasuresSequence[0]
    row, column = (float(value) for value in measures.PixelSpacing)
    return orientation.ImageOrientationPatient, own.PlanePositionSequence[0].ImagePositionPatient, (row, column)


def _sorted(headers: Sequence[Any]) -> tuple[list[int], np.ndarray]:
    """Order of the slices, and the vector in millimetres from one to the next."""
    series = {str(header.get("SeriesInstanceUID")) for header in headers}
    if len(series) > 1:
        raise UnreadableError(f"holds {len(series)} DICOM series: give each a folder of its own")
    for tag in TAGS:
        values = [header.get(tag) for header in headers]
        if any(value is None for value in values):
            raise UnreadableError(f"is a series whose slices do not all have {tag}")
        numbers = np.array([np.atleast_1d(np.asarray(value, float)) for value in values])
        if np.abs(numbers - numbers[0]).max() > 1e-3 * max(1.0, float(np.abs(numbers[0]).max())):
            raise UnreadableError(f"is a series of mixed {tag}")
    if any(header.get("ImagePositionPatient") is None for header in headers):
        raise UnreadableError("is a series whose slices do not all have ImagePositionPatient")
    return _along([h.ImageOrientationPatient for h in headers], [h.ImagePositionPatient for h in headers])


def _along(orientations: Sequence[Any], positions: Sequence[Any]) -> tuple[list[int], np.ndarray]:
    """Order along the normal, and the vector from slice to slice: with a tilted gantry it is not along the normal."""
    directions = np.asarray(orientations[0], float).reshape(2, 3)
    if np.abs(np.asarray([np.asarray(o, float) for o in orientations]) - directions.ravel()).max() > TOLERANCE:
        raise UnreadableError("has slices of different orientations")
    normal = np.cross(directions[0], directions[1])
    points = np.asarray([np.asarray(position, float) for position in positions])
    places = points @ normal
    order = np.argsort(places, kind="stable")
    steps = np.diff(places[order])
    step = float(np.median(steps)) if len(steps) else 1.0
    if step <= 1e-4 or steps.min() <= 1e-4:
        raise UnreadableError("has two slices at the same position")
    wrong = np.abs(steps - step) > max(TOLERANCE * step, 1e-3)
    if wrong.any():
        where = int(np.flatnonzero(wrong)[0])
        ratio = steps[where] / step
        if abs(ratio - round(ratio)) < 0.1 and round(ratio) > 1:
            raise UnreadableError(f"lacks {round(ratio) - 1} slice(s) behind slice {where + 1} of {len(places)}")
        raise UnreadableError(f"has slices {steps.min():.3g} to {steps.max():.3g} mm apart: mixed spacing")
    points = points[order] - points[order[0]]
    line = points[-1] / np.linalg.norm(points[-1])
    beside = np.linalg.norm(points - np.outer(points @ line, line), axis=1)
    if beside.max() > SIDEWAYS * step:
        raise UnreadableError(
            f"has slices that do not lie on a line: slice {int(beside.argmax()) + 1} of {len(places)} is "
            f"{beside.max():.3g} mm beside it"
        )
    return [int(place) for place in order], points[-1] / (len(points) - 1)


def _affine(orientation: Any, origin: Any, spacing: tuple[float, float], step: np.ndarray) -> np.ndarray:
    """From (column, row, slice) to RAS millimetres; DICOM's own are LPS (PS3.3 C.7.6.2.1.1)."""
    right, down = np.asarray(orientation, float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = right * spacing[0], down * spacing[1], step
    affine[:3, 3] = np.asarray(origin, float)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _spacing(header: Any) -> tuple[float, ...] | None:
    value = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    return tuple(float(step) for step in value) if value else None
