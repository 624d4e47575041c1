"""Where layers stand under the roofline: measured, published, or against the best layer of the job."""

from __future__ import annotations

import pytest

from torchtop import roofline
from torchtop.record import CoreRates, MachineSample
from torchtop.roofline import BEST_LAYER, CALIBRATED, PUBLISHED, Peaks, Work

PEAKS = Peaks((("bfloat16", 200e9), ("float32", 100e9)), 10e9, CALIBRATED)


def work(flops: float | None, moved: float | None, seconds: float | None = 0.01, calls: float = 1.0) -> Work:
    return Work(flops, moved, seconds, calls, "float32")


@pytest.mark.parametrize(
    ("flops", "moved", "seconds", "calls", "bound", "share"),
    [
        (0.9e9, 1e6, 0.01, 1.0, "compute", 0.9),
        (1e6, 80e6, 0.01, 1.0, "bandwidth", 0.8),
        (1e3, 1e3, 5e-5, 1.0, "overhead", 2e-3),
        (0.24e6, 1e3, 1e-5, 1.0, "overhead", 0.24),
        (0.26e6, 1e3, 1e-5, 1.0, "compute", 0.26),
        (1e3, 1e3, 0.01, 1.0, "bandwidth", 1e-5),  # a call that long is none of overhead
        (1e3, 1e3, 0.01, 1000.0, "overhead", 1e-5),
    ],
)
def test_what_bounds_a_layer(
    flops: float, moved: float, seconds: float, calls: float, bound: str, share: float
) -> None:
    (place,) = roofline.placed([work(flops, moved, seconds, calls)], PEAKS)
    assert (place.bound_by, place.source) == (bound, CALIBRATED)
    assert place.share == pytest.approx(share)


def test_without_peaks_the_best_layer_stands_for_them_and_says_so() -> None:
    places = roofline.placed([work(1e9, 1e6), work(0.5e9, 1e6), work(1e6, 80e6), work(None, 90e6)], None)
    assert [place.bound_by for place in places] == ["compute", "compute", "bandwidth", None]
    assert [place.share for place in places] == [1.0, 0.5, pytest.approx(80 / 90), None]
    assert {place.source for place in places} == {BEST_LAYER, None}


@pytest.mark.parametrize("one", [work(None, 1e6), work(1e9, None), work(1e9, 1e6, None), work(1e9, 1e6, 0.0)])
def test_what_is_not_known_has_no_bound(one: Work) -> None:
    (place,) = roofline.placed([one], PEAKS)
    assert place.bound_by is None


def test_a_dtype_without_a_peak_has_no_bound_but_its_rate() -> None:
    (place,) = roofline.placed([work(1e9, 1e6)._replace(dtype="int8")], PEAKS)
    assert (place.flops_per_s, place.bound_by) == (1e11, None)
    assert roofline.placed([], None) == []


def machine(cores: float | None, float32: float | None = 50e9) -> MachineSample:
    rates = CoreRates("2.13.0", "2026-11-01T00:00:00Z", "by hand", float32, None, 8e9, {})
    return MachineSample(t=0.0, usable_cores=cores, usable_cores_because="affinity", core=rates)


@pytest.mark.parametrize(
    ("cores", "threads", "flops"), [(4.0, 2, 100e9), (4.0, 8, 200e9), (0.5, 1, 25e9), (4.0, None, 200e9)]
)
def test_peaks_of_the_cores_that_a_rank_has(cores: float, threads: int | None, flops: float) -> None:
    found = roofline.of_machine(machine(cores), threads)
    assert found is not None
    assert found.flops_of("float32") == flops
    assert found.flops_of("bfloat16") is None


def test_a_machine_that_was_not_calibrated_has_no_peaks() -> None:
    assert roofline.of_machine(None, 1) is None
    assert roofline.of_machine(machine(None), 1) is None
    assert roofline.of_machine(machine(4.0, None), 1) is None


def test_published_peaks_with_and_without_tf32() -> None:
    rates = {"float32": 67e12, "tf32": 494e12}
    assert roofline.of_device(rates, 3e12, False).flops_of("float32") == 67e12
    found = roofline.of_device(rates, 3e12, True)
    assert (found.flops_of("float32"), found.source) == (494e12, PUBLISHED)


def test_bytes_of_a_forward() -> None:
    """Linear 512 -> 1024 on 8 rows: weights, 8 x 1024 outputs and 8 x 512 inputs of 4 bytes."""
    moved = roofline.forward_bytes("Linear", 4 * 512 * 1024, 1.0, (8, 1024), 8 * 1024.0, 2 * 512.0, "float32")
    assert moved == 4 * (512 * 1024 + 8 * 1024 + 8 * 512)
    assert roofline.forward_bytes("Conv2d", 100, 2.0, (1, 4), 4.0, 9.0, "float32") == 200 + 16
    assert roofline.forward_bytes("Conv2d", 100, 2.0, (1, 4), 4.0, 9.0, "complex64") is None
    assert roofline.forward_bytes("Conv2d", 100, 2.0, None, None, 9.0, "float32") is None
