"""Which optimizers have a fused kernel that they do not use, and what it would leave of their time."""

from __future__ import annotations

from torchtop.seen import OptimizerFacts, RankSeen

# Of the class's own step, on a CPU with torch 2.13, over 8 to 60 tensors of 64 x 64 to 1024 x 1024: Adam and AdamW
# 0.19 to 0.35, Adagrad 0.30 to 0.44, SGD with momentum 0.47 to 0.73; without it 0.86 to 1.0: nothing to fuse there.
LEAVES = {"Adam": 0.28, "AdamW": 0.28, "Adagrad": 0.42, "SGD": 0.60}
LEAVES_ON_CUDA = 0.75  # of the step; a guess on the careful side: torch groups tensors there by itself (foreach)
_ON_CPU_ONLY = frozenset({"Adagrad"})  # classes without a fused kernel for CUDA


def is_torchs(one: OptimizerFacts) -> bool:
    """Whether its class is torch's own: of others nothing is known."""
    return (one.module or "").startswith("torch.optim")


def could_fuse(one: OptimizerFacts, rank: RankSeen) -> bool:
    """Whether its class has a fused kernel for the device that it does not use."""
    if not is_torchs(one) or one.kind not in LEAVES or one.fused or (rank.on_cuda and one.kind in _ON_CPU_ONLY):
        return False
    if one.defaults and "fused" not in one.defaults:
        return False  # of a torch that has none
    if one.defaults.get("differentiable") or (one.kind == "SGD" and not one.defaults.get("momentum")):
        return False
    return bool(rank.facts.devices) and set(rank.facts.devices) <= {"cpu", "cuda"}


def leaves(rank: RankSeen) -> float:
    """Share of the optimizers' time that fused kernels leave; of several classes the smallest gain; 1.0: all of it."""
    known = rank.facts.optimizers
    if not known or not all(could_fuse(one, rank) for one in known):
        return 1.0
    return LEAVES_ON_CUDA if rank.on_cuda else max(LEAVES[one.kind] for one in known)
