"""The page of reports in a real browser: from queries and documents to a report that can be read and kept."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import KEY
from playwright.sync_api import expect

QUERIES = "reset my password\nopening hours\n"
DOCUMENTS = "Opening hours are 9 to 5.\nTo reset your password, click the link.\nParking is free at all hours.\n"


def on_reports(page):
    page.click("#reports")
    expect(page.get_by_role("heading", level=1)).to_have_text("Is reranking worth it?")
    return page


def compare(page, tmp_path, judgements="1\t2\t1\n2\t1\t1\n"):
    (tmp_path / "documents.txt").write_text(DOCUMENTS)
    (tmp_path / "judged.tsv").write_text(judgements)
    page.fill("#queries", QUERIES)
    page.set_input_files("#corpus-file", tmp_path / "documents.txt")
    page.click("summary")
    page.set_input_files("#judgements-file", tmp_path / "judged.tsv")
    page.click("#go")


def opened_report(page):
    with page.expect_popup() as popup:
        page.click("#open")
    popup.value.wait_for_load_state()
    return popup.value


def test_a_report_is_made_shown_and_saved(opened, server, tmp_path):
    page = on_reports(opened(server))
    compare(page, tmp_path)
    expect(page.locator(".verdict p")).to_contain_text("nDCG@10 goes from")
    expect(page.locator("#status")).to_contain_text("The report is ready. After BM25: ")

    report = opened_report(page)
    expect(report.locator(".about").first).to_contain_text("2 queries, 3 documents, judgements of 2 of them.")
    assert report.locator(".tiles > div").first.evaluate("one => getComputedStyle(one).borderRadius") != "0px"
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "report.html"
    assert download.value.path().read_text("utf-8").startswith("<!doctype html>")


def test_what_is_missing_or_wrong_is_said(opened, server, tmp_path):
    page = on_reports(opened(server))
    page.click("#go")
    expect(page.get_by_role("alert")).to_have_text("There is no query. Paste some, one a line, or add a file.")
    compare(page, tmp_path, judgements="7\t1\t1\n")
    expect(page.get_by_role("alert")).to_have_text("judged.tsv: judges none of the 2 queries")
    page.get_by_label("Remove judged.tsv").click()
    page.click("#go")
    expect(page.locator(".verdict p")).to_contain_text("only judgements or clicks can tell.")


def test_a_server_with_a_key_asks_for_it(opened, locked, tmp_path):
    page = opened(locked)
    page.fill("#key-value", KEY)
    page.click("text=Use it")
    on_reports(page)
    compare(page, tmp_path)
    expect(page.locator(".verdict p")).to_contain_text("nDCG@10 goes from")


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (390, "light"), (1280, "light"), (1280, "dark")])
def test_everybody_can_read_it(opened, server, tmp_path, width, scheme):
    page = on_reports(opened(server, width=width, scheme=scheme))
    compare(page, tmp_path)
    expect(page.locator("#open")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    for shown in (page, opened_report(page)):
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
