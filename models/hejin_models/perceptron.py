"""A small perceptron in plain numpy: its log-odds, and the gradient of each enterprise alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]


def sigmoid(logit: _Floats) -> _Floats:
    """Return 1 / (1 + exp(-logit)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logit))


def weights_of(inputs: int, hidden: Sequence[int]) -> int:
    """Return how many numbers a perceptron has: (in + 1) x out of every layer."""
    widths = [inputs, *hidden, 1]
    return sum((a + 1) * b for a, b in itertools.pairwise(widths))


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Linear layers with tanh in between; its one output is the log-odds of bad.

    layers  (matrix float64[out, in], offset float64[out]) from the inputs to the output
    """

    layers: tuple[tuple[_Floats, _Floats], ...]

    @classmethod
    def of(cls, inputs: int, hidden: Sequence[int], weights: _Floats) -> Perceptron:
        """Return the perceptron whose numbers stand in one row.

        inputs, hidden  widths of the input and of every hidden layer, each >= 1
        weights         float64[weights_of(inputs, hidden)] as torch's `parameters()` has them:
                        layer by layer, the matrix row by row, then the offset
        raises          ValueError for another length
        """
        if weights.shape != (weights_of(inputs, hidden),):
            raise ValueError(f"{weights_of(inputs, hidden)} weights are due, not {weights.shape}")
        layers, start = [], 0
        widths = [inputs, *hidden, 1]
        for a, b in itertools.pairwise(widths):
            matrix = weights[start : start + a * b].reshape(b, a)
            layers.append((matrix, weights[start + a * b : start + (a + 1) * b]))
            start += (a + 1) * b
        return cls(tuple(layers))

    @property
    def size(self) -> int:
        """The number of weights, d."""
        return sum(matrix.size + offset.size for matrix, offset in self.layers)

    def log_odds(self, x: _Floats) -> _Floats:
        """Return the log-odds of bad of inputs float64[..., F], float64[...]."""
        return self._activations(x)[-1][..., 0]

    def gradients(
        self, x: _Floats, shares: _Floats, labels: _Floats, clip: float | None = None
    ) -> _Floats:
        """Return float64[E, d]: the gradient of each enterprise's own logistic loss.

        x        float64[E, R, F], the records of each enterprise, padded to R with any finite
        shares   float64[E, R] >= 0: what each record counts in its enterprise's mean, 0 for
                 padding
        labels   float64[E], 1 = bad, 0 = good
        clip     C > 0: each row g becomes g / max(|g|, C), which is g / C clipped to norm 1

        The loss of an enterprise is the sum of share x loss over its records, so that its rows
        are averaged before anything is clipped. In closed form: by back-propagation the
        gradient of a layer is sum over records of delta a^T (and delta, for the offset), where
        a is what enters the layer (Goodfellow 2015, arXiv:1510.01799). With one record its
        norm needs no gradient: |delta|^2 (|a|^2 + 1), summed over the layers.
        """
        activations = self._activations(x)
        deltas = self._deltas(activations, shares, labels)
        single = x.shape[1] == 1
        if clip is not None and single:
            factor = _unit(_single_norms(activations, deltas), clip)
            deltas = [delta * factor[:, None, None] for delta in deltas]
        found = np.empty((len(x), self.size))
        start = 0
        for a, delta in zip(activations, deltas, strict=False):
            inputs, outputs = a.shape[2], delta.shape[2]
            end = start + inputs * outputs
            matrix = found[:, start:end].reshape(len(x), outputs, inputs)  # a view
            if single:
                np.multiply(delta[:, 0, :, None], a[:, 0, None, :], out=matrix)
            else:
                np.matmul(delta.transpose(0, 2, 1), a, out=matrix)
            delta.sum(axis=1, out=found[:, end : end + outputs])
            start = end + outputs
        if clip is not None and not single:
            found *= _unit(np.sqrt(np.einsum("ij,ij->i", found, found)), clip)[:, None]
        return found

    def _activations(self, x: _Floats) -> list[_Floats]:
        """Return what enters each layer, and at last what the output is."""
        found = [x]
        for place, (matrix, offset) in enumerate(self.layers):
            level = found[-1] @ matrix.T
            level += offset
            found.append(level if place == len(self.layers) - 1 else np.tanh(level, out=level))
        return found

    def _deltas(
        self, activations: list[_Floats], shares: _Floats, labels: _Floats
    ) -> list[_Floats]:
        """Return the derivative of the loss by what each layer puts out before its tanh."""
        residual = (sigmoid(activations[-1][..., 0]) - labels[:, None]) * shares
        deltas = [residual[..., None]]
        for (matrix, _), a in zip(self.layers[:0:-1], activations[-2:0:-1], strict=True):
            deltas.append((deltas[-1] @ matrix) * (1.0 - a * a))
        return deltas[::-1]


def _unit(norms: _Floats, clip: float) -> _Floats:
    return 1.0 / np.maximum(norms, clip)


def _single_norms(activations: list[_Floats], deltas: list[_Floats]) -> _Floats:
    """Return the norm of each enterprise's gradient, for one record each."""
    squares = np.zeros(len(activations[0]))
    for a, delta in zip(activations, deltas, strict=False):
        a, delta = a[:, 0], delta[:, 0]
        squares += np.einsum("ij,ij->i", delta, delta) * (np.einsum("ij,ij->i", a, a) + 1.0)
    return np.sqrt(squares)
