"""Whether a job asks its model without training it."""

from __future__ import annotations

import pytest

from tests.advisor.windows import layer, rank
from torchtop.advisor.acting import acts
from torchtop.snapshot import Layer


def model(name: str, calls: float, parameters: int = 1_000) -> tuple[Layer, ...]:
    """A root and the layer in it, which alone has parameters."""
    inside = f"{name}fc" if name.endswith(":") or not name else f"{name}.fc"
    return layer(name, 0.0, calls=calls, parameters=0), layer(inside, 0.5, calls=calls, parameters=parameters)


@pytest.mark.parametrize(
    ("layers", "micro_steps", "expected"),
    [
        (model("", 1.0), 1.0, False),
        (model("", 2.0), 1.0, True),
        (model("", 4.0), 4.0, False),  # accumulation
        (model("", 1.2), 1.0, False),  # now and then a validation
        ((*model("", 1.0), *model("Loss:", 5.0, parameters=0)), 1.0, False),
        ((*model("Actor:", 9.0), *model("Critic:", 1.0)), 1.0, True),
        ((layer("", 0.0, calls=1.0), layer("cell", 0.5, calls=50.0)), 1.0, False),  # a cell in a loop
        (model("", 3.0), 2.0, False),  # a GAN: judges what is real, what is not, and once more for the generator
        ((), None, False),
    ],
)
def test_a_model_that_is_called_more_often_than_backward(
    layers: tuple[Layer, ...], micro_steps: float | None, expected: bool
) -> None:
    assert acts(rank(layers=layers, micro_steps=micro_steps)) == expected


def test_calls_of_a_validation_are_none() -> None:
    assert not acts(rank(layers=model("", 3.0), excluded={"validation": 2}))
