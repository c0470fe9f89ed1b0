"""The search: initial design, surrogate, acquisition, stopping. Plain functions; points lie in [0, 1]^D."""
