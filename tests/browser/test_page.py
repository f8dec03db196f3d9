"""The page for people, as they use it: what they see is what the endpoint answers."""

import base64
import re
import threading

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import COLOURS, EVIL, distance, id_of, nearest, picture
from xhash_ray.serving.keys import Keys

KEY = "k" * 20
HANDS_OVER = """([name, data, how]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  if (how === "paste") {
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, ...options }));
  } else {
    document.body.dispatchEvent(new DragEvent(how, { dataTransfer: transfer, ...options }));
  }
}"""


def ask(page: Page, text: str) -> None:
    """Types a query and presses Enter."""
    page.get_by_role("searchbox").fill(text)
    page.keyboard.press("Enter")


def see(page: Page, names: list[str]) -> None:
    """The ids on the cards have to be those of the names, in their order."""
    expect(page.locator(".card .id")).to_have_text([id_of(name) for name in names])


def hand(page: Page, name: str, how: str) -> None:
    """Drops, drags or pastes the picture of a name."""
    page.evaluate(HANDS_OVER, [f"{name}.png", base64.b64encode(picture(name)).decode(), how])


def test_a_query_finds_what_a_scan_finds_with_pictures(page):
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(page.locator("#about")).to_have_text("36 pairs · 16 bits · jdsh")
    ask(page, "green square")
    names = nearest("green square", 24)
    see(page, names)
    expect(page.locator(".card .distance")).to_have_text([f"{distance('green square', n)} of 16 bits" for n in names])
    expect(page.locator(".card .caption").first).to_have_text("A green square on paper")
    expect(page.get_by_role("status")).to_have_text("24 images, nearest first")
    first = page.locator(".card").first.locator(".picture img")
    expect(first).to_have_js_property("naturalWidth", 200)
    middle = first.evaluate("""(image) => {
      const canvas = new OffscreenCanvas(200, 200).getContext("2d");
      canvas.drawImage(image, 0, 0);
      return [...canvas.getImageData(100, 100, 1, 1).data].slice(0, 3);
    }""")
    wanted = bytes.fromhex(COLOURS["green"][1:])
    assert all(abs(seen - part) < 12 for seen, part in zip(middle, wanted, strict=True)), "green it is"
    for fact in ("Generation1", "Shards3", "Round trip", "Encode", "Scan", "Total", "k-th distance"):
        expect(page.locator("#facts")).to_contain_text(fact)


def test_a_pair_whose_picture_is_broken_gets_a_drawn_one(page):
    ask(page, "green ring")
    page.locator("#k").fill("2")
    page.keyboard.press("Enter")
    see(page, nearest("green ring", 2))
    expect(page.locator(".card .picture img")).to_have_count(1)
    expect(page.locator(".card").first.locator(".picture svg")).to_be_visible()


def test_more_like_this_and_back_and_forward_and_links(page, site):
    ask(page, "red circle")
    see(page, nearest("red circle", 24))
    page.get_by_role("button", name="More like A orange circle").click()
    see(page, nearest("orange circle", 24))
    expect(page.locator(".card .note").first).to_have_text("The pair you asked for")
    expect(page.locator("#chip")).to_contain_text(f"Like {id_of('orange circle')}")
    expect(page.locator("#chip img")).to_be_visible()
    link = page.url
    page.go_back()
    see(page, nearest("red circle", 24))
    expect(page.get_by_role("searchbox")).to_have_value("red circle")
    page.go_forward()
    see(page, nearest("orange circle", 24))
    page.goto("about:blank")
    page.goto(link)
    see(page, nearest("orange circle", 24))
    page.goto(f"{site.url}#q=blue%20bar&k=3")
    see(page, nearest("blue bar", 3))
    assert page.title() == "blue bar · xhash-ray", "and no markup of a caption has run"
    expect(page.locator(".card .caption").first).to_have_text(f"A blue bar {EVIL}")
    page.get_by_role("button", name="Search").click()
    see(page, nearest("blue bar", 3))


