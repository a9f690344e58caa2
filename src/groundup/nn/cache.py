"""What attention layers keep of the steps that were read, so that generation reads each token once."""

from __future__ import annotations

from torch import Tensor

from groundup.core.errors import GroundupError


class KeyValueCache:
    """Keys and values of what was read so far, for every layer, with room for ``length`` steps.

    ``held`` steps are in it. A model adds each input's with ``add``, layer by layer, then calls ``advance`` once.
    """

    def __init__(self, num_layers: int, batch_size: int, length: int) -> None:
        self.batch_size = batch_size
        self.length = length
        self.held = 0
        self._stores: list[tuple[Tensor, Tensor] | None] = [None] * num_layers
        self._documents: Tensor | None = None

    def start(self, tokens: Tensor, documents: Tensor | None) -> Tensor | None:
        """Make sure that ``tokens`` [B, T] fit behind what is held; the documents [B, S] of all steps, if any."""
        batch_size, steps = tokens.shape
        if batch_size != self.batch_size or self.held + steps > self.length:
            raise GroundupError(
                f"the cache was made for {self.batch_size} x {self.length} tokens and holds {self.held}; "
                f"{batch_size} x {steps} more do not fit. Make it with new_cache(batch_size, length) for all of them."
            )
        if documents is None and self._documents is None:
            return None
        if self._documents is None:
            self._documents = tokens.new_zeros(self.batch_size, self.length)
        new = slice(self.held, self.held + steps)
        # Steps read without documents belong to the last one.
        self._documents[:, new] = self._documents[:, max(0, self.held - 1), None] if documents is None else documents
        return self._documents[:, : self.held + steps]

    def add(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values [B, T, G, D] behind those that ``layer`` holds; all of them, [B, S, G, D].

        The two may differ in their last sizes, as a latent and a rotary key do.
        """
        store = self._stores[layer]
        if store is None:  # made by the first use, which knows the type
            room = (self.batch_size, self.length)
            store = (keys.new_empty(*room, *keys.shape[2:]), values.new_empty(*room, *values.shape[2:]))
            self._stores[layer] = store
        end = self.held + keys.shape[1]
        for kept, new in zip(store, (keys, values), strict=True):
            kept[:, self.held : end] = new
        return store[0][:, :end], store[1][:, :end]

    def advance(self, steps: int) -> None:
        """Count ``steps`` as held, once every layer has added them."""
        self.held += steps
