"""DICOM series that tests write."""

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
):
    """A CT series of a volume (column, row, slice), int16; `names` orders the files, `skip` leaves slices out."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    right, down = np.asarray(orientation, float).reshape(2, 3)
    normal = np.cross(right, down)
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
        data.ImagePositionPatient = [float(v) for v in normal * spacing[2] * k + np.array([5.0, -7.0, 11.0])]
        data.InstanceNumber = int(name) + 1
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = np.ascontiguousarray((volume[:, :, k].T + 1024).astype("<i2")).tobytes()
        pydicom.dcmwrite(folder / f"{name:04d}.dcm", data, enforce_file_format=True)
