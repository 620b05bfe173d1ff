"""Rows per CPU-second of `network_gradient`, beside a non-private batch and Opacus' own loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bench.figures import Figure, cpu_seconds, median_of
from bench.population import VIEW
from hejin_models import network
from hejin_models.perceptron import Perceptron, sigmoid
from hejin_models.state import State
from hejin_models.statistics import statistic
from hejin_privacy.contribution import quantised_sum
from hejin_privacy.mechanism import SCALE, delta_squared

SECTION = "network-gradient"
_CHUNK = 4096
_BATCH = 512
"""Rows of one batch of the stock loop: larger ones are hardly faster."""

_Cells = npt.NDArray[np.int32]
_Floats = npt.NDArray[np.float64]


def measure(folder: Path, quick: bool) -> list[Figure]:
    """Return rows per CPU-second, all in float64 and on one thread, of one record each."""
    del folder
    torch.set_num_threads(1)
    rows, repeats = (2_000, 1) if quick else (100_000, 5)
    random = np.random.default_rng(1)
    sizes = np.diff(VIEW.offsets)
    cells = random.integers(0, sizes, (rows, len(sizes))).astype(np.int32)
    labels = random.integers(0, 2, rows).astype(np.int8)
    values = random.uniform(-1.0, 1.0, VIEW.total_cells)
    model = network.build(len(sizes), network.HIDDEN, -1.5)
    state: State = {
        "values": values,
        "hidden": np.array(network.HIDDEN, dtype=np.float64),
        "weights": network.flat_weights(model),
        "clip": np.array([1.0]),
    }
    inputs, outcomes = values[cells + VIEW.offsets[:-1]], labels.astype(np.float64)

    def speed(work: Callable[[], object]) -> float:
        return rows / median_of(repeats, partial(cpu_seconds, work))

    batch = speed(partial(_full_batch, model, inputs, outcomes))
    found = {
        "non-private full batch, numpy": speed(
            partial(_plain_batch, state["weights"], inputs, outcomes)
        ),
        "network_gradient, from cells to the guarded sum": speed(
            partial(_guarded, cells, labels, state)
        ),
        "closed form, clipped and added up": speed(
            partial(_closed_form, state["weights"], inputs, outcomes)
        ),
        "Opacus' GradSampleModule, clipped and added up": speed(
            partial(_opacus, model, inputs, outcomes)
        ),
        "stock Opacus loop, one epoch": speed(partial(_stock_loop, inputs, outcomes)),
    }
    against = "non-private full batch, torch"
    return [
        Figure(SECTION, against, batch, "rows/CPU s"),
        *(Figure(SECTION, name, n, "rows/CPU s", n / batch, against) for name, n in found.items()),
    ]


def _guarded(cells: _Cells, labels: npt.NDArray[np.int8], state: State) -> None:
    entry = statistic("network_gradient", 1)
    entry.check_state(VIEW, state)
    size = entry.dimension(VIEW, state)
    bound = delta_squared(entry.bound_squared(VIEW, state), size, entry.counts)
    quantised_sum(entry.contribute(VIEW, cells, labels, state), bound, SCALE, size)


def _closed_form(weights: _Floats, inputs: _Floats, outcomes: _Floats) -> _Floats:
    perceptron = Perceptron.of(inputs.shape[1], network.HIDDEN, weights)
    total, whole = np.zeros(len(weights)), np.ones((_CHUNK, 1))
    for start in range(0, len(inputs), _CHUNK):
        x, y = inputs[start : start + _CHUNK, None], outcomes[start : start + _CHUNK]
        total += perceptron.gradients(x, whole[: len(x)], y, clip=1.0).sum(axis=0)
    return total


def _opacus(model: nn.Module, inputs: _Floats, outcomes: _Floats) -> _Floats:
    total = np.zeros(len(network.flat_weights(model)))
    for start in range(0, len(inputs), _CHUNK):
        x, y = inputs[start : start + _CHUNK, None], outcomes[start : start + _CHUNK]
        found = network.opacus_gradients(model, x, np.ones((len(x), 1)), y)
        total += (found / np.maximum(np.linalg.norm(found, axis=1), 1.0)[:, None]).sum(axis=0)
    return total


def _full_batch(model: nn.Module, inputs: _Floats, outcomes: _Floats) -> None:
    model.zero_grad()
    logits = model(torch.from_numpy(inputs))[:, 0]
    nn.functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(outcomes), reduction="sum"
    ).backward()


def _plain_batch(weights: _Floats, inputs: _Floats, outcomes: _Floats) -> object:
    (first, offset), (last, output) = Perceptron.of(inputs.shape[1], network.HIDDEN, weights).layers
    level = np.tanh(inputs @ first.T + offset)
    residual = sigmoid(level @ last[0] + output[0]) - outcomes
    back = residual[:, None] * last * (1.0 - level * level)
    return back.T @ inputs, back.sum(axis=0), residual @ level, residual.sum()


def _stock_loop(inputs: _Floats, outcomes: _Floats) -> None:
    """Do what Opacus' tutorials do: its engine around model, optimiser and loader."""
    model = network.build(inputs.shape[1], network.HIDDEN, -1.5)
    data = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(outcomes))
    with warnings.catch_warnings():
        # It warns of its own hooks and that its noise is not for production. This measures time.
        warnings.simplefilter("ignore")
        private, optimiser, loader = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            data_loader=DataLoader(data, batch_size=_BATCH),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
        )
        loss = nn.BCEWithLogitsLoss()
        for x, y in loader:
            optimiser.zero_grad()
            loss(private(x)[:, 0], y).backward()
            optimiser.step()
