"""BAMBO: Pareto sets of merged language models between capability and cost."""

__version__ = "0.1.0"
