"""What a whole run takes, reckoned before it is spent: evaluations, tokens, hours, disk, money.

Each figure comes from the first of these that has it: what the user gives, finished evaluations of the run, its smoke
run, an assumption. docs/qwen3-4b.md goes through the arithmetic.
"""

from .estimate import Estimate, Given
from .ranges import Range, number
from .stages import Stage, end_points, stages

__all__ = ["Estimate", "Given", "Range", "Stage", "end_points", "number", "stages"]
