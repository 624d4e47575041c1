"""Published peaks: of whole names only, and dense."""

from __future__ import annotations

import pytest

from torchtop.gpu_peaks import Peaks, published


@pytest.mark.parametrize(
    ("name", "dtype", "tera", "memory"),
    [
        ("Tesla V100-SXM2-32GB", "float16", 125, 0.9),
        ("Tesla V100-PCIE-16GB", "float16", 112, 0.9),
        ("Tesla T4", "float16", 65, 0.32),
        ("NVIDIA A100-PCIE-40GB", "bfloat16", 312, 1.555),
        ("NVIDIA A100 80GB PCIe", "bfloat16", 312, 1.935),
        ("NVIDIA L40S", "bfloat16", 362, 0.864),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4, 3.35),
        ("NVIDIA H200", "bfloat16", 989.4, 4.8),
    ],
)
def test_names_as_nvml_gives_them(name: str, dtype: str, tera: float, memory: float) -> None:
    peaks = published(name, False)
    assert isinstance(peaks, Peaks)
    assert peaks.flops_per_s[dtype] == pytest.approx(tera * 1e12)
    assert peaks.memory_bytes_per_s == pytest.approx(memory * 1e12)


@pytest.mark.parametrize("name", [None, "", "NVIDIA A10G", "NVIDIA L40", "NVIDIA H100 PCIe", "NVIDIA H200 NVL"])
def test_a_relative_of_a_known_card_has_no_peaks(name: str | None) -> None:
    assert isinstance(published(name, False), str)


def test_a_part_of_a_card_has_no_peaks() -> None:
    assert "MIG" in str(published("NVIDIA H200", True))


def test_what_was_not_confirmed_is_absent() -> None:
    peaks = published("NVIDIA A30", False)
    assert isinstance(peaks, Peaks) and "tf32" not in peaks.flops_per_s
