"""torchtop: watch a running PyTorch job from outside, and say what holds it back."""

__version__ = "0.1.0"
