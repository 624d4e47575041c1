"""Hooks and patches that observe a training loop, and each of them undone again."""
