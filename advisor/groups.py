"""What the rules are about (DESIGN 6), in the order in which they are listed. A rule that is in no group fails a test."""

from __future__ import annotations

GROUPS: dict[str, tuple[str, ...]] = {
    "input": ("input-bound", "loader-oversubscribed", "worker-imbalance", "transfer-bound", "unpinned-memory"),
    "host": (
        "host-sync",
        "host-stall",
        "checkpoint-stall",
        "gc-pauses",
        "threads-misset",
        "step-jitter",
        "launch-bound",
    ),
    "batch": ("small-batch", "idle-device", "misleading-utilization"),
    "precision": ("fp32-matmul", "no-autocast", "misaligned-dims"),
    "optimizer": ("unfused-optimizer", "grads-kept"),
    "memory": ("memory-pressure", "memory-growth", "fragmentation", "activation-heavy", "optimizer-state-heavy"),
    "model": (
        "hot-layer",
        "prunable-layers",
        "quantizable-inference",
        "oversized-model",
        "unused-parameters",
        "recompile-storm",
        "not-compiled",
    ),
    "distributed": (
        "straggler-rank",
        "comm-bound",
        "unsynced-accumulation",
        "replicated-state",
        "data-parallel",
        "rank-memory-imbalance",
    ),
    "hardware": (
        "thermal-throttled",
        "power-capped",
        "pcie-degraded",
        "ecc-errors",
        "gpu-shared",
        "host-contended",
        "swapping",
        "energy-inefficient",
    ),
}
