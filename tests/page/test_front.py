"""The interactive page in headless Chromium, opened from the disk (`make test-page`)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bambo import selection
from bambo.report import tables
from bambo.report.page import page as page_of
from bambo.report.page import page_data, write_page
from fake_run import VARIABLES, fake_run, frames, write_tables
from playwright.sync_api import Browser, Page, sync_playwright
from simulated_run import SimulatedRun, absolute

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "no chromium: run make test-page"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=OPTIONS)


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = fake_run(tmp_path_factory.mktemp("runs") / "made-up")
    write_tables(run_dir)
    first = tables.read(run_dir, "selection")["candidate"].iloc[0]
    fresh = {
        "questions": "held-out",
        "candidate": first,
        "accuracy": 0.5,
        "accuracy_low": 0.4,
        "accuracy_high": 0.6,
    }
    tables.write(run_dir / "tables" / "confirmed", pd.DataFrame([{**fresh, "tokens": 12.34}]))
    write_page(run_dir, "made-up", "posterior", 3, {"most thrifty": first})
    return run_dir


def opened(browser: Browser, path: Path, width: int = 1200, height: int = 900) -> Page:
    """The page, with whatever goes wrong on it in `page.troubles`, and all that it asks for in `page.asked`."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.troubles, page.asked = [], []  # type: ignore[attr-defined]
    page.on("console", lambda message: page.troubles.append(message.text))  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.troubles.append(str(error)))  # type: ignore[attr-defined]
    page.on("request", lambda request: page.asked.append(request.url))  # type: ignore[attr-defined]
    page.goto(path.as_uri())
    page.wait_for_selector("#chart svg")
    return page


@pytest.fixture
def page(browser: Browser, run_dir: Path) -> Iterator[Page]:
    page = opened(browser, run_dir / "front.html")
    yield page
    assert page.troubles == []  # type: ignore[attr-defined]
    assert all(url.startswith("file:") for url in page.asked)  # type: ignore[attr-defined]
    page.close()


def shown(page: Page) -> str:
    """The id, or the source's name, on the card."""
    return page.locator("#card .id").inner_text()


def prefer(page: Page, weight: float) -> None:
    page.locator("#weight0").evaluate(
        "(slider, weight) => { slider.value = weight; slider.dispatchEvent(new Event('input')); }", weight
    )


@pytest.mark.parametrize("front", ["posterior", "observed"])
def test_the_recommended_model_is_that_of_the_workflow(page: Page, run_dir: Path, front: str) -> None:
    pareto = tables.read(run_dir, "pareto")
    rows = pareto[(pareto["search"] == tables.ALL) & (pareto["front"] == front)]
    suffix = "_posterior_mean" if front == "posterior" else ""
    scaled = selection.scale(
        rows[[f"{name}{suffix}" for name in ("reasoning", "efficiency")]].to_numpy(float)
    )
    sources = {id: source for source, id in tables.read_run(run_dir, VARIABLES).end_points.items()}
    page.locator(f"input[value={front}]").check()
    found = set()
    for weight in np.linspace(0, 1, 21):
        (choice,) = selection._by_preference(scaled, {"own": [weight, 1 - weight]}, 3, "own")
        expected = rows["candidate"].iloc[choice.row]
        prefer(page, float(weight))
        assert shown(page) == sources.get(expected, expected)
        found.add(expected)
    assert len(found) > 1


def test_a_need_picks_its_model_with_fresh_scores_until_a_preference_is_set(
    page: Page, run_dir: Path
) -> None:
    first = tables.read(run_dir, "selection")["candidate"].iloc[0]
    page.locator("#by-need").select_option("most thrifty")
    assert shown(page) == first
    expected = "Measured again on held-out questions: accuracy 0.500 (0.400 to 0.600), tokens 12.3"
    assert page.locator("#fresh").inner_text() == expected
    prefer(page, 1.0)
    assert shown(page) != first
    assert page.locator("#by-need").input_value() == ""
    assert page.locator("#fresh").count() == 0
    page.locator("#by-need").select_option("most thrifty")
    page.locator("#by-need").select_option("")
    assert shown(page) != first


