"""Figures to choose from: preferences, granularities and parallel coordinates show what the tables say."""

import numpy as np
import pytest
from bambo.report import choice, style, tables
from bambo.selection import das_dennis, picks
from fake_run import frames
from matplotlib.figure import Figure

GRANULARITIES = {"blocks": "block", "single": "model"}
CHOICE = {"front": "posterior", "divisions": 10, "nearest": 3, "limits": {}}


def draw(name: str, objectives: int = 2) -> Figure:
    table = frames(objectives)
    if name == "preferences":
        return choice.figure_preferences(table.observations, table.pareto, **CHOICE)
    if name == "granularities":
        return choice.figure_granularities(table.observations, table.pareto, GRANULARITIES)
    return choice.figure_parallel(table.observations, table.pareto)


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("name", ["preferences", "granularities", "parallel"])
def test_equal_tables_give_equal_svg_of_any_number_of_objectives(name, objectives, tmp_path):
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        style.save(draw(name, objectives), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    panels = {"parallel": 2}.get(name, objectives * (objectives - 1) // 2)  # parallel: one, and its colours
    assert len(draw(name, objectives).axes) == panels


def test_each_preference_picks_what_the_selection_takes():
    table = frames()
    rows = table.pareto[(table.pareto["search"] == "all") & (table.pareto["front"] == "posterior")]
    names = [f"{name}_posterior_mean" for name in tables.objective_names(table.observations)]
    found = picks(rows, names, 10, 3, {})
    assert np.array([vector for vector, _ in found]) == pytest.approx(das_dennis(2, 10))
    by_name = table.selection.set_index("name")["candidate"]
    for vector, candidate in found:
        name = f"preference-{vector[0]:.3g}-{vector[1]:.3g}"
        if name in by_name:  # the table names a model by the preference that it fits best
            assert by_name[name] == candidate
    assert picks(rows, names, 10, 3, {"accuracy": {"min": 2.0}}) == []
    title = draw("preferences").axes[0].get_title(loc="left")
    assert title == f"11 preferences pick {len({id for _, id in found})} of {len(rows)} models"


def test_what_is_a_metric_of_the_run_can_be_limited_too():
    """Columns that stand in the tables of fronts already are not merged in a second time."""
    table = frames()
    of_run = {"peak_memory_gb": 0.61}
    observations, pareto = table.observations.assign(**of_run), table.pareto.assign(**of_run)
    columns = [*observations.columns]
    columns.insert(columns.index("tokens") + 1, columns.pop(columns.index("peak_memory_gb")))
    limits = {"peak_memory_gb": {"max": 1.0}, "seconds": {"max": 1e6}}
    figure = choice.figure_preferences(observations[columns], pareto, **{**CHOICE, "limits": limits})
    assert figure.axes[0].get_title(loc="left") == draw("preferences").axes[0].get_title(loc="left")


def test_fronts_of_granularities_are_those_of_their_searches():
    table = frames()
    axes = draw("granularities").axes[0]
    for line, search in zip(axes.lines, GRANULARITIES, strict=False):
        own = table.pareto[(table.pareto["search"] == search) & (table.pareto["front"] == "observed")]
        assert sorted(line.get_xdata()) == pytest.approx(sorted(own["reasoning"]))


def test_a_line_has_a_models_weights_then_its_objectives():
    table = frames()
    axes = draw("parallel").axes[0]
    rows = table.pareto[(table.pareto["search"] == "blocks") & (table.pareto["front"] == "posterior")]
    lines = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 10]
    assert len(lines) == len(rows)
    expected = np.hstack(
        [tables.points(rows), rows[["reasoning_posterior_mean", "efficiency_posterior_mean"]]]
    )
    assert np.array(lines) == pytest.approx(expected)
