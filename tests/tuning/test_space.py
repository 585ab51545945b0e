import pytest
from omegaconf import OmegaConf

from scale import config
from scale.tuning import space

PHANTOM = ["data=phantom2d", "model=scale_tiny"]


def default(found, overrides):
    return space.default(found, config.compose(overrides), overrides)


def problems(text):
    with pytest.raises(config.ConfigError) as error:
        space.read(config.plain(OmegaConf.create(text)))
    return error.value.problems


def of(text):
    return space.read(config.plain(OmegaConf.create(text)))


def test_ranges_and_choices_are_what_the_file_says():
    found = of(
        "{optimizer.lr: {low: 1e-4, high: 1e-2, log: true}, data.batch_size: {low: 8, high: 32, step: 8},"
        " budget.samples: {low: 100, high: 200}, model.fusion: [attention, gate], model.auxiliary: [true, false]}"
    )
    lr, batch, samples = (found[key] for key in ("optimizer.lr", "data.batch_size", "budget.samples"))
    assert (lr.low, lr.high, lr.log, type(lr).__name__) == (1e-4, 1e-2, True, "FloatDistribution")
    assert (batch.low, batch.high, batch.step, type(batch).__name__) == (8, 32, 8, "IntDistribution")
    assert (samples.log, samples.step) == (False, 1)
    assert found["model.fusion"].choices == ("attention", "gate")
    assert found["model.auxiliary"].choices == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "the space is empty"),
        ("{optimizer.lr: {low: 0.1, high: 0.01}}", "optimizer.lr: low=0.1 is not below high=0.01"),
        ("{optimizer.lr: {low: 0.1, high: 0.1}}", "is not below"),
        ("{optimizer.lr: {low: 0, high: 0.1, log: true}}", "low=0: a logarithmic range begins above 0"),
        ("{optimizer.lr: {low: 0.1, high: .inf}}", "high=inf: give a number"),
        ("{optimizer.lr: {low: 0.1}}", "high is missing"),
        ("{optimizer.lr: {low: a, high: 1}}", "low=a: give a number"),
        ("{optimizer.lr: {low: false, high: 1}}", "low=False: give a number"),
        ("{optimizer.lr: {low: 0.1, hihg: 1.0}}", "did you mean 'high'"),
        ("{optimizer.lr: {low: 0.1, high: 1.0, log: 3}}", "log=3: give true or false"),
        ("{optimizer.lr: {low: 0.1, high: 1.0, log: true, step: 0.1}}", "log or step"),
        ("{optimizer.lr: {low: 0.0, high: 1.0, step: 0.3}}", "step=0.3 does not lead from low=0.0 to high=1.0"),
        ("{optimizer.lr: 3}", "give a range"),
        ("{optimizer.lr: [0.1]}", "at least two values"),
        ("{optimizer.lr: [0.1, 0.1]}", "at least two values, each once"),
        ("{model.planar_widths: [[1, 2], [3, 4]]}", "write a list as text"),
        ("{seed: [0, 1]}", "the same seed"),
        ("{test: [true, false]}", "must not decide"),
        ("{data: [breastmnist, bloodmnist]}", "do not compare"),
        ("{hydra.run.dir: [a, b]}", "no key of a training"),
    ],
)
def test_what_is_no_range(text, message):
    assert message in problems(text)[0]


def test_all_that_is_wrong_comes_in_one_report():
    assert len(problems("{optimizer.lr: {low: 1}, seed: [0, 1], model.fusion: [gate]}")) == 3


def wrong(text, *overrides):
    with pytest.raises(config.ConfigError) as error:
        space.check(of(text), [*PHANTOM, *overrides])
    return "\n".join(error.value.problems)


def test_every_key_and_every_end_is_composed():
    found = wrong(
        "{optimizer.lrr: {low: 0.1, high: 1.0}, model.dim: {low: 1.5, high: 8.0}, scheduler: [constant, cosine, cosin]}"
    )
    assert "did you mean 'optimizer.lr'" in found
    assert "model.dim=8.0" in found  # the upper end
    assert "did you mean 'cosine'" in found  # the third of the values
    assert "augment.rotation" in wrong("{augment: [light, none], augment.rotation: {low: 0.0, high: 9.0}}")


@pytest.mark.parametrize("name", config.options("tune"))
def test_spaces_that_come_with_scale_are_right(name):
    found = space.read(config.plain(config.compose([f"tune={name}"], name="tune").tune))
    space.check(found, PHANTOM)
    assert default(found, PHANTOM) is not None


def test_the_configuration_itself_as_a_trial():
    found = of(
        "{optimizer.lr: {low: 1e-4, high: 1e-2, log: true}, model.auxiliary: [false, true],"
        " scheduler: [cosine, constant],"
        " model.planar_widths: ['[8, 16, 32]', '[16, 32, 64]'], data.batch_size: {low: 8, high: 32, step: 8}}"
    )
    assert default(found, [*PHANTOM, "optimizer.lr=0.002"]) == {
        "optimizer.lr": 0.002,
        "scheduler": "cosine",
        "model.auxiliary": True,
        "model.planar_widths": "[16, 32, 64]",
        "data.batch_size": 16,
    }
    assert default(found, [*PHANTOM, "optimizer.lr=0.02"]) is None
    assert default(found, [*PHANTOM, "data.batch_size=12"]) is None  # no multiple of the step


def test_whole_numbers_for_a_key_that_takes_fractions():
    with pytest.raises(config.ConfigError, match=r"optimizer.weight_decay: 0 and 1 are whole numbers.*write 0 and 1.0"):
        default(of("{optimizer.weight_decay: {low: 0, high: 1}}"), PHANTOM)


@pytest.mark.parametrize("value", [None, True, False, 3, 1e-5, 0.1 + 0.2, "gate"])
def test_an_assignment_gives_its_value_back(value):
    composed = config.compose([*PHANTOM, f"+paths.{space.assignment('x', value)}"])
    assert composed.paths.x == value
    assert type(composed.paths.x) is type(value)


def test_overrides_of_other_keys():
    assert space.without(["a.b=1", "+c=2", "~d", "a.bc=3"], {"a.b", "c", "d"}) == ["a.bc=3"]