def test_limits_change_the_choice_and_name_the_nearest_where_none_is_left(page: Page) -> None:
    prefer(page, 1.0)
    best = shown(page)
    page.locator("#limit-tokens-max").fill("12.5")
    assert shown(page) != best
    row = page.locator("#front tr.chosen td").nth(2).inner_text()
    assert float(row.split()[0]) <= 12.5
    page.locator("#limit-accuracy-min").fill("0.99")
    assert "No model of this front is within the limits." in page.locator("#card").inner_text()
    assert page.locator("#load").is_disabled()
    nearest = page.locator("#card button").inner_text()
    page.locator("#card button").click()
    assert shown(page) == nearest
    page.locator("#limit-accuracy-min").fill("")
    page.locator("#limit-tokens-max").fill("")
    assert shown(page) == best


def test_a_point_tells_of_itself_and_is_picked_by_a_click(page: Page) -> None:
    points = page.locator("#chart svg [aria-roledescription=point]")
    assert "accuracy" in (points.first.get_attribute("aria-label") or "")
    before = shown(page)
    for place in range(points.count()):
        label = points.nth(place).get_attribute("aria-label") or ""
        if label.startswith("model ") and before not in label:
            break
    id = label.split()[1]
    points.nth(place).hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert id in tooltip.inner_text()
    assert "weights" in tooltip.inner_text()
    points.nth(place).click(force=True)
    assert shown(page) == id
    assert page.locator("#model").inner_text() == "The model that you picked"
    page.get_by_text("Back to the recommended one").click()
    assert shown(page) == before


def test_keys_alone_will_do(page: Page) -> None:
    page.locator("#weight0").focus()
    before = shown(page)
    page.keyboard.press("Home")
    assert shown(page) != before
    page.keyboard.press("End")
    last = shown(page)
    page.locator("#front button").first.focus()
    page.keyboard.press("Enter")
    assert shown(page) == page.locator("#front tr.chosen button").inner_text() != last
    # Whatever can be used has a name that a screen reader says.
    for control in page.locator("input, select, button").all():
        name = control.evaluate(
            "c => c.ariaLabel || (c.labels && c.labels[0] && c.labels[0].innerText) || c.innerText"
        )
        assert (name or "").strip()


def test_id_and_recipe_are_copied(page: Page, run_dir: Path) -> None:
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator("#copy-id").click()
    id = page.evaluate("window.copied")
    assert (run_dir / "candidates" / id).is_dir()
    page.locator("#copy-recipe").click()
    assert json.loads(page.evaluate("window.copied")) == json.loads(
        (run_dir / "candidates" / id / "recipe.json").read_text()
    )
    assert "copied" in page.locator("#card [role=status]").inner_text()


def test_without_a_clipboard_text_is_copied_all_the_same(page: Page) -> None:
    page.evaluate(
        "navigator.clipboard.writeText = async () => { throw new Error('refused'); };"
        "document.addEventListener('copy', () => { window.copied = document.activeElement.value; });"
    )
    page.locator("#copy-id").click()
    page.wait_for_function("window.copied")
    assert len(page.evaluate("window.copied")) == 12


def test_answers_stand_side_by_side(page: Page) -> None:
    assert not any("/answers/" in url for url in page.asked)  # type: ignore[attr-defined]
    page.locator("#load").click()
    page.wait_for_selector("#answers tbody tr")
    assert page.locator("#answers thead th[scope=colgroup]").count() == 3  # the model and two sources
    assert page.locator("#answers tbody tr:visible").count() == 1
    assert "9 tokens" in page.locator("#answers tbody").inner_text()
    page.locator("#answers button").click()
    assert page.locator("td.text").first.inner_text() == "\\boxed{A}"
    page.locator("#differ").check()  # all three are right
    assert page.locator("#answers tbody tr").count() == 0


