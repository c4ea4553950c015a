from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _browser import chromium, errors, hosts
from _study_builder import build_study

from neurosweep.report.build import build
from neurosweep.report.data import ReportData


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study, _ = build_study(tmp_path_factory.mktemp("home"), per_round=14, floor=3)
    return build(study)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(window: Any, page: Path) -> Any:
    window.set_window_size(1400, 1000)
    window.get(page.as_uri())
    return window


def visible(window: Any, selector: str) -> list[Any]:
    return [e for e in window.find_elements("css selector", selector) if e.is_displayed()]


def test_figure_and_table_are_shown_without_console_errors(opened: Any, page: Path) -> None:
    from neurosweep.core.layout import StudyDir

    data = ReportData(StudyDir(page.parent.parent))
    assert data.best is not None
    figure = visible(opened, "#running-best figure svg")
    assert len(figure) == 1
    assert figure[0].size["width"] > 800
    assert figure[0].size["height"] > 300
    rows = visible(opened, "#best tbody tr")
    assert len(rows) == 11
    assert data.best.plan.trial in rows[0].text
    assert f"{data.value(data.best):.4f}" in rows[0].text
    assert len(visible(opened, "#effects figure svg")) == 6
    assert visible(opened, "#subjects svg")
    assert errors(opened) == []


def test_the_page_asks_nothing_of_the_network(opened: Any) -> None:
    hosts(opened)
    opened.refresh()
    assert hosts(opened) == set()


def test_dots_are_inside_the_figure(opened: Any) -> None:
    script = """
      const box = document.querySelector('#running-best .wide svg').getBoundingClientRect();
      return [...document.querySelectorAll('#running-best .wide use')].filter(u => {
        const b = u.getBoundingClientRect();
        return b.left < box.left || b.right > box.right || b.top < box.top || b.bottom > box.bottom;
      }).length;"""
    assert opened.execute_script(script) == 0


def test_nothing_is_wider_than_a_small_screen(opened: Any) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        opened.refresh()
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 360
        figures = visible(opened, "#running-best figure svg")
        assert [figure.size["width"] <= 360 for figure in figures] == [True]
        assert opened.find_element("css selector", "#running-best .narrow").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert errors(opened) == []


def test_text_is_readable_on_light_and_dark_pages(opened: Any) -> None:
    script = """
      const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => {
        v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
      const light = c => { const [r, g, b] = rgb(c); return .2126 * r + .7152 * g + .0722 * b; };
      const card = light(getComputedStyle(document.querySelector('#best')).backgroundColor);
      return ['.sub', '#best td.strong', 'h2', 'a, summary'].map(s => {
        const text = light(getComputedStyle(document.querySelector('#best ' + s)
          || document.querySelector(s)).color);
        return (Math.max(card, text) + .05) / (Math.min(card, text) + .05); });"""
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        contrasts = opened.execute_script(script)
        assert min(contrasts) >= 4.5, (scheme, contrasts)
    figure = opened.execute_script(
        "return getComputedStyle(document.querySelector('#running-best svg text')).fill"
    )
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert figure != "rgb(0, 0, 0)"
