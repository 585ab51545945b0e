"""Closed forms, and loops that do the same slowly."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from scale.tasks.problem import PROBLEMS, Problem

SIZES = {"binary": 2, "multiclass": 5, "multilabel": 6, "ordinal": 5}
ALL = [Problem(name, size) for name, size in SIZES.items()]


def batch(problem: Problem, n: int = 32, seed: int = 0, scale: float = 2.0):
    g = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, problem.outputs, generator=g)
    top = 2 if problem.name == "multilabel" else problem.num_classes
    return logits, torch.randint(0, top, (n, problem.label_width), generator=g)


def corn_by_loops(logits, labels, num_classes, weights=None):
    """Shi et al. 2023: for task k, the samples with y > k - 1; is y > k?; mean over all tasks of all samples."""
    total, examples = 0.0, 0.0
    for k in range(num_classes - 1):
        for row, y in zip(logits.tolist(), labels[:, 0].tolist(), strict=True):
            if y > k - 1:
                w = 1.0 if weights is None else float(weights[y])
                p = 1 / (1 + math.exp(-row[k]))
                total -= w * math.log(p if y > k else 1 - p)
                examples += w
    return total / examples


@pytest.mark.parametrize("problem", ALL, ids=lambda p: p.name)
def test_widths(problem):
    assert problem.outputs == {"binary": 2, "multiclass": 5, "multilabel": 6, "ordinal": 4}[problem.name]
    assert problem.columns == SIZES[problem.name]
    assert problem.label_width == (6 if problem.name == "multilabel" else 1)
    logits, _ = batch(problem)
    assert problem.probabilities(logits).shape == (32, problem.columns)


def test_softmax_problems_are_cross_entropy():
    for problem in ALL[:2]:
        logits, labels = batch(problem)
        weights = torch.linspace(0.5, 2, problem.num_classes)
        want = F.cross_entropy(logits, labels[:, 0], weights, label_smoothing=0.1)
        torch.testing.assert_close(problem.loss(logits, labels, label_smoothing=0.1, class_weights=weights), want)
        torch.testing.assert_close(problem.probabilities(logits), logits.softmax(1))


def test_multilabel_closed_form():
    problem = Problem("multilabel", 2)
    logits, labels = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[1, 0]])
    torch.testing.assert_close(problem.probabilities(logits), torch.tensor([[0.5, 0.75]]))
    assert problem.loss(logits, labels).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    # smoothing 0.2: targets 0.9 and 0.1
    want = (math.log(2) - 0.1 * math.log(0.75) - 0.9 * math.log(0.25)) / 2
    assert problem.loss(logits, labels, label_smoothing=0.2).item() == pytest.approx(want)
    weighted = problem.loss(logits, labels, class_weights=torch.tensor([3.0, 7.0])).item()
    assert weighted == pytest.approx((3 * math.log(2) + math.log(4)) / 2)  # the weight is that of a positive


def test_corn_closed_form():
    problem = Problem("ordinal", 3)
    logits = torch.tensor([[math.log(3.0), math.log(1 / 4)]])  # P(y>0) = 3/4, P(y>1 | y>=1) = 1/5
    torch.testing.assert_close(problem.probabilities(logits), torch.tensor([[0.25, 0.6, 0.15]]))
    for y, tasks in ((0, 1), (1, 2), (2, 2)):
        want = -math.log([0.25, 0.6, 0.15][y]) / tasks
        assert problem.loss(logits, torch.tensor([[y]])).item() == pytest.approx(want)


@pytest.mark.parametrize("seed", range(3))
def test_corn_equals_loops(seed):
    problem = Problem("ordinal", 5)
    logits, labels = batch(problem, seed=seed)
    assert problem.loss(logits, labels).item() == pytest.approx(corn_by_loops(logits, labels, 5), rel=1e-5)
    weights = torch.tensor([0.1, 3.0, 1.0, 0.7, 5.0])
    weighted = problem.loss(logits, labels, class_weights=weights).item()
    assert weighted == pytest.approx(corn_by_loops(logits, labels, 5, weights), rel=1e-5)
    # the conditional tasks of one sample add up to the likelihood of its class
    likelihood = -problem.probabilities(logits).gather(1, labels).log().sum()
    tasks = labels.clamp(max=3).add(1).sum()
    torch.testing.assert_close(problem.loss(logits, labels), likelihood / tasks)


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_ordinal_probabilities_sum_to_one(row):
    p = Problem("ordinal", len(row) + 1).probabilities(torch.tensor([row]))
    assert p.min() >= 0
    assert p.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("problem", ALL, ids=lambda p: p.name)
def test_smoothed_loss_is_least_at_the_smoothed_target(problem):
    eps, k = 0.2, problem.num_classes
    labels = torch.tensor([[1] * problem.label_width])
    logits = torch.zeros(1, problem.outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = problem.loss(logits, labels, label_smoothing=eps)
        loss.backward()
        return loss

    optimizer.step(closure)
    if problem.name == "multilabel":
        want = torch.full((1, k), 1 - eps / 2, dtype=torch.float64)
    else:
        want = torch.full((1, k), eps / k, dtype=torch.float64)
        want[0, 1] += 1 - eps
    torch.testing.assert_close(problem.probabilities(logits.detach()), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("problem", ALL, ids=lambda p: p.name)
def test_extreme_logits_stay_finite(problem, dtype):
    for sign in (1, -1):
        value = sign * torch.finfo(torch.float16).max
        for y in (0, 1):
            logits = torch.full((2, problem.outputs), value, dtype=dtype)
            logits[:, -1] *= -1
            logits.requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = problem.loss(logits, torch.full((2, problem.label_width), y), label_smoothing=0.1)
                p = problem.probabilities(logits)
            loss.backward()
            assert loss.dtype == p.dtype == torch.float32
            assert torch.isfinite(loss)
            assert torch.isfinite(p).all()
            assert torch.isfinite(logits.grad).all()
            assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("problem", ALL, ids=lambda p: p.name)
def test_mixing_is_the_convex_combination_sample_by_sample(problem):
    logits, labels = batch(problem, n=6)
    _, partner = batch(problem, n=6, seed=1)
    mix = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.9])
    weights = torch.linspace(0.5, 2, problem.num_classes)
    total = amount = 0.0
    for i in range(6):
        for lab, share in ((labels, mix[i].item()), (partner, 1 - mix[i].item())):
            y = lab[i : i + 1]
            if problem.name == "multilabel":
                n = 1.0
            else:
                n = weights[y[0, 0]].item()
                if problem.name == "ordinal":
                    n *= min(y.item(), problem.outputs - 1) + 1
            total += share * n * problem.loss(logits[i : i + 1], y, class_weights=weights).item()
            amount += share * n
    mixed = problem.loss(logits, labels, class_weights=weights, partner_labels=partner, mix=mix)
    assert mixed.item() == pytest.approx(total / amount, rel=1e-5)
    whole = problem.loss(logits, labels, partner_labels=partner, mix=torch.ones(6))
    torch.testing.assert_close(whole, problem.loss(logits, labels))
    with pytest.raises(ValueError, match="go together"):
        problem.loss(logits, labels, mix=mix)


@pytest.mark.parametrize("problem", ALL, ids=lambda p: p.name)
def test_float64_is_kept(problem):
    logits, labels = batch(problem, n=3)
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: problem.loss(x, labels, label_smoothing=0.1), logits)


def test_class_weights():
    labels = np.array([0] * 6 + [1] * 3 + [2] * 1)[:, None]
    weights = Problem("multiclass", 3).class_weights(labels)
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    assert weights[labels[:, 0]].mean().item() == pytest.approx(1)
    positives = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])
    torch.testing.assert_close(Problem("multilabel", 2).class_weights(positives), torch.tensor([3.0, 1 / 3]))
    with pytest.raises(ValueError, match="class 3 among 10"):
        Problem("ordinal", 4).class_weights(labels)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="did you mean 'multiclass'"):
        Problem("multi-class", 3)
    with pytest.raises(ValueError, match="exactly 2"):
        Problem("binary", 3)
    with pytest.raises(ValueError, match="at least 2"):
        Problem("ordinal", 1)
    with pytest.raises(ValueError, match=r"logits \(B, 4\).*got \(3, 5\)"):
        Problem("ordinal", 5).loss(torch.zeros(3, 5), torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels \(B, 1\)"):
        Problem("binary", 2).loss(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))
    assert {p.name for p in ALL} == set(PROBLEMS)
