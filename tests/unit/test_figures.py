"""Figures show the tables' numbers, carry units, and are the same bytes for the same tables."""

import json
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from bambo.pareto import hypervolume
from bambo.report import figures, style, tables
from fake_run import REFERENCE_POINT, fake_differences, frames
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

PARTITIONS = {
    "variance": [range(0, 20), range(20, 31), range(31, 36)],
    "hybrid": [range(0, 16), range(16, 28), range(28, 36)],
}


def draw(name: str) -> Figure:
    table = frames()
    if name == "objectives":
        return figures.figure_objective_space(table.observations, table.pareto, REFERENCE_POINT)
    if name == "benchmarks":
        return figures.figure_benchmarks(table.observations, table.pareto)
    if name == "progress":
        return figures.figure_progress(table.observations, table.hypervolume)
    if name == "weights":
        return figures.figure_weights(table.observations, table.pareto)
    return figures.figure_partition(fake_differences(), PARTITIONS, "hybrid")


@pytest.mark.parametrize("name", ["objectives", "benchmarks", "progress", "weights", "partition"])
def test_equal_tables_give_equal_svg(name, tmp_path):
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        style.save(draw(name), path)
    text = paths[0].read_text()
    assert text == paths[1].read_text()
    assert "<dc:date>" not in text
    assert "<text" not in text  # letters are outlines, so no font is asked for
    assert not list(tmp_path.glob(".*"))


