"""DICOM series and enhanced multi-frame files that tests write."""

from pathlib import Path

import numpy as np


def write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    spacing=(1.0, 1.0, 2.0),
    orientation=(1, 0, 0, 0, 1, 0),
    uid=None,
    names=None,
    skip=(),
    way=None,
):
    """A CT series of a volume (column, row, slice), int16; `names` orders the files, `skip` leaves slices out.

    `way` is the direction from slice to slice, the normal if None: with a tilted gantry they differ.
    """
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    right, down = np.asarray(orientation, float).reshape(2, 3)
    way = np.cross(right, down) if way is None else np.asarray(way, float)
    names = names if names is not None else range(volume.shape[2])
    for k, name in zip(range(volume.shape[2]), names, strict=True):
        if k in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset(str(folder / f"{name:04d}.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = (
            CTImageStorage,
            meta.MediaStorageSOPInstanceUID,
            uid,
        )
        data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "CT", "MONOCHROME2", 1
        data.Rows, data.Columns = volume.shape[1], volume.shape[0]
        data.PixelSpacing, data.ImageOrientationPatient = [spacing[1], spacing[0]], list(map(float, orientation))
        data.ImagePositionPatient = [float(v) for v in way * spacing[2] * k + np.array([5.0, -7.0, 11.0])]
        data.InstanceNumber = int(name) + 1
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = np.ascontiguousarray((volume[:, :, k].T + 1024).astype("<i2")).tobytes()
        pydicom.dcmwrite(folder / f"{name:04d}.dcm", data, enforce_file_format=True)


def write_enhanced(path: Path, stored: np.ndarray, *, shared=None, own=None, top=None):
    """An enhanced CT file of stored values (frame, row, column), uint16, 2 mm apart along the patient's axis.

    `shared`, `own` (one for each frame, or None) and `top` are (slope, intercept) of the functional groups and of the
    file itself.
    """
    import pydicom
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

    def rescaling(pair):
        group = Dataset()
        if pair is not None:
            group.PixelValueTransformationSequence = [Dataset()]
            inside = group.PixelValueTransformationSequence[0]
            inside.RescaleSlope, inside.RescaleIntercept, inside.RescaleType = *pair, "HU"
        return group

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PhotometricInterpretation, data.SamplesPerPixel = "CT", "MONOCHROME2", 1
    data.NumberOfFrames, data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = stored.astype("<u2").tobytes()
    if top is not None:
        data.RescaleSlope, data.RescaleIntercept = top
    common, frames = rescaling(shared), [rescaling(pair) for pair in own or [None] * len(stored)]
    common.PixelMeasuresSequence, common.PlaneOrientationSequence = [Dataset()], [Dataset()]
    common.PixelMeasuresSequence[0].PixelSpacing = [1.0, 1.0]
    common.PlaneOrientationSequence[0].ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for k, frame in enumerate(frames):
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [0.0, 0.0, 2.0 * k]
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [common], frames
    pydicom.dcmwrite(path, data, enforce_file_format=True)
