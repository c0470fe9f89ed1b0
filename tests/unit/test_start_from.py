"""A search that starts from a coarser one: its config, its points, and what it takes over."""

from dataclasses import replace

import numpy as np
import pico
import pytest
from bambo.checkpoint import open_checkpoint
from bambo.config import load, search_settings
from bambo.errors import BadInput
from bambo.pareto import thinned
from bambo.partition import layer_differences
from bambo.search.ask import ask
from bambo.search.design import Start, initial, warm_start
from bambo.search.presets import PRESETS
from bambo.search.start import best_first, box_around
from bambo.search.study import Study
from bambo.space import expand, parts, projected, variables
from demo_config import demo
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

NAMES = ["thinking", "instruct"]
LINEAR = {"method": "linear"}
TIES = {"method": "ties", "density": {"min": 0.2, "max": 0.6}, "lambda": 1.0}


# Config


def searches(**changes):
    """A coarse search, and a fine one that starts from it."""
    return demo(
        searches={
            "coarse": {"granularity": "block"},
            "fine": {"granularity": "layer", "start_from": "coarse", **changes},
        }
    )


def test_a_finer_search_starts_from_a_coarser_one():
    found = search_settings(load(searches(box=0.1)), "fine")
    assert (found["start_from"], found["box"]) == ("coarse", 0.1)
    load(searches(granularity="module"))
    load(searches(granularity="block", n_blocks=9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"start_from": "corse"},
            'start_from: found the text "corse", which is no search, did you mean coarse?',
        ),
        ({"start_from": "fine"}, "which is this search itself, expected one of coarse"),
        ({"granularity": "model"}, "expected a coarser one than granularity: model"),
        ({"granularity": "block"}, r"found coarse, of granularity: block, .*\(or one of fewer blocks\)"),
        ({"granularity": "block", "n_blocks": 5}, "expected a coarser one"),
        ({"method": "slerp"}, 'found coarse, whose method is the text "linear", not the text "slerp"'),
        ({"box": 0}, "searches.fine.box: found 0, expected more than 0"),
        ({"box": 1.5}, "searches.fine.box"),
        ({"start_from": None, "box": 0.1}, "box: of no use without start_from"),
        ({"box": 0.1, "optimiser": "nsga2"}, "box: of no use with optimiser: nsga2"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(BadInput, match=message) as error:
        load(searches(**changes))
    assert "\n" not in str(error.value)


def test_circles_are_refused():
    config = searches()
    config["searches"]["coarse"]["start_from"] = "fine"
    with pytest.raises(BadInput, match=r"searches.coarse.start_from: found fine, of granularity: layer"):
        load(config)


def test_parameters_must_agree():
    config = searches(method="ties", density={"min": 0.2, "max": 0.6})
    config["searches"]["coarse"] |= {"method": "ties", "density": 0.3}
    config["base"] = {"model": "resources/models/base"}
    config["sources"] |= {"third": {"model": "resources/models/other"}}
    with pytest.raises(BadInput, match=r"whose density is 0.3, not 0.2 to 0.6"):
        load(config)


# Seeds


def test_a_search_of_each_seed():
    config = load(demo(searches={"a": {"preset": "bambo", "seeds": [0, 3]}, "b": {"seed": 7}}))
    assert [(name, search.seed, search.preset) for name, search in config.searches.items()] == [
        ("a-0", 0, "bambo"),
        ("a-3", 3, "bambo"),
        ("b", 7, "bambo-robust"),
    ]
    written_out = load(demo(searches={"a-0": {"preset": "bambo", "seed": 0}, "b": {"seed": 7}}))
    assert search_settings(config, "a-0") == search_settings(written_out, "a-0")


def test_each_seed_starts_from_its_own():
    config = searches(seeds=[1, 2])
    config["searches"]["coarse"]["seeds"] = [0, 1, 2]
    found = load(config).searches
    assert [found[f"fine-{seed}"].start_from for seed in (1, 2)] == ["coarse-1", "coarse-2"]


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"seeds": [0, 0]}, "none twice"),
        ({"seeds": [0], "seed": 1}, "no seed beside them"),
        ({"seeds": []}, "searches.a.seeds: found \\[\\]"),
        ({"seeds": ["x"]}, "searches.a.seeds"),
        ({"seeds": [-1]}, "searches.a.seeds"),
        ({"seeds": 3}, "searches.a.seeds: found 3, expected"),
        ({"seeds": [1]}, r"a-1\); correct them"),
    ],
)
def test_bad_seeds(search, message):
    with pytest.raises(BadInput, match=message):
        load(demo(searches={"a": search, "a-1": {}}))


# Points


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return pico.make_pair(tmp_path_factory.mktemp("pair"), num_hidden_layers=6)


@pytest.fixture(scope="module")
def differences(pair):
    return layer_differences([open_checkpoint(path) for path in pair.values()])


@pytest.fixture(scope="module")
def run(pair):
    return pico.run_of(pair, end_point_evaluation={"repeats": 4})


def of(differences, strategy, n_blocks=3, merging=LINEAR, names=NAMES):
    return variables(parts(differences, n_blocks, strategy, fold=False), names, merging)


@pytest.mark.parametrize("merging", [LINEAR, TIES])
@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        ("model", "hybrid"),
        ("hybrid", "layer"),
        ("layer", "module"),
        ("model", "module"),
        ("uniform", "module"),
    ],
)
def test_a_projection_is_the_same_candidate(run, differences, coarse, fine, merging):
    there, here = of(differences, coarse, merging=merging), of(differences, fine, merging=merging)
    rng = np.random.default_rng(0)
    corners = [np.zeros(len(there)), np.ones(len(there))]
    for x in [*corners, *rng.random((5, len(there))).round(6)]:
        point = projected(x.tolist(), there, here, merging)
        assert run.recipe(expand(point, here, merging)) == run.recipe(expand(x, there, merging))