def test_a_user_s_matplotlibrc_changes_nothing(tmp_path):
    import matplotlib as mpl

    style.save(draw("progress"), tmp_path / "a.svg")
    with mpl.rc_context({"font.size": 20, "axes.grid": False, "svg.fonttype": "none", "lines.linewidth": 7}):
        style.save(draw("progress"), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def points(axes: Axes) -> set[tuple[float, float]]:
    """Coordinates of everything that is drawn as markers."""
    return {
        (round(x, 9), round(y, 9))
        for line in axes.lines
        if line.get_marker() not in ("None", "")
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def test_objective_space_shows_every_scored_model_and_no_failed_one():
    table = frames().observations
    assert (table["status"] == "failed").sum() == 1
    left, right = draw("objectives").axes
    searched = pd.concat([tables.members(table, search) for search in ("blocks", "single")])
    for axes, (x, y) in [(left, ("reasoning", "efficiency")), (right, ("tokens", "accuracy"))]:
        expected = {(round(a, 9), round(b, 9)) for a, b in zip(searched[x], searched[y], strict=True)}
        assert expected <= points(axes)
        assert not any(np.isnan(point).any() for point in points(axes))
    posterior = frames().pareto.query("search == 'blocks' and front == 'posterior'")
    means = posterior[["reasoning_posterior_mean", "efficiency_posterior_mean"]].round(9)
    extra = points(left) - {
        (round(a, 9), round(b, 9)) for a, b in zip(searched["reasoning"], searched["efficiency"], strict=True)
    }
    assert extra == {*means.itertuples(index=False, name=None), REFERENCE_POINT}
    assert {text.get_text() for text in left.texts} == {"thinking", "instruct", "reference point"}
    assert right.get_xlabel() == "output tokens an answer (fewer is better)"
    assert right.get_ylabel() == "accuracy (share of questions)"


@pytest.mark.parametrize(
    ("count", "raw"),
    [(3, ["output tokens an answer (fewer is better)"]), (4, ["tokens", "latency: s", "throughput: tokens"])],
)
def test_more_objectives_have_a_panel_a_pair(count, raw):
    table = frames(count)
    names = tables.objective_names(table.observations)
    figure = figures.figure_objective_space(table.observations, table.pareto, (-0.1,) * count)
    panels = [axes for axes in figure.axes if axes.axison]
    pairs = list(combinations(names, 2))
    assert len(panels) == len(pairs) + len(raw)
    rows = tables.members(table.observations, "blocks")
    front = table.pareto.query("search == 'blocks' and front == 'observed'")
    for axes, (x, y) in zip(panels, pairs, strict=False):
        assert axes.get_xlabel().split()[0] == x
        assert axes.get_ylabel().split()[0] == y
        for frame in (rows, front):
            assert {(round(a, 9), round(b, 9)) for a, b in zip(frame[x], frame[y], strict=True)} <= points(
                axes
            )
        assert (-0.1, -0.1) in points(axes)
        assert not any(
            line.get_color() == "#0072b2" and line.get_linestyle() != "None" for line in axes.lines
        )
    for axes, text in zip(panels[len(pairs) :], raw, strict=True):
        assert text.replace(" (", "\n(" if count == 4 else " (") in axes.get_xlabel()
        assert axes.get_ylabel().startswith("accuracy")
        lowest, _ = axes.get_xlim()
        assert lowest == 0
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-1] == "reference point"


def test_each_benchmark_has_a_panel_with_every_scored_model():
    table = frames()
    figure = draw("benchmarks")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["tiny_gpqa", "tiny_aime"]
    scored = table.observations[table.observations["status"] == "ok"]
    scored = scored[(scored["search"] != tables.REFERENCE) | scored["origin"].str.startswith("end point")]
    for axes, name in zip(figure.axes, ["tiny_gpqa", "tiny_aime"], strict=True):
        columns = scored[[f"{name}.tokens", f"{name}.accuracy"]].round(9)
        assert points(axes) == set(map(tuple, columns.to_numpy()))


@pytest.mark.parametrize("count", [3, 4])
def test_progress_and_weights_of_more_objectives(count):
    table = frames(count)
    figure = figures.figure_progress(table.observations, table.hypervolume)
    panels = [axes for axes in figure.axes if axes.axison]
    best = [f"Best {name} of a merge (0 = base, 1 = expert)" for name in tables.objective_names(table[0])]
    assert [axes.get_title("left") for axes in panels][4::2] == best
    assert [bool(axes.get_xlabel()) for axes in panels] == [False] * (2 * count + 2) + [True] * 2
    weights = figures.figure_weights(table.observations, table.pareto)
    assert len(weights.axes) == 2


def test_axes_of_raw_metrics_carry_units():
    labels = [figures.axis_title(name) for name in ("accuracy", "tokens", "energy", "flops", "em,strict")]
    assert labels == [
        "accuracy (share of questions)",
        "output tokens an answer (fewer is better)",
        "energy: J an answer (less is better)",
        "flops: FLOPs an answer (less is better)",
        "em,strict",
    ]


def test_the_line_of_single_weights_runs_from_one_end_point_to_the_other():
    ends = tables.end_points(frames().observations)
    right = draw("objectives").axes[1]
    line = next(line for line in right.lines if len(line.get_xdata()) == 11)
    assert line.get_xdata()[[0, -1]].tolist() == ends.loc[["instruct", "thinking"], "tokens"].tolist()
    assert line.get_color() == style.SINGLE[0]


def test_stairs_bound_what_the_front_dominates():
    front = np.array([[0.0, 1.0], [1.0, 0.2], [0.4, 0.7]])
    x, y = figures._stairs(pd.Series(front[:, 0]), pd.Series(front[:, 1]))
    assert list(zip(x, y, strict=True)) == [(0, 1), (0, 0.7), (0.4, 0.7), (0.4, 0.2), (1, 0.2)]
    under = np.trapezoid(y, x)
    assert under == pytest.approx(hypervolume(front, (0, 0)))


def test_progress_draws_each_search_and_both_lines_to_compare_with():
    course = frames().hypervolume.set_index("search")
    figure = draw("progress")
    columns = ["hypervolume", "front_size", "best_reasoning", "best_efficiency"]
    for axes, (column, x) in zip(figure.axes, product(columns, ["evaluations", "hours"]), strict=True):
        per_hour = 3600 if x == "hours" else 1  # so short a run is shown in seconds
        assert axes.lines[0].get_xdata() == pytest.approx(course.loc["blocks", x] * per_hour)
        drawn = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.lines}
        for search in ("blocks", "single"):
            np.testing.assert_array_equal(drawn[search], course.loc[search, column])
        assert set(drawn[tables.BEST_GRID]) == {course.loc[tables.BEST_GRID, column]}
        if column.startswith("best_"):  # of merges: the end points have none
            assert tables.END_POINTS not in drawn
        else:
            assert set(drawn[tables.END_POINTS]) == {course.loc[tables.END_POINTS, column]}
    assert "(-0.1, -0.1)" in figure.axes[0].get_title("left")


