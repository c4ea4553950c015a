"""Keys and values of a beam search, grown in place.

Array names carry their axes: A row, D feature of a head, M head, S column.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_SPARE = 64


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keep the columns of one layer in a buffer with room for more.

    The layer of transformers copies all columns whenever one is added.
    """

    _buffers: tuple[Tensor, ...] = ()
    _columns = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append columns (row, head, column, feature) and return all."""
        if not self._buffers:
            self.lazy_initialization(key_states, value_states)
            self._buffers = (_roomy(key_states[:, :, :0]), _roomy(value_states[:, :, :0]))
        stop = self._columns + key_states.shape[2]
        while stop > self._buffers[0].shape[2]:
            self._buffers = tuple(_roomy(buffer) for buffer in self._buffers)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._columns : stop] = new
        self._columns = stop
        return self._view()

    def keep(self, rows_A: Tensor) -> None:
        """Keep some rows."""
        self._buffers = tuple(buffer.index_select(0, rows_A) for buffer in self._buffers)
        self._view()

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (buffer[:, :, : self._columns] for buffer in self._buffers)
        return self.keys, self.values


class TreeCache(Cache):
    """Keep the keys and values of all layers."""

    def keep(self, rows_A: Tensor) -> None:
        """Keep some rows."""
        layers: Any = self.layers
        for layer in layers:
            layer.keep(rows_A)


def tree_cache() -> TreeCache:
    """Return an empty cache."""
    return TreeCache(layer_class_to_replicate=GrowingLayer)


def _roomy(x_AMSD: Tensor) -> Tensor:
    """Return a buffer that begins with some columns and has room for more."""
    rows, heads, columns, features = x_AMSD.shape
    buffer = x_AMSD.new_empty((rows, heads, columns + columns // 4 + _SPARE, features))
    buffer[:, :, :columns] = x_AMSD
    return buffer
