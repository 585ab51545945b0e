"""Where the axes of volumes point to, with nibabel as the oracle, and the files of maps that say so."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from scale.attribution.report import files
from scale.attribution.report.page import Sample
from scale.data import orientation

CODES = ["".join(letters) for pairs in permutations(("RL", "AP", "SI")) for letters in product(*pairs)]


def test_all_48_orientations():
    assert len(CODES) == 48
    for code in CODES:
        assert "".join(nibabel.aff2axcodes(orientation.affine(code))) == code == orientation.check_orientation(code)
        axis = orientation.mirrored_axis(code)
        assert code[axis] in "RL"
        assert orientation.planes(code)[axis] == "sagittal"
        assert orientation.planes(code)[[c in "SI" for c in code].index(True)] == "axial"


@pytest.mark.parametrize("wrong", ["RRS", "RA", "ras", "", None, ["R", "A", "S"]])
def test_what_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="give one of R or L, A or P and S or I each, such as SPL"):
        orientation.of({"orientation": wrong})


def test_what_a_record_says():
    assert orientation.of(None) == orientation.of({}) == "SPL"
    assert orientation.of({"orientation": "RAS"}) == "RAS"


@pytest.mark.parametrize("code", [None, "SPL", "RAS", "ALI"])
def test_a_samples_nifti_files_say_where_its_axes_point(tmp_path, code):
    """Brought to RAS by nibabel, a voxel of the volume lies where its orientation puts it; without one it is SPL."""
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 255, (4, 5, 6), dtype=np.uint8)
    sample = Sample("a", volume, {"saliency": rng.random((4, 5, 6))})
    given = {} if code is None else {"orientation": code}
    files.write_sample(tmp_path, "a", sample, {"saliency": sample.maps["saliency"][None]}, **given)
    for name, values in (("image", volume), ("saliency", sample.maps["saliency"])):
        found = nibabel.as_closest_canonical(nibabel.load(tmp_path / "nifti" / "a" / f"{name}.nii.gz")).get_fdata()
        wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, orientation.affine(code or "SPL")))
        np.testing.assert_allclose(found, wanted.get_fdata(), rtol=1e-6)
