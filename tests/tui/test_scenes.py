"""The scenes are what the schema says, and the same each time."""

from __future__ import annotations

import msgspec
import pytest

from tests.tui import scenes
from torchtop.snapshot import Snapshot


@pytest.mark.parametrize("name", scenes.SCENES)
def test_a_scene_is_a_snapshot(name: str) -> None:
    snapshot = scenes.SCENES[name]()
    assert snapshot == scenes.SCENES[name]()
    assert msgspec.convert(msgspec.to_builtins(snapshot), Snapshot) == snapshot
    assert snapshot.history is not None


@pytest.mark.parametrize("name", [name for name, scene in scenes.SCENES.items() if scene().steps.phases_s])
def test_phases_sum_to_the_step(name: str) -> None:
    steps = scenes.SCENES[name]().steps
    assert steps.phases_s is not None and steps.sampled_mean_s is not None
    total = sum(value for value in msgspec.structs.astuple(steps.phases_s) if value is not None)
    assert total == pytest.approx(steps.sampled_mean_s, rel=0.01)


def test_many_layers() -> None:
    snapshot = scenes.many_layers(2000, ranks=8)
    assert len({layer.name for layer in snapshot.layers}) == len(snapshot.layers) == 2000
    names = {layer.name for layer in snapshot.layers}
    assert all(name.rpartition(".")[0] in names for name in names)
    assert len(snapshot.job.ranks) == 8
