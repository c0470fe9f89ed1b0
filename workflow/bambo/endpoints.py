"""The end points of a run: each source alone, under the run's files and under its own."""

from .run import Run


def write_end_points(run: Run) -> dict[str, dict[str, str]]:
    """Write the recipes of the pure sources; returns {"end_points": source -> id, "own_files": source -> id}.

    The end points carry the files (chat template, ...) that all candidates carry, so that the search sees one
    function; under its own files each source is a reference row of the tables. For the source that gives its
    files to all, both are the same candidate.
    """
    return {
        "end_points": {name: run.add(run.source_recipe(name)) for name in run.sources},
        "own_files": {name: run.add(run.source_recipe(name, files_from=name)) for name in run.sources},
    }
