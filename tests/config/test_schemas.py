"""The roots' dataclasses."""

import pytest
from omegaconf import OmegaConf

from scale.config import schemas
from scale.config.compose import compose_unchecked
from scale.config.keys import flat, plain

OF_GROUPS = ("augment", "budget.samples")  # that the chosen option of a group sets


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_a_default_in_python_is_the_one_in_conf(name):
    """Whoever takes a schema without `conf/` gets what the command line gets."""
    composed = dict(flat(plain(compose_unchecked([], name))))
    own = dict(flat(OmegaConf.to_container(OmegaConf.structured(schemas.SCHEMAS[name]))))
    assert {key: value for key, value in own.items() if key not in OF_GROUPS} == {
        key: composed.get(key, "not there") for key in own if key not in OF_GROUPS
    }
