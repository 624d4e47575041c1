"""Lower bounds of the time that products take."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor import published
from tests.advisor.windows import rank
from torchtop.advisor.least_time import ALL, products, seconds
from torchtop.seen import RankSeen
from torchtop.snapshot import Layer

A100 = published.device("a100 at its full clock")
FLOPS = 2.0 * 1024 * 1024 * published.GPT2_TOKENS


def _rank(*layers: Layer, training: bool = True, **facts: Any) -> RankSeen:
    return rank(layers=layers, training=training, facts=replace(published.on_cuda(), **facts))


@pytest.mark.parametrize(
    ("changes", "facts", "kind"),
    [
        ({}, {}, "float32"),
        ({}, {"tf32_matmul": True}, "tf32"),
        ({}, {"matmul_precision": "medium"}, "tf32"),
        ({"type": "Conv2d"}, {}, "tf32"),
        ({"dtype": "bfloat16"}, {}, "bfloat16"),
        ({"dtype": "float64"}, {}, None),
        ({"dtype": None}, {}, "float32"),
    ],
)
def test_the_peak_that_a_layer_is_measured_by(
    changes: dict[str, object], facts: dict[str, Any], kind: str | None
) -> None:
    one = replace(published.linear("fc", 1024, 1024), **changes)
    assert [product.kind for product in products(_rank(one, **facts), A100)] == [kind]


@pytest.mark.parametrize(("training", "stored", "passes"), [(True, 1, 2), (True, None, 1), (False, 1, 1), (None, 1, 1)])
def test_passes(training: bool | None, stored: int | None, passes: int) -> None:
    one = replace(published.linear("fc", 1024, 1024), activation_bytes=stored)
    found = products(replace(_rank(one), training=training), A100)
    assert seconds(found, A100) == pytest.approx(passes * FLOPS / 19.5e12)


def test_all_passes_and_another_kind() -> None:
    found = products(_rank(published.linear("fc", 1024, 1024)), A100)
    assert seconds(found, A100, ALL) == pytest.approx(3 * FLOPS / 19.5e12)
    assert seconds(found, A100, kind="bfloat16") == pytest.approx(2 * FLOPS / 312e12)


def test_layers_without_a_formula_and_cards_without_a_peak_take_no_time() -> None:
    norm = published.linear("norm", 1, 1024, type="LayerNorm", flops=None)
    unknown = published.device("3090 on a degraded link")
    assert products(_rank(norm), A100) == ()
    assert seconds(products(_rank(published.linear("fc", 8, 8)), unknown), unknown) == 0.0


def test_what_a_rank_keeps_is_of_the_device_that_was_asked_about() -> None:
    one = _rank(published.linear("fc", 1024, 1024))
    unknown = published.device("3090 on a degraded link")
    assert [product.kind for product in products(one, A100)] == ["float32"]
    assert [product.kind for product in products(one, unknown)] == [None]
    assert [product.kind for product in products(one, A100)] == ["float32"]


def test_gpt2() -> None:
    """124 M parameters, of which 124.3 M multiply: 2 x 124.3e6 x 16,384 tokens forward."""
    found = products(_rank(*published.gpt2()), A100)
    assert sum(one.flops for one in found) == pytest.approx(2 * 123.5e6 * 16384, rel=0.01)
