"""Every rule. A file that is not in here fails a test."""

from __future__ import annotations

from torchtop.advisor.judgement import Rule
from torchtop.advisor.rules import input_bound

RULES: tuple[Rule, ...] = (input_bound,)
