"""Gram matrices summed by group of pictures: in memory, or in a file where they would fill it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encoder_roles.study.names import StudyError

Array = NDArray[np.float64]


class Triangles(Protocol):
    """The upper triangle (T,) of every group's Gram matrix, T = D (D + 1) / 2."""

    def add(self, groups: NDArray[np.integer], triangles: Array) -> None:
        """Add triangles (B, T) to their groups (B,)."""

    def weighted(self, weights: Array) -> Array:
        """Sums (R, T) of the groups' triangles with weights (R, groups)."""


class GramSums:
    """The Gram matrices (D, D) of groups of pictures, fp64.

    Args:
        groups: how many there are.
        width: channels D.
        memory: the most bytes that they may take. Larger ones lie in an unnamed file in the folder for
            temporary files, and only the matrix that is added to is in memory.
    """

    def __init__(self, groups: int, width: int, memory: int) -> None:
        self.width = width
        shape = groups, width * (width + 1) // 2
        in_memory = 8 * shape[0] * shape[1] <= memory
        self.triangles: Triangles = MemoryTriangles(*shape) if in_memory else FileTriangles(*shape)

    def add(self, groups: NDArray[np.integer], grams: Array) -> None:
        """Add symmetric matrices (B, D, D) to their groups (B,)."""
        packed = np.empty((len(grams), self.width * (self.width + 1) // 2))
        for row, part in self._rows():
            packed[:, part] = grams[:, row, row:]
        self.triangles.add(groups, packed)

    def weighted(self, weights: Array) -> Array:
        """Sums (R, D, D) with weights (R, groups), of which the part above the diagonal is left zero."""
        packed = self.triangles.weighted(weights)
        grams = np.zeros((len(weights), self.width, self.width))
        for row, part in self._rows():
            grams[:, row:, row] = packed[:, part]
        return grams

    def _rows(self) -> Iterable[tuple[int, slice]]:
        """Each row of the upper triangle, and where it lies in a packed one."""
        start = 0
        for row in range(self.width):
            yield row, slice(start, start + self.width - row)
            start += self.width - row


class MemoryTriangles:
    """All triangles in one array (groups, T)."""

    def __init__(self, groups: int, size: int) -> None:
        self.sums = np.zeros((groups, size))

    def add(self, groups: NDArray[np.integer], triangles: Array) -> None:
        """As `Triangles.add`."""
        np.add.at(self.sums, groups, triangles)

    def weighted(self, weights: Array) -> Array:
        """As `Triangles.weighted`."""
        return weights @ self.sums


class FileTriangles:
    """One triangle in memory, the others in a file. Quick where a group's pictures come one after another."""

    def __init__(self, groups: int, size: int) -> None:
        self.size, self.bytes = size, 8 * groups * size
        self.group, self.current = 0, np.zeros(size)  # the one in memory
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # removed when this object is
        self.file.truncate(self.bytes)  # what was never written reads as zeros

    def add(self, groups: NDArray[np.integer], triangles: Array) -> None:
        """As `Triangles.add`. Raises StudyError if the file cannot be written."""
        for group, triangle in zip(groups.tolist(), triangles, strict=True):
            if group != self.group:
                self._write()
                self.group, self.current = group, self._read(group)
            self.current += triangle

    def weighted(self, weights: Array) -> Array:
        """As `Triangles.weighted`. Raises StudyError if the file cannot be written."""
        self._write()
        total = np.zeros((len(weights), self.size))
        for group, of_group in enumerate(weights.T):
            if of_group.any():
                triangle = self._read(group)
                for row, weight in zip(total, of_group.tolist(), strict=True):
                    row += weight * triangle
        return total

    def _write(self) -> None:
        try:
            self.file.seek(8 * self.group * self.size)
            self.file.write(self.current.data)
            self.file.flush()
        except OSError as error:
            raise StudyError(
                f"{tempfile.gettempdir()}: {error}; sums of features take {self.bytes / 1e9:.1f} GB there; "
                "make room, or name another folder in TMPDIR"
            ) from None

    def _read(self, group: int) -> Array:
        triangle = np.empty(self.size)
        self.file.seek(8 * group * self.size)
        if self.file.readinto(triangle.data) != triangle.nbytes:
            raise StudyError(
                f"{tempfile.gettempdir()}: a file of sums of features was cut off; run the job again"
            )
        return triangle
