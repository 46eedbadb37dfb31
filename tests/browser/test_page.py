"""The page in a real browser: what it shows is what the server found, for everybody."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import KEY
from playwright.sync_api import expect

QUERY = "how do I reset my password?"
PASSAGES = [
    "Opening hours are 9 to 5 on weekdays.",
    "Passwords must have at least twelve characters.",
    "Parking is free. To reset your password, click 'Forgot password' on the sign-in page. Lunch is at noon.",
]


def rank(page, query=QUERY, passages=PASSAGES):
    page.fill("#query", query)
    page.fill("#passages", "\n".join(passages))
    page.click("#go")
    expect(page.locator("#hits .hit")).to_have_count(len(passages))
    settled(page)


def settled(page):
    expect(page.locator("body.busy")).to_have_count(0)


def order(page):
    return [int(each) for each in page.locator("#hits .hit").evaluate_all("all => all.map(one => one.dataset.index)")]


def text_of(page, index):
    return page.locator(f'#hits [data-index="{index}"] .text').evaluate("one => one.textContent")


def test_the_ranking_is_the_servers(opened, server):
    page = opened(server)
    rank(page)
    found = server.post("/v2/rerank", {"query": QUERY, "documents": PASSAGES})["results"]
    assert order(page) == [each["index"] for each in found] == [2, 1, 0]
    scores = page.locator(".score").evaluate_all("all => all.map(one => one.lastChild.textContent)")
    assert scores == [f"{each['relevance_score']:.3f}" for each in found]
    assert [text_of(page, index) for index in range(3)] == PASSAGES
    expect(page.locator("#status")).to_have_text("Ranked 3 passages. Now first: number 3.")


def test_movement_is_told_in_words_and_drawn(opened, server):
    page = opened(server)
    rank(page)
    moved = page.locator(".hit .moved > .unseen").all_text_contents()
    assert moved == ["up 2, was number 3", "did not move", "down 2, was number 1"]
    chart = page.get_by_role("img", name="2 of 3 passages moved; the first one was number 3")
    expect(chart).to_be_visible()
    assert chart.locator("g").count() == 3
    page.hover('#hits [data-index="0"] .text')
    expect(chart.locator('[data-index="0"]')).to_have_class("down pointed")


def test_before_and_after_change_places(opened, server):
    page = opened(server)
    rank(page)
    page.get_by_role("radio", name="Before").check()
    assert order(page) == [0, 1, 2]
    page.get_by_role("radio", name="After").check()
    assert order(page) == [2, 1, 0]


def test_marks_are_the_strongest_spans(opened, server):
    page = opened(server)
    passage = "😀 Zoë parks. 👩‍🚒 To reset your password, click on the link. 漢字 lunch."
    rank(page, passages=[passage, PASSAGES[0]])
    hits = server.post("/explain", {"query": QUERY, "passages": [passage, PASSAGES[0]]})["hits"]
    best = max(hits[0]["spans"], key=lambda span: span["score"])
    assert page.locator('[data-index="0"] .level-3').first.text_content() == passage[best["start"] : best["end"]]
    assert "reset" in passage[best["start"] : best["end"]]
    assert text_of(page, 0) == passage
    page.uncheck("#spans")
    page.click("#go")
    expect(page.locator("mark")).to_have_count(0)


def test_texts_are_never_markup(opened, server):
    page = opened(server)
    evil = ['<img src=x onerror="alert(1)">&amp;<script>alert(2)</script>', "</li><b>bold</b>\u202e right to left"]
    rank(page, query="<b onclick=alert(3)>password</b>", passages=evil)
    assert [text_of(page, index) for index in range(2)] == evil
    assert page.locator("#hits img, #hits script, #hits .text b").count() == 0


def test_only_the_pages_own_files_may_run(opened, server):
    page = opened(server, complaint="TrustedHTML")
    policy = page.request.get(server.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    refused = page.evaluate(
        """() => {
            try { document.body.innerHTML = '<b>'; return false; } catch (error) { return error instanceof TypeError; }
        }"""
    )
    assert refused


def test_a_thumb_teaches_at_once(opened, server):
    page = opened(server)
    query = "when may I park my car here?"
    rank(page, query=query)
    last = order(page)[-1]
    page.click(f'[data-index="{last}"] [data-verdict=relevant]')
    expect(page.locator("#status")).to_have_text("Learned as relevant. Was number 3, is number 1 now.")
    first = page.locator("#hits .hit").first
    assert order(page)[0] == last
    expect(first.locator("[data-verdict=relevant]")).to_have_attribute("aria-pressed", "true")
    expect(first.locator("[data-verdict=relevant]")).to_be_focused()
    expect(first.locator(".tags")).to_contain_text("judged relevant")
    assert server.post("/explain", {"query": query, "passages": PASSAGES})["hits"][0]["judged"] == "relevant"

    first.locator("[data-verdict=irrelevant]").click()
    expect(page.locator("#status")).to_have_text("Learned as irrelevant. Was number 1, is number 3 now.")
    assert order(page)[-1] == last


def test_examples_of_similar_queries_are_shown(opened, server):
    server.post("/feedback", {"query": "how can I reset my pass word?", "relevant": ["Click 'Forgot password'."]})
    page = opened(server)
    rank(page)
    examples = page.locator("details.examples")
    expect(examples.locator("summary")).to_contain_text("counted")
    expect(examples).to_contain_text("how can I reset my pass word?")
    expect(examples).to_contain_text("Click 'Forgot password'.")


def test_what_was_judged_for_a_similar_query_says_so(opened, server):
    server.post("/feedback", {"query": "at what time does the office open?", "irrelevant": [PASSAGES[0]]})
    page = opened(server)
    rank(page, query="what time does the office open?")

    assert order(page)[-1] == 0
    expect(page.locator('[data-index="0"] .tags')).to_contain_text("irrelevant to a similar query")
    expect(page.locator(".tags", has_text="similar query")).to_have_count(1)


def test_the_part_of_a_long_passage_that_counts_is_shown(opened, server):
    page = opened(server)
    filler = "The weather is nice today and the sun shines over the hills. " * 60
    long = f"{filler}To reset your password, click 'Forgot password'. {filler}".strip()
    rank(page, passages=[PASSAGES[0], long])
    card = page.locator('[data-index="1"]')
    expect(card.locator(".tags")).to_contain_text("best part")
    assert "Forgot password" not in "".join(card.locator(".outside").all_text_contents())
    assert card.locator(".outside").count() >= 1
    more = card.get_by_role("button", name="Show all")
    more.click()
    expect(card.get_by_role("button", name="Show less")).to_have_attribute("aria-expanded", "true")


def test_time_is_split_into_stages_that_add_up(opened, server):
    page = opened(server)
    rank(page)
    words = page.locator(".legend li span").all_text_contents()
    assert words == ["in the queue", "ranking", "marking what counts", "the rest", "network"]
    widths = page.locator(".stage").evaluate_all("all => all.map(one => parseFloat(one.style.inlineSize))")
    assert sum(widths) == pytest.approx(100, abs=0.1)
    assert widths[1] > widths[0]


def test_low_scores_can_be_dropped_by_keyboard(opened, server):
    page = opened(server)
    rank(page)
    slider = page.get_by_label("Keep scores from")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator(".kept")).to_have_text("0 of 3 passages kept, 100 % less text to read")
    expect(page.locator(".hit.dropped")).to_have_count(3)
    page.keyboard.press("Home")
    expect(page.locator(".kept")).to_have_text("3 of 3 passages kept, 0 % less text to read")


def test_everything_works_by_keyboard(opened, server):
    page = opened(server)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    page.fill("#passages", "\n".join(PASSAGES))
    page.focus("#query")
    page.keyboard.press("Control+A")
    page.keyboard.type("where do I park?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#hits .hit")).to_have_count(3)
    page.get_by_text("Ranked", exact=True).wait_for()
    page.focus(".hit [data-verdict=irrelevant]")
    page.keyboard.press("Space")
    expect(page.locator("#status")).to_contain_text("Learned as irrelevant")


def test_files_are_read(opened, server, tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"title": "T", "text": "x\n\ny"}) + "\n", encoding="utf-8")
    (tmp_path / "c.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "d.json").write_text("{", encoding="utf-8")
    page = opened(server)
    page.fill("#passages", "")
    page.set_input_files("#file", [tmp_path / name for name in ("a.txt", "b.jsonl", "c.json")])
    expect(page.locator("#count")).to_have_text("3 passages")
    expect(page.get_by_role("alert")).to_have_text("c.json was left out: entry 1 has no “text”.")
    page.set_input_files("#file", tmp_path / "d.json")
    expect(page.get_by_role("alert")).to_have_text("d.json was left out: it is not JSON: {.")
    page.get_by_role("button", name="Remove a.txt").click()
    expect(page.locator("#count")).to_have_text("1 passage")
    page.click("#go")
    expect(page.locator("#hits .hit")).to_have_count(1)
    assert text_of(page, 0) == "T x\n\ny"


def test_blank_lines_separate_on_request(opened, server):
    page = opened(server)
    page.fill("#passages", "one\nstill one\n  \ntwo")
    expect(page.locator("#count")).to_have_text("3 passages")
    page.get_by_role("radio", name="Blank line between").check()
    expect(page.locator("#count")).to_have_text("2 passages")


def test_what_cannot_be_ranked_is_said(opened, server):
    page = opened(server)
    page.fill("#passages", " \n ")
    page.click("#go")
    expect(page.get_by_role("alert")).to_have_text("There is no passage to rank. Paste some, one a line.")
    page.fill("#passages", "a")
    page.fill("#query", "  ")
    page.click("#go")
    expect(page.get_by_role("alert")).to_have_text("`query` must not be blank, got '  '")
    page.fill("#query", "a")
    page.context.set_offline(True)
    page.click("#go")
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached. Is it still running?")
    page.context.set_offline(False)
    page.click("#go")
    expect(page.locator("#hits .hit")).to_have_count(1)
    expect(page.locator("#error")).to_be_hidden()


def test_the_key_is_asked_for(opened, locked):
    page = opened(locked)
    box = page.get_by_role("dialog", name="This server asks for a key")
    expect(box).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_have_text("This server needs a key. Try again to enter one.")
    page.click("#go")
    box.get_by_label("API key").fill("wröng ☃")
    page.keyboard.press("Enter")
    expect(page.locator("#key-problem")).to_have_text("The server does not know this key.")
    box.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    expect(box).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_text("at most 5 documents are accepted, got 8")
    rank(page)
    expect(page.locator(".thumb")).to_have_count(0)
    expect(page.locator(".note.hint")).to_contain_text("--example-store")
    page.reload()
    expect(page.locator("#model")).to_be_enabled()


def test_models_can_be_chosen(opened, server):
    page = opened(server)
    options = page.locator("#model option").all_text_contents()
    assert options == ["minilm-l6-v1 · torch float32 · cpu"]


def test_the_theme_is_the_systems_until_chosen(opened, server):
    page = opened(server, scheme="dark")

    def ground():
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")

    dark = ground()
    page.get_by_role("button", name="Dark colours").click()
    light = ground()
    assert dark != light
    page.reload()
    assert ground() == light


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (390, "light"), (1280, "light"), (1280, "dark")])
def test_everybody_can_read_it(opened, server, width, scheme):
    page = opened(server, width=width, scheme=scheme)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    rank(page)
    page.click('[data-index="0"] [data-verdict=irrelevant]')
    expect(page.locator(".tags")).to_be_visible()
    settled(page)
    page.get_by_label("Keep scores from").fill("0.3")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