@hypothesis_settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(any))
def test_weights_of_three_sources_stay(differences, shares):
    names = ["a", "b", "c"]
    there, here = (of(differences, strategy, names=names) for strategy in ("model", "layer"))
    weights = np.array(shares) / sum(shares)
    x = [weights[0], weights[1] / (1 - weights[0]) if weights[0] < 1 else 0.0]
    found = expand(projected(x, there, here, LINEAR), here, LINEAR)
    for own in found.weights.values():
        np.testing.assert_allclose(own, weights, atol=2e-6)


def test_blocks_that_do_not_nest_take_the_mean_by_parameters():
    there = [
        {"name": "a", "groups": ["layers.0", "layers.1"], "sizes": [10, 10]},
        {"name": "b", "groups": ["layers.2"], "sizes": [30]},
    ]
    here = [
        {"name": "c", "groups": ["layers.0"], "sizes": [10]},
        {"name": "d", "groups": ["layers.1", "layers.2"], "sizes": [10, 30]},
    ]
    assert projected([0.2, 0.6], there, here, LINEAR) == [0.2, 0.5]


# The design


def start_at(front, bounds=None):
    return Start(ids=[], X=front[:0], values=None, front=np.array(front), bounds=bounds)


def fine_variables():
    return [{"name": f"layer {i}", "groups": [f"layers.{i}"]} for i in range(4)]


DESIGN = {"initial": "warm-start", "n_initial": 8, "seed": 3}


def test_half_of_the_random_points_make_room_for_the_front():
    here, front = (
        fine_variables(),
        np.array([[1.0] * 4, [0.2, 0.2, 0.7, 0.7], [0.5] * 4, [0.9] * 4, [0.3] * 4]),
    )
    points, origins = initial(DESIGN, here, NAMES, 8, start_at(front))
    plain, _ = initial(DESIGN, here, NAMES, 8)
    assert origins == ["all-0", "all-1", "balanced", "start", "start", "sobol", "sobol", "sobol"]
    np.testing.assert_array_equal(points[3:5], front[[1, 3]])  # end points and balance are there already
    np.testing.assert_array_equal(points[5:], plain[3:6])


def test_a_short_front_leaves_room_for_random_points():
    points, origins = initial(DESIGN, fine_variables(), NAMES, 8, start_at(np.array([[0.2] * 4])))
    assert origins.count("start") == 1
    assert len(points) == len(origins) == 8


@pytest.mark.parametrize("n", range(1, 12))
def test_a_longer_design_begins_with_the_shorter_one(n):
    front = np.array([[0.2] * 4, [0.7] * 4, [0.8] * 4])
    start = start_at(front, np.array([[0.1] * 4, [0.9] * 4]))
    points, _ = initial(DESIGN, fine_variables(), NAMES, n, start)
    longer, _ = initial(DESIGN, fine_variables(), NAMES, n + 1, start)
    np.testing.assert_array_equal(longer[:n], points)


def test_random_points_keep_to_the_box():
    bounds = np.array([[0.1, 0.0, 0.5, 0.2], [0.2, 1.0, 0.6, 0.9]])
    points, origins = warm_start(fine_variables(), NAMES, 40, 0, bounds=bounds)
    random = points[np.array(origins) == "sobol"]
    assert ((bounds[0] <= random) & (random <= bounds[1])).all()
    assert np.ptp(random, axis=0) == pytest.approx(bounds[1] - bounds[0], rel=0.1)


def test_a_box_is_the_range_of_the_front_and_a_margin():
    front = np.array([[0.2, 0.5, 1.0], [0.4, 0.5, 0.95]])
    np.testing.assert_allclose(box_around(front, 0.1), [[0.1, 0.4, 0.85], [0.5, 0.6, 1.0]])
    assert box_around(front, None) is None
    assert box_around(front[:0], 0.1) is None


BOX = np.array([[0.1, 0.6, 0.0], [0.3, 0.61, 1.0]])
CHEAP = {"restarts": 2, "raw_samples": 16, "mc_samples": 16}


@pytest.mark.parametrize(
    ("preset", "acquisition"),
    [
        ("bambo-robust", "qlognehvi"),
        ("bambo", "qehvi"),
        ("ap-bmm", "qlognehvi"),
        ("bambo-robust", "thompson"),
    ],
)
def test_proposals_keep_to_the_box(preset, acquisition):
    X = np.random.default_rng(0).random((6, 3)).round(6)
    Y = np.column_stack([X[:, 0] + X[:, 2], 1 - X[:, 0] * X[:, 1]])
    study = Study(X, Y, np.full_like(Y, 1e-4), X, X[:0], np.full(2, -0.1), ["a", "b"], bounds=BOX)
    settings = PRESETS[preset] | CHEAP | {"acquisition": acquisition}
    points, _ = ask(study, 2, settings, 1)
    # Where what is best is known, what takes its place keeps to the box, too.
    known = replace(study, asked=np.concatenate([X, points]))
    for found in (points, ask(known, 2, settings, 1)[0]):
        assert ((BOX[0] - 1e-6 <= found) & (found <= BOX[1] + 1e-6)).all()


def test_best_first_is_what_thinning_leaves():
    Y, reference = np.random.default_rng(1).random((9, 2)), [-0.1, -0.1]
    order = best_first(Y, reference)
    assert sorted(order) == list(range(9))
    for members in range(1, 10):
        assert sorted(order[:members]) == sorted(thinned(Y, reference, members))
    assert best_first(Y[:0], reference) == []
