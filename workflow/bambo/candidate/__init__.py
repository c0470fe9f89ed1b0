"""One candidate's folder, and the two jobs that work in it: merge and evaluate, each held by one process at a time."""