def test_weights_are_annotated_in_order_of_tokens():
    axes = draw("weights").axes[0]
    front = frames().pareto.query("search == 'blocks' and front == 'posterior'")
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    for column, text in enumerate(front["variables"]):
        for row, weight in enumerate(json.loads(text).values()):
            assert shown[column, row] == f"{weight:.2f}"
    assert len(shown) == 8 * len(front)
    labels = [label.get_text().split("\n") for label in axes.get_xticklabels()]
    assert [label[-1] for label in labels] == front["candidate"].tolist()
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["embeddings", "layers 0-1"]


def test_weights_of_a_run_with_single_weights_alone():
    table = frames().observations.query("search != 'blocks'")
    assert len(figures.figure_weights(table, frames().pareto).axes) == 2  # one search and the colour bar


def test_partition_bands_are_the_blocks():
    differences = fake_differences()
    one, two, bands = draw("partition").axes
    for axes, column in [(one, "l1"), (two, "l2")]:
        assert [bar.get_height() for bar in axes.patches] == differences[column].tolist()
    drawn = [patch for patch in bands.patches if isinstance(patch, Rectangle)]
    frame = [patch for patch in drawn if patch.get_width() == 36]
    assert len(frame) == 1
    assert frame[0].get_y() == pytest.approx(0.6)  # around the second row, hybrid
    widths = [patch.get_width() for patch in drawn if patch is not frame[0]]
    assert widths == [len(block) for blocks in PARTITIONS.values() for block in blocks]
    labels = [label.get_text() for label in bands.get_yticklabels()]
    assert labels == ["variance", "hybrid (chosen)"]


def test_searches_differ_in_shape_and_in_lightness_from_the_page():
    looks = style.looks(["grid", *"abcdef"], single=["grid"])
    assert looks["grid"] == style.SINGLE
    assert len({marker for _, marker in looks.values()}) == 7
    assert len({colour for colour, _ in looks.values()}) == 7
    for colour, _ in looks.values():
        assert np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) < 0.7


def test_a_dozen_searches_can_be_told_apart():
    singles = [f"grid {place}" for place in range(10)]
    looks = style.looks(["blocks", "layers", *singles], single=singles)
    assert len(set(looks.values())) == 12
    for colour, _ in looks.values():
        assert np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) < 0.7


def several() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The fake run with its grid three times, under names of their own."""
    table = frames()
    found = []
    for frame in (table.observations, table.hypervolume):
        grid = frame[frame["search"] == "single"]
        more = [grid.assign(search=name) for name in ("second", "third")]
        found.append(pd.concat([frame, *more], ignore_index=True))
    return found[0], found[1]


def test_several_grids_have_lines_of_their_own_and_one_point_of_progress():
    observations, hypervolume = several()
    figure = figures.figure_objective_space(observations, frames().pareto, REFERENCE_POINT)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"single", "second", "third"} <= set(labels)
    progress = figures.figure_progress(observations, hypervolume).axes[0]
    drawn = {line.get_label(): line.get_xdata() for line in progress.lines}
    assert [len(drawn[name]) for name in ("single", "second", "third")] == [1, 1, 1]
    assert len(drawn["blocks"]) > 1


def test_variables_of_several_kinds_and_models_outside_of_the_space():
    def named(text: str) -> str:
        own = json.loads(text)
        return json.dumps({f"{name}: {kind}": 0.5 for name in own for kind in ("a", "density")})

    table = frames()
    blocks = [frame[frame["search"] == "blocks"] for frame in (table.observations, table.pareto)]
    observations, pareto = (frame.assign(variables=frame["variables"].map(named)) for frame in blocks)
    first = pareto[pareto["front"] == "posterior"].index[0]
    pareto.loc[first, "variables"] = "{}"
    reference = table.observations[table.observations["search"] == "reference"]
    axes, _ = figures.figure_weights(pd.concat([observations, reference]), pareto).axes
    assert "weights and parameters" in axes.get_title(loc="left")
    assert len(axes.get_yticks()) == 16
    models = (pareto["front"] == "posterior").sum()
    assert len(axes.texts) == 16 * (models - 1)
