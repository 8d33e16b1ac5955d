"""The page in a browser, on a server with the model mini."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_clips import write_avi
from page_server import Watched, running_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples"
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"


def upload(watched: Watched, path: Path) -> None:
    watched.page.goto("/")
    watched.page.get_by_label("Choose a video file").set_input_files(path)


def player_time(watched: Watched) -> float:
    return float(watched.page.locator(".screen video").evaluate("video => video.currentTime"))


def ensure_index(watched: Watched, root: str) -> None:
    """Index the collection in the library, if it isn't yet."""
    page = watched.page
    page.goto("/#/library")
    page.locator(".facts, :text('Nothing is indexed yet')").first.wait_for()
    if page.locator(".library .facts").count():
        return
    page.get_by_role("button", name=root, exact=True).click()
    page.locator(".job.done").wait_for()
    page.locator(".library .facts").wait_for()


def test_an_uploaded_sample_is_classified_by_the_labels_that_were_typed(watched: Watched) -> None:
    upload(watched, SAMPLES / "cat_moves_left.mp4")
    watched.page.get_by_role("heading", name="cat_moves_left.mp4").wait_for()
    watched.use_labels("a cat moves left", "a cat moves right", "a dog moves left")
    watched.page.get_by_role("button", name="Look", exact=True).click()
    watched.page.locator(".outcome strong", has_text="a cat moves left").wait_for()
    assert "a cat moves left" in watched.page.locator(".bar").first.inner_text()


def test_labels_that_a_phone_gives_as_one_text_with_commas_become_several(watched: Watched) -> None:
    watched.page.goto("/")
    field = watched.page.get_by_role("textbox", name="Look for")
    field.fill("a cat moves left, , an owl vanishes")
    field.press("Enter")
    assert watched.page.locator(".chip").all_inner_texts() == ["a cat moves left", "an owl vanishes"]
    field.fill("a rocket leaves, a cat moves left")
    field.blur()
    watched.page.locator(".chip", has_text="a rocket leaves").wait_for()
    assert watched.page.locator(".chip").count() == 3


def test_labels_that_change_are_looked_for_again(watched: Watched) -> None:
    upload(watched, SAMPLES / "rocket_leaves.mp4")
    watched.page.get_by_role("heading", name="rocket_leaves.mp4").wait_for()
    watched.use_labels("a rocket approaches", "a cat moves left")
    watched.page.get_by_role("button", name="Look", exact=True).click()
    watched.page.locator(".outcome").wait_for()
    watched.use_labels("a rocket leaves", "a rocket approaches")
    watched.page.get_by_role("button", name="Look again").click()
    watched.page.locator(".outcome strong", has_text="a rocket leaves").wait_for()


def test_the_player_follows_a_click_on_the_timeline(watched: Watched) -> None:
    upload(watched, SAMPLES / "fox_chases_a_chick.mp4")
    watched.page.locator(".screen video").wait_for()
    watched.until("() => document.querySelector('.screen video')?.readyState >= 1")
    strip = watched.page.get_by_role("slider", name="Position on the timeline")
    box = strip.bounding_box()
    assert box is not None
    watched.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    watched.until("() => Math.abs(document.querySelector('.screen video')?.currentTime - 1.5) < 0.1")
    watched.page.locator(".hover-card img").wait_for()  # the frame below the pointer


def test_the_player_jumps_to_a_segment_that_is_clicked(watched: Watched) -> None:
    upload(watched, SAMPLES / "eagle_picks_up_a_snake.mp4")
    watched.page.get_by_role("heading", name="eagle_picks_up_a_snake.mp4").wait_for()
    watched.use_labels("an eagle picks up a snake", "a cat moves left")
    watched.page.get_by_role("button", name="Look", exact=True).click()
    segment = watched.page.locator(".segment").first
    segment.wait_for()
    watched.page.get_by_role("slider", name="Position on the timeline").press("End")
    watched.until("() => document.querySelector('.screen video')?.currentTime > 1.5")
    segment.click()
    watched.until("() => document.querySelector('.screen video')?.currentTime < 0.5")
    assert segment.get_attribute("aria-label", timeout=5000).startswith("an eagle picks up a snake, 0:00.0 to ")


