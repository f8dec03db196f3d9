"""Kernel ridge regression on landmarks against its formula."""

from __future__ import annotations

import numpy as np
import torch

from xhash_ray.methods.kernels import KernelFunction
from xhash_ray.methods.scaling import unit


def rows_of(n: int = 60, d: int = 6, seed: int = 2) -> torch.Tensor:
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def function_on(rows: torch.Tensor, landmarks: int, outputs: int = 3) -> KernelFunction:
    function = KernelFunction(rows.shape[1], outputs)
    function.place(rows, landmarks, torch.Generator().manual_seed(1))
    return function


def test_the_regression_is_its_formula():
    rows, F = rows_of(), torch.randn(60, 3, generator=torch.Generator().manual_seed(5))
    function = function_on(rows, 40)
    assert len(function.U) == 40
    C = function.solved(function.sums(rows, F), 0.1).numpy()
    K, gram = (
        torch.exp(-torch.cdist(u, function.U).square() / function.s).double().numpy() for u in (rows, function.U)
    )
    residual = K.T @ (K @ C - F.double().numpy()) + 0.1 * gram @ C
    np.testing.assert_allclose(residual, 0, atol=1e-4)


def test_a_landmark_on_every_row_is_kernel_ridge_regression():
    rows, F = rows_of(), torch.randn(60, 3, generator=torch.Generator().manual_seed(5))
    function = function_on(rows, 1000)
    assert len(function.U) == 60
    K = function.kappa(rows).double()
    order = [int((rows == u).all(dim=1).nonzero()) for u in function.U]
    square = function.kappa(function.U).double()
    wanted = torch.linalg.solve(square + 0.1 * torch.eye(60), F[order].double())
    found = function.solved(function.sums(rows, F), 0.1)
    torch.testing.assert_close(K @ found, K @ wanted, atol=1e-3, rtol=0)


def test_sums_of_parts_are_the_sum_of_all():
    rows, F = rows_of(), torch.randn(60, 3, generator=torch.Generator().manual_seed(5))
    function = function_on(rows, 40)
    parts = [function.sums(rows[part], F[part]) for part in (slice(0, 7), slice(7, 7), slice(7, 60))]
    torch.testing.assert_close(sum(parts), function.sums(rows, F), atol=1e-5, rtol=1e-6)


def test_weights_bring_their_number_of_landmarks():
    written, read = function_on(rows_of(), 40), KernelFunction(6, 3)
    written.C.fill_(0.5)
    read.load_state_dict(written.state_dict())
    torch.testing.assert_close(read(rows_of(seed=3)), written(rows_of(seed=3)))


def test_equal_rows_can_be_learned_from():
    rows = torch.ones(20, 6) / 6**0.5
    function = function_on(rows, 10, outputs=1)
    C = function.solved(function.sums(rows, torch.ones(20, 1)), 0.1)
    assert abs(float((function.kappa(rows).double() @ C).mean()) - 1) < 0.1
