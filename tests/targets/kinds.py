"""Every kind of job that torchtop is compared with, by name: its model, its loop, and where its batches come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import feeds
import loops
import loops_inference
import loops_optimizers
import models
import models_awkward
import models_paired
import models_text
import reinforce


class Kind(NamedTuple):
    """batches: how many one step takes from the feed; micro_steps: backward passes in it (`batches` unless told)."""

    build: Callable[[bool], models.Job]
    loop: loops.Loop
    feed: feeds.Feed = feeds.rows
    batches: int = 1
    micro_steps: int | None = None
    in_thread: bool = False


KINDS = {
    "mlp": Kind(models.mlp, loops.plain),
    "transformer": Kind(models_text.transformer, loops.plain),
    "convbn": Kind(models.convbn, loops.plain),
    "rnn": Kind(models_text.rnn, loops.plain),
    "tiny": Kind(models.tiny, loops.plain),
    "accumulate": Kind(models.mlp, loops.accumulate(4), batches=4),
    "accumulate-40": Kind(models.slim, loops.accumulate(40), batches=40),
    "checkpointed": Kind(models_awkward.checkpointed, loops.plain),
    "checkpointed-reentrant": Kind(models_awkward.checkpointed_reentrant, loops.plain),
    "autocast": Kind(models_awkward.autocast, loops.autocast),
    "shared": Kind(models_awkward.shared, loops.plain),
    "dictout": Kind(models_awkward.dictout, loops.plain),
    "inplace": Kind(models_awkward.inplace, loops.plain),
    "wrapped": Kind(models_awkward.wrapped, loops.plain),
    "halves": Kind(models_awkward.halves, loops.halves),
    "finetune": Kind(models_awkward.halves, loops.finetune),
    "validated": Kind(models.mlp, loops.validated),
    "saved": Kind(models.mlp, loops.saved),
    "in-thread": Kind(models.mlp, loops.plain, in_thread=True),
    # Feeds
    "slices": Kind(models.mlp, loops.plain, feeds.slices),
    "stream": Kind(models.mlp, loops.plain, feeds.stream(0)),
    "stream-workers": Kind(models.mlp, loops.plain, feeds.stream(2)),
    "uneven": Kind(models.mlp, loops.plain, feeds.uneven),
    # Few modules, for its comparison arms every step, and what that costs must not show.
    "shortened": Kind(models_text.rnn, loops.plain, feeds.shortened),
    # Optimizers
    "gan": Kind(models_paired.gan, loops_optimizers.gan, micro_steps=2),
    "wgan": Kind(
        models_paired.wgan,
        loops_optimizers.wgan,
        batches=loops_optimizers.CRITIC_STEPS,
        micro_steps=loops_optimizers.CRITIC_STEPS + 1,
    ),
    "lbfgs": Kind(models.narrow, loops_optimizers.lbfgs),
    "by-hand": Kind(models.mlp, loops_optimizers.by_hand),
    "pure-tensors": Kind(models.matrices, loops_optimizers.pure_tensors, feeds.slices),
    "functional": Kind(models.mlp, loops_optimizers.functional),
    "penalty": Kind(models.mlp, loops_optimizers.penalty),
    "two-losses": Kind(models.mlp, loops_optimizers.two_losses, micro_steps=2),
    "averaged": Kind(models.mlp, loops_optimizers.averaged),
    "renewed": Kind(models.mlp, loops_optimizers.renewed),
    "in-backward": Kind(models.mlp, loops_optimizers.in_backward),
    "reinforce": Kind(reinforce.policy, reinforce.reinforce, feeds.slices),
    # Inference
    "inference": Kind(models_text.transformer, loops_inference.inference, micro_steps=0),
    "tiny-inference": Kind(models.tiny, loops_inference.inference, micro_steps=0),
    "diffusion": Kind(models.denoiser, loops_inference.diffusion, feeds.slices, micro_steps=0),
    "thread-pool": Kind(models.matrices, loops_inference.thread_pool, feeds.slices, micro_steps=0),
    "thread-per-request": Kind(models.matrices, loops_inference.thread_per_request, feeds.slices, micro_steps=0),
}
