"""Models of the deployment."""

from collections.abc import Mapping
from typing import NamedTuple, Self

from wit_world.imports import models as host

from .failures import call, text
from .tensors import ELEMENTS, Element, Tensor


class Port(NamedTuple):
    """An input or an output. A size that is `None` is free, as a batch dimension is."""

    name: str
    shape: tuple[int | None, ...]
    element: Element


def _port(port: host.Port) -> Port:
    return Port(port.name, tuple(port.shape), ELEMENTS[port.element])


class Model:
    """A model that the host has opened, once for all instances."""

    __slots__ = ("_model",)

    def __init__(self, handle: host.Model) -> None:
        """For the SDK: scripts call `Model.open`."""
        self._model = handle

    @classmethod
    def open(cls, path: str | None = None) -> Self:
        """A file below the model folder; without a path, the folder's only model."""
        return cls(call(host.Model.open, None if path is None else text(path)))

    @property
    def inputs(self) -> list[Port]:
        """What it takes."""
        return [_port(port) for port in self._model.inputs()]

    @property
    def outputs(self) -> list[Port]:
        """What it gives."""
        return [_port(port) for port in self._model.outputs()]

    def predict(self, input: Tensor) -> Tensor:
        """The first output for the only input. A picture without a batch dimension is taken as a batch of one. Returns
        before the result is there; what reads the result waits.
        """
        return Tensor(call(self._model.predict, input._tensor))

    def predict_named(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every output by name, for inputs by name."""
        outputs = call(self._model.predict_named, [(text(name), tensor._tensor) for name, tensor in inputs.items()])
        return {name: Tensor(handle) for name, handle in outputs}