def test_a_video_that_browsers_can_not_play_is_shown_as_a_preview(watched: Watched, tmp_path: Path) -> None:
    upload(watched, write_avi(SAMPLES / "cat_moves_left.mp4", tmp_path / "cat.avi"))
    watched.page.locator(".screen video").wait_for()
    watched.until("() => document.querySelector('.screen video')?.videoWidth > 0")
    watched.page.get_by_role("button", name="Play", exact=True).click()
    watched.until("() => document.querySelector('.screen video')?.currentTime > 0.2")


def test_a_file_that_is_no_video_is_explained(watched: Watched, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((SAMPLES / "cat_moves_left.mp4").read_bytes()[:2000])
    upload(watched, broken)
    alert = watched.page.get_by_role("alert").first
    alert.wait_for()
    assert "broken.mp4" in alert.inner_text()
    assert "/uploads/" not in alert.inner_text()
    watched.page.wait_for_load_state("networkidle")
    assert watched.page.get_by_role("alert").count() == 1  # not again beside the labels


def test_closing_one_of_two_tabs_does_not_end_the_visit(watched: Watched) -> None:
    watched.context.add_init_script(
        """
        const send = navigator.sendBeacon.bind(navigator);
        navigator.sendBeacon = (address) => {
          localStorage.setItem("beacons", `${localStorage.getItem("beacons") ?? ""}${address} `);
          return send(address);
        };
        """
    )
    first, second = watched.page, watched.context.new_page()
    for tab in (first, second):
        tab.goto("/")
        tab.get_by_role("navigation", name="Views").wait_for()
    second.goto("/healthz")  # leaves the page
    assert first.evaluate("localStorage.getItem('beacons')") is None
    first.goto("/healthz")
    assert first.evaluate("localStorage.getItem('beacons')") == "/v1/visits/end "


def test_an_empty_file_of_the_library_says_so(watched: Watched) -> None:
    video = {"id": "films/empty.mp4", "name": "empty.mp4", "root": "films", "size": 0, "modified": 0}
    answer = {"videos": [video], "total": 1, "next": None, "roots": ["films"], "left_out": 0}
    watched.page.route("**/v1/videos?*", lambda route: route.fulfill(json=answer))
    watched.page.goto("/#/library")
    watched.page.locator(".tile", has_text="empty.mp4").locator(".empty-file").wait_for()


def test_search_finds_the_clip_that_shows_the_sentence(watched: Watched, films: Path) -> None:
    ensure_index(watched, films.name)
    page = watched.page
    page.goto("/#/search")
    page.get_by_role("searchbox", name="Describe a moment").fill("an owl vanishes")
    page.keyboard.press("Enter")
    best = page.locator(".hit").first
    best.wait_for()
    assert "owl_vanishes.mp4" in best.inner_text()
    watched.until("() => [...document.querySelectorAll('.hit video')].some(video => video.currentTime > 0.1)")
    best.get_by_role("link", name=re.compile("^More like")).click()
    page.locator(".like", has_text="owl_vanishes.mp4").wait_for()
    page.locator(".hit").first.wait_for()
    page.locator(".hit .tile-face").first.click()
    page.locator(".watch-head h1").wait_for()


def test_ten_corrections_by_keyboard_raise_the_accuracy_that_is_shown(watched: Watched, films: Path) -> None:
    """The labels mean nothing to the model, so that only corrections can teach them."""
    ensure_index(watched, films.name)
    page = watched.page
    page.goto("/#/teach")
    page.get_by_role("textbox", name="Labels, one per line").fill("kind one\nkind two")
    page.get_by_role("button", name="Begin").click()
    given = 0
    for _ in range(40):
        if given == 10:
            break
        page.locator(".teach-where a").wait_for()
        name = page.locator(".teach-where a").inner_text()
        key = {"spin": "1", "rise": "2"}.get(name.split("-")[0], "ArrowRight")
        moment = page.locator(".teach-where").inner_text()
        page.keyboard.press(key)
        watched.until("before => document.querySelector('.teach-where')?.innerText !== before", moment)
        given += key != "ArrowRight"
    assert given == 10
    page.keyboard.press("r")
    page.locator(".gain").wait_for()
    before, after = (float(text.split()[0]) for text in page.locator(".gauge b").all_inner_texts())
    assert after > before
    labels = page.request.get("/v1/labels.csv").text().splitlines()
    assert labels[0] == "path,label,start,end"
    assert len(labels) == 11


def test_z_takes_the_last_label_back(watched: Watched, films: Path) -> None:
    ensure_index(watched, films.name)
    page = watched.page
    page.goto("/#/teach")
    page.locator(".begin, .teach-card").wait_for()
    if page.locator(".begin").is_visible():
        page.get_by_role("textbox", name="Labels, one per line").fill("kind one\nkind two")
        page.get_by_role("button", name="Begin").click()
    where = page.locator(".teach-where")
    where.wait_for()
    first = where.inner_text()
    before = len(page.request.get("/v1/labels").json()["labels"])
    with page.expect_response(lambda answer: answer.request.method == "PUT"):
        page.keyboard.press("1")
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.keyboard.press("z")
    assert where.inner_text() == first
    assert len(page.request.get("/v1/labels").json()["labels"]) == before


def test_a_guess_is_a_label_of_the_list(watched: Watched, films: Path) -> None:
    video = f"{films.name}/spin-0.mp4"
    proposal = {
        "path": video,
        "video": video,
        "start": 0.3,
        "end": 1.7,
        "label": "a label of others",
        "probability": 0.5,
    }
    answer = {"order": "typical", "windows": 1, "notes": [], "proposals": [proposal]}
    page = watched.page
    page.route("**/v1/labels/proposals?*", lambda route: route.fulfill(json=answer))
    page.goto("/#/teach")
    page.locator(".begin, .teach-card").wait_for()
    if page.locator(".begin").is_visible():
        page.get_by_role("textbox", name="Labels, one per line").fill("kind one\nkind two")
        page.get_by_role("button", name="Begin").click()
    page.locator(".guess strong", has_text="a label of others").wait_for()
    assert page.locator(".class-button", has_text="a label of others").count() == 1
    page.get_by_role("button", name="Remove a label of others").click()
    page.get_by_text("Which label fits?").wait_for()


def test_keys_change_the_view_and_the_question_mark_lists_them(watched: Watched) -> None:
    page = watched.page
    page.goto("/")
    page.get_by_role("navigation", name="Views").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Keys").wait_for(state="detached")
    page.keyboard.press("l")
    page.get_by_role("heading", name="Library").wait_for()
    page.keyboard.press("t")
    page.get_by_role("heading", name="Teach").wait_for()


def test_the_page_asks_once_for_the_token(browser: Any, tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--no-preload", token="a-token-of-the-tests") as address:
        opened = Watched(browser, address)
        page = opened.page
        page.goto("/")
        page.get_by_label("Token").fill("a-wrong-token")
        page.get_by_role("button", name="Enter").click()
        page.get_by_role("alert").wait_for()
        page.get_by_label("Token").fill("a-token-of-the-tests")
        page.get_by_role("button", name="Enter").click()
        page.get_by_role("navigation", name="Views").wait_for()
        page.reload()
        page.get_by_role("navigation", name="Views").wait_for()
        assert page.evaluate("document.cookie") == ""  # scripts can't read it
        opened.close()
        assert opened.complaints == []


def show_results(watched: Watched) -> None:
    upload(watched, SAMPLES / "cat_moves_left.mp4")
    watched.page.get_by_role("heading", name="cat_moves_left.mp4").wait_for()
    watched.use_labels("a cat moves left", "a dog moves left")
    watched.page.get_by_role("button", name="Look", exact=True).click()
    watched.page.locator(".segment").first.wait_for()


def show(view: str, selector: str) -> Callable[[Watched], None]:
    def go(watched: Watched) -> None:
        watched.page.goto(view)
        watched.page.locator(selector).first.wait_for()

    return go


VIEWS = {
    "welcome": show("/", ".drop"),
    "results": show_results,
    "search": show("/#/search?q=an owl vanishes", ".hit, .empty"),
    "library": show("/#/library", ".tile"),
    "teach": show("/#/teach", ".begin, .teach-card, .empty"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_fits_every_window_and_axe_finds_no_serious_fault(browser: Any, server: str, view: str) -> None:
    watched = Watched(browser, server, reduced_motion="reduce")
    VIEWS[view](watched)
    for width in (390, 1024, 1600):
        watched.page.set_viewport_size({"width": width, "height": 900})
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    if not AXE.exists():
        watched.close()
        pytest.skip("axe needs web/node_modules: run `make web`")
    watched.page.evaluate(AXE.read_text(encoding="utf-8"))
    serious = []
    for scheme in ("light", "dark"):
        watched.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        watched.page.wait_for_timeout(600)
        serious += [
            (scheme, fault["id"], node["target"], node.get("failureSummary"))
            for fault in watched.page.evaluate("axe.run().then(answer => answer.violations)")
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]
    watched.close()
    assert serious == []