@pytest.mark.parametrize("how", ["drop", "paste", "file"])
def test_an_image_finds_texts(page, how):
    if how == "file":
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Image", exact=True).click()
        chooser.value.set_files({"name": "violet bar.png", "mimeType": "image/png", "buffer": picture("violet bar")})
    else:
        if how == "drop":
            hand(page, "violet bar", "dragover")
            expect(page.locator("#drop")).to_be_visible()
        hand(page, "violet bar", how)
    see(page, nearest("violet bar", 24))
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("24 texts, nearest first")
    expect(page.locator("#results")).to_have_class(re.compile("texts"))
    expect(page.locator("#chip .chip-name")).to_have_text("violet bar.png")
    page.get_by_text("Images", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("24 images, nearest first")
    page.get_by_role("button", name="Remove this query").click()
    expect(page.locator("#blank")).to_contain_text("Search images by words")


def test_an_image_that_a_link_cannot_hold_and_one_that_is_none(page, site):
    hand(page, "red bar", "drop")
    see(page, nearest("red bar", 24))
    page.reload()
    expect(page.locator("#blank")).to_contain_text("not here any more")
    page.evaluate(HANDS_OVER, ["notes.png", base64.b64encode(b"no image").decode(), "drop"])
    expect(page.locator("#trouble")).to_contain_text("A image query")
    ask(page, "heffalump")
    expect(page.locator("#trouble")).to_contain_text(f"Nothing is known of {EVIL}. Ask for a shape.")


def test_filters_and_what_is_wrong_with_them(page):
    ask(page, "red circle")
    page.get_by_label("Filter").fill("corners = 3")
    page.keyboard.press("Enter")
    see(page, [f"{colour} triangle" for colour in COLOURS])
    page.get_by_label("Filter").fill("crners = 3")
    page.keyboard.press("Enter")
    expect(page.locator("#filter-error")).to_have_text(re.compile("filter on 'crners': no such column. Did you mean"))
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_label("Filter").fill("")
    page.get_by_role("button", name="corners int32").click()
    page.keyboard.type(" = 99")
    page.keyboard.press("Enter")
    expect(page.locator("#filter-error")).to_be_hidden()
    expect(page.locator("#blank")).to_contain_text("No pair passes this filter")


def test_rescored_hits_have_scores(page):
    ask(page, "red circle")
    expect(page.locator("#rescore option:not([disabled])")).to_have_text(["distance", "hash outputs"])
    page.get_by_label("Order by").select_option("outputs")
    expect(page.get_by_role("status")).to_have_text("24 images, highest score first")
    expect(page.locator(".card .score").first).to_have_text(re.compile(r"score -?\d+\.\d{4}"))
    assert "rescore=outputs" in page.url


def test_an_incomplete_answer_says_so(page, site):
    site.backends[1].lost = True
    try:
        ask(page, "red circle")
        expect(page.locator("#warning")).to_contain_text("Shard 1 of 3 (counted from 0) does not answer")
        expect(page.locator("#facts")).to_contain_text("2 of 3")
        cards, uncertain = page.locator(".card"), page.locator(".card.uncertain")
        certain = cards.count() - uncertain.count()
        sure = "None of the hits is certain" if not certain else f"The first {certain} hits are certain"
        expect(page.locator("#warning")).to_contain_text(sure)
        assert uncertain.count() > 0
        expect(page.locator(".divider")).to_have_count(1)
        expect(uncertain.first.locator(".note")).to_have_text("Not certain")
        page.reload()
        expect(page.locator("#warning")).to_contain_text("Shard 1 of 3")
        expect(page.locator(".card .picture img").first).to_be_visible()
    finally:
        site.backends[1].lost = False
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#warning")).to_be_hidden()
    see(page, nearest("red circle", 24))


def test_a_key_is_asked_for_and_kept_in_the_tab(page, site, tmp_path):
    (tmp_path / "keys").write_text(f"read {KEY}\n")
    open_keys, site.gateway.keys = site.gateway.keys, Keys(str(tmp_path / "keys"))
    try:
        page.reload()
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#unlock")).to_contain_text("not known")
        page.get_by_label("API key").fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#unlock")).to_be_hidden()
        ask(page, "red circle")
        expect(page.locator(".card .picture img").first).to_be_visible()
        page.reload()
        see(page, nearest("red circle", 24))
        assert KEY not in page.url
    finally:
        site.gateway.keys = open_keys


def test_an_answer_that_comes_too_late_is_not_shown(page, site, monkeypatch):
    let_go = threading.Event()
    monkeypatch.setitem(site.encoder.held, "slow", let_go)
    ask(page, "slow red circle")
    expect(page.get_by_role("status")).to_have_text("Searching")
    expect(page.locator(".card.awaited").first).to_be_visible()
    ask(page, "violet bar")
    see(page, nearest("violet bar", 24))
    let_go.set()
    page.wait_for_timeout(500)
    see(page, nearest("violet bar", 24))


def test_a_network_that_fails_is_said_and_tried_again(page):
    page.route("**/v1/search", lambda route: route.abort())
    ask(page, "red circle")
    expect(page.locator("#trouble")).to_contain_text("It does not answer")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    see(page, nearest("red circle", 24))


def test_keys_alone_suffice(page):
    page.keyboard.type("red circle")
    page.keyboard.press("Enter")
    see(page, nearest("red circle", 24))
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    order = ["choose", "", "find", "k", "rescore", "filter"]
    for wanted in order:
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.closest('[id]').id")
        assert focused == (wanted or "ask")
        assert (
            page.evaluate(
                "getComputedStyle(document.activeElement.closest('.segments') ? "
                "document.activeElement.nextSibling : document.activeElement).outlineStyle"
            )
            == "solid"
        )
    while not page.evaluate("document.activeElement.matches('.more')"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    second = nearest("red circle", 2)[1]
    see(page, nearest(second, 24))
    expect(page.get_by_role("status")).to_be_focused()


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (360, "dark")])
def test_a_phone_needs_no_scrolling_sideways(page, site, width, scheme):
    page.set_viewport_size({"width": width, "height": 740})
    page.emulate_media(color_scheme=scheme)
    for hash_ in ("#q=red+circle&k=24", f"#id={id_of('red bar')}&source=text&k=5".replace("#&", "%23%26"), ""):
        page.goto(f"{site.url}{hash_}")
        expect(page.locator(".card .caption, #blank:visible").first).to_be_visible()
        if hash_:
            page.locator("summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_works_behind_a_prefix(page, site):
    page.goto(f"{site.url}two/")
    ask(page, "red circle")
    see(page, nearest("red circle", 24))
    expect(page.locator(".card .picture img").first).to_be_visible()
    assert page.url.startswith(f"{site.url}two/#q=red+circle")


def test_an_endpoint_that_encodes_nothing_and_tells_little(page, site):
    page.route("**/v1/index", lambda route: route.fulfill(json={"rows": 36, "encodes": ["vector"]}))
    page.reload()
    expect(page.locator("#blank")).to_contain_text("start from the id of a pair")
    expect(page.get_by_role("button", name="Image", exact=True)).to_be_hidden()
    ask(page, id_of("blue ring"))
    see(page, nearest("blue ring", 24))
    expect(page.locator(".card .picture svg")).to_have_count(24)