def test_a_page_without_its_answers_says_so(browser: Browser, run_dir: Path, tmp_path: Path) -> None:
    shutil.copyfile(run_dir / "front.html", tmp_path / "front.html")
    page = opened(browser, tmp_path / "front.html")
    page.locator("#load").click()
    page.wait_for_function("document.getElementById('told').textContent.includes('not beside this page')")
    page.close()


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_hangs_over_the_edge(browser: Browser, run_dir: Path, width: int) -> None:
    page = opened(browser, run_dir / "front.html", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def crowd(n: int) -> dict[str, Any]:
    """The data of a page with a front of n models, and of nothing else."""
    table = frames()
    data = page_data(table.observations, table.pareto, table.selection, {}, set(), "observed", 3)
    one = next(model for model in data["models"] if model["source"] is None)
    models = []
    for place in range(n):
        share = place / max(n - 1, 1)
        own = {"accuracy": share, "tokens": 1000 * (1 + share), "reasoning": share, "efficiency": 1 - share}
        model = {**one, "id": f"{place:012x}", "values": {**one["values"], **own}}
        model |= {"objectives": [share, 1 - share], "posterior": [share, 1 - share]}
        models.append({**model, "fronts": ["observed", "posterior"]})
    return {**data, "models": models}


@pytest.mark.parametrize("n", [1, 300])
def test_a_front_of_one_and_of_many(browser: Browser, tmp_path: Path, n: int) -> None:
    (tmp_path / "front.html").write_text(page_of("made-up", crowd(n), simulated=False))
    page = opened(browser, tmp_path / "front.html")
    assert page.locator("#front tbody tr").count() == n
    prefer(page, 1.0)
    assert shown(page) == f"{n - 1:012x}"
    prefer(page, 0.0)
    assert shown(page) == f"{0:012x}"
    assert page.troubles == []  # type: ignore[attr-defined]
    page.close()


def test_the_report_opens_without_a_network(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = SimulatedRun(absolute(searches={"single": {"preset": "model-grid", "weights": [0.3, 0.7]}}))
    run.search("single")
    run.report()
    page = browser.new_page(viewport={"width": 420, "height": 900})
    troubles, asked = [], []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / run.folder / "report.html").as_uri())
    images = page.locator("figure img")
    assert images.count() == 11
    assert all(images.nth(place).evaluate("image => image.naturalWidth") > 300 for place in range(11))
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert troubles == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    page.close()


def test_three_objectives_have_a_weight_each(browser: Browser, tmp_path: Path) -> None:
    table = frames(3)
    data = page_data(table.observations, table.pareto, table.selection, {}, set(), "posterior", 3)
    (tmp_path / "front.html").write_text(page_of("made-up", data, simulated=True))
    page = opened(browser, tmp_path / "front.html")
    assert page.locator("#preference input").count() == 3
    first = shown(page)
    for weight in (0, 1):
        page.locator(f"#weight{weight}").evaluate(
            "s => { s.value = 0; s.dispatchEvent(new Event('input')); }"
        )
    assert shown(page) != first
    page.locator("#weight2").evaluate("s => { s.value = 0; s.dispatchEvent(new Event('input')); }")
    assert shown(page) == first  # no weight at all is the same for all
    assert "SIMULATED" in page.locator("[role=alert]").inner_text()
    page.locator("#x").select_option("science")
    page.locator("#y").select_option("efficiency")
    page.wait_for_timeout(300)
    assert page.troubles == []  # type: ignore[attr-defined]
    page.close()


def test_failures_alone_leave_the_sources(browser: Browser, tmp_path: Path) -> None:
    table = frames()
    ends = table.observations[table.observations["search"] == tables.REFERENCE]
    lost = table.observations[table.observations["search"] != tables.REFERENCE].assign(status="failed")
    of_ends = table.pareto[table.pareto["candidate"].isin(ends["candidate"])]
    data = page_data(pd.concat([lost, ends]), of_ends, table.selection.head(0), {}, set(), "observed", 3)
    (tmp_path / "front.html").write_text(page_of("made-up", data, simulated=False))
    page = opened(browser, tmp_path / "front.html")
    prefer(page, 1.0)
    assert shown(page) == "thinking"
    assert page.troubles == []  # type: ignore[attr-defined]
    page.close()
