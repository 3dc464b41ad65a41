#!/usr/bin/env python3
"""Looks at the web page in Chromium, as its users do: watches a job, opens errors and pictures, walks by keyboard alone,
asks axe-core and counts contrasts in both colour schemes; then writes screenshots, of which `pictures-…` are those of the documents.
usage: page.py < FACTS.json        (tests/page.rs says what is in it)
needs: playwright, Chromium, axe-core
Prints what it found as one JSON line; ends with an error at the first thing that is not as it should be."""
import json, pathlib, re, sys, time, urllib.request
from playwright.sync_api import sync_playwright

facts = json.load(sys.stdin)
url, token, axe = facts["url"], facts["token"], pathlib.Path(facts["axe"]).read_text()
shots = pathlib.Path(facts["screenshots"])
shots.mkdir(parents=True, exist_ok=True)
found = {"looks": 0, "axe": {}, "contrasts": 0, "tab_stops": {}}


def rest(method, path, body=None):
    request = urllib.request.Request(url + path, method=method, data=json.dumps(body).encode() if body else None)
    request.add_header("authorization", "Bearer " + token)
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def check(true, what):
    if not true:
        raise SystemExit(f"page.py: {what}")


def until(page, true):
    """Asked from outside: the page's policy lets nothing be evaluated within it."""
    began = time.monotonic()
    while not page.evaluate(true):
        check(time.monotonic() - began < 60, f"in vain waited for {true}")
        page.wait_for_timeout(50)


def watch(page):
    """Whatever a page should never do."""
    def said(message):
        # Signing in begins with a page that is answered with 401, and Chromium says so.
        if message.type in ("error", "warning") and "401" not in message.text:
            raise_later.append(f"the console says: {message.text}")
    raise_later = []
    page.on("console", said)
    page.on("pageerror", lambda error: raise_later.append(f"a script failed: {error}"))
    page.on("request", lambda request: raise_later.append(f"a request left: {request.url}") if not request.url.startswith(url) else None)
    page.add_init_script("addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI))")
    return raise_later


def sign_in(page, path="/jobs"):
    page.goto(url + path)
    page.get_by_label("Token").fill("sh_0_wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(url + path)


def inspect(page, name):
    """What axe-core says, with contrasts, of the page as it is."""
    page.evaluate(axe)
    result = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})")
    serious = [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in result["violations"]]
    check(not serious, f"{name}: axe-core: {serious}")
    contrast = [p for p in result["passes"] if p["id"] == "color-contrast"]
    found["contrasts"] += sum(len(p["nodes"]) for p in contrast)
    found["axe"][name] = len(result["passes"])


def fits(page, name):
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check(over <= 0, f"{name} is {over} px wider than the window")


def walk(page, name):
    """By keyboard: every link, button and field is reached, in the order of the page, and shows that it is."""
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    wanted = page.evaluate("""[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex="0"]')]
        .filter(e => e.checkVisibility()).length""")
    reached = []
    for _ in range(wanted + 2):
        page.keyboard.press("Tab")
        now = page.evaluate("""(() => { const e = document.activeElement; if (e === document.body) return null;
            e.dataset.seen ??= Math.random(); const s = getComputedStyle(e), b = e.getBoundingClientRect();
            return {id: e.dataset.seen, tag: e.tagName, text: e.textContent.trim().slice(0, 30), outline: parseFloat(s.outlineWidth) && s.outlineStyle !== 'none',
                    top: b.top + scrollY, inside: b.bottom > 0 && b.top < innerHeight}; })()""")
        if now is None or now["id"] in [r["id"] for r in reached]:
            break
        check(now["outline"], f"{name}: {now['tag']} {now['text']!r} does not show that it has the focus")
        check(now["inside"], f"{name}: {now['tag']} {now['text']!r} has the focus out of sight")
        reached.append(now)
    check(len(reached) >= wanted, f"{name}: {len(reached)} of {wanted} are reached by keyboard: {[r['text'] for r in reached]}")
    check(reached[0]["text"] == "Skip to the content", f"{name}: the first stop is {reached[0]}")
    found["tab_stops"][name] = len(reached)


def live(page):
    """A job from its beginning to its end, on a page that is loaded once."""
    job = rest("POST", "/v1/endpoints/probe/jobs", {"input": {"path": facts["slow_input"]}, "deployment": "slow"})["name"]
    page.goto(url + "/jobs")
    page.evaluate("window.loadedOnce = true")
    row = page.locator(f"tr[data-job='{job}']")
    row.get_by_text("Running").wait_for(timeout=20000)
    row.get_by_role("link", name=job).click()
    page.wait_for_url(f"{url}/jobs/{job}")
    page.evaluate("window.loadedOnce = true")
    bar, looks = page.get_by_role("progressbar", name="Files done"), set()
    began = time.monotonic()
    rate = left = False
    while page.locator(".head .status").inner_text() != "Completed":
        check(time.monotonic() - began < 60, "the job does not complete before the reader's eyes")
        looks.add((bar.evaluate("e => e.value"), page.locator("[data-field=progress]").inner_text()))
        rate = rate or re.fullmatch(r"[\d.]+", page.locator("dd[data-field=rate]").inner_text()) is not None
        left = left or re.search(r"\d s$", page.locator("dd[data-field=left]").inner_text()) is not None
        page.wait_for_timeout(200)
    check(rate and left, f"the rate and the time left are told: {rate} {left}")
    check(len(looks) >= 3, f"the progress moves: {looks}")
    found["looks"] = len(looks)
    page.locator("#outputs ~ ul").get_by_role("link", name="predictions.csv").wait_for(timeout=10000)
    check(page.locator("#announce").inner_text() == f"Job {job}: Completed", "the end is announced")
    check(page.locator("dd[data-field=mini_batches]").inner_text() == f"{facts['files']} of {facts['files']}", "all mini-batches")
    check(page.evaluate("window.loadedOnce === true"), "the page was loaded again")
    # Paged, by a link and without a script.
    page.locator("[data-part=mini-batches]").get_by_role("link", name="Next").click()
    page.locator("[data-part=mini-batches] tbody th", has_text=re.compile("^25$")).wait_for()


def cancel(page):
    """A job that is stopped and resumed from the page."""
    job = rest("POST", "/v1/endpoints/probe/jobs", {"input": {"path": facts["slow_input"]}, "deployment": "slow"})["name"]
    page.goto(f"{url}/jobs/{job}")
    page.locator(".head .status", has_text="Running").wait_for(timeout=20000)
    page.get_by_role("button", name="Cancel").click()
    page.locator(".head .status", has_text="Canceled").wait_for(timeout=20000)
    page.get_by_role("button", name="Resume").click()
    page.locator(".head .status", has_text="Completed").wait_for(timeout=60000)


def hostile(page):
    page.goto(f"{url}/jobs/{facts['panics']}")
    item = page.locator(".failures li").first
    check(facts["hostile"] in item.inner_text(), f"the hostile name is text: {item.inner_text()}")
    item.get_by_text("What the script printed").click()
    check("boom at mini-batch 1" in item.locator("details pre").inner_text(), "the log is beside the error")
    page.goto(f"{url}/jobs/{facts['prints']}/logs/1/1")
    check("out " + facts["hostile"] in page.locator("pre").inner_text(), "the hostile log is text")
    page.goto(f"{url}/jobs/{facts['prints']}/gallery")
    check(facts["hostile"] in page.locator(".gallery").inner_text(), "the hostile name is text in the gallery")
    check("caught" not in page.title(), "a file's name was run")


def gallery(page):
    page.goto(f"{url}/jobs/{facts['shapes']}/gallery")
    for picture in page.locator(".gallery img").all():
        picture.scroll_into_view_if_needed()
    until(page, "[...document.querySelectorAll('.gallery img')].every(i => i.complete)")
    sizes = page.evaluate("[...document.querySelectorAll('.gallery img')].map(i => i.naturalWidth)")
    # Browsers show no TIFF, of which there are five.
    check(len(sizes) >= 30 and min(sizes) > 0, f"pictures are really there: {sizes}")
    check(page.locator(".blank").count() == 40 - len(sizes), "others say why not")
    names = page.locator(".gallery .label b").all_inner_texts()
    check(names[:3] == ["arrow", "circle", "crescent"], f"classes have their names: {names[:3]}")


def tree(page):
    """Names and roles, as a screen reader has them."""
    page.goto(f"{url}/jobs/{facts['panics']}")
    said = page.locator("body").aria_snapshot()
    for part in ["banner", "navigation \"Host\"", "main", "heading \"Mini-batches\" [level=2]", "progressbar \"Files done\"",
                 "table", "columnheader \"Attempts\"", "rowheader \"0\"", "button \"Sign out\"", "link \"Gallery\""]:
        check(part in said, f"the accessibility tree lacks {part}:\n{said}")
    page.goto(url + "/jobs")
    said = page.locator("body").aria_snapshot()
    for part in ["table \"Jobs", "combobox \"Status\"", "status", "link \"Skip to the content\""]:
        check(part in said, f"the accessibility tree lacks {part}:\n{said}")


def small(path):
    """A screenshot in 256 colours, where Pillow is: a third of the bytes."""
    try:
        from PIL import Image
    except ImportError:
        return
    image = Image.open(path).convert("RGB")
    # Dithered: shades would become bands.
    image.quantize(palette=image.quantize(256)).save(path, optimize=True)


def pictures(page, scheme):
    """For the documents: the demo's shapes, in a job that runs."""
    job = rest("POST", "/v1/endpoints/shapes/jobs", {"input": {"path": facts["many"]}})["name"]
    page.set_viewport_size({"width": 1080, "height": 640})

    def shot(name):
        page.screenshot(path=shots / f"pictures-{name}-{scheme}.png")
        small(shots / f"pictures-{name}-{scheme}.png")

    page.goto(url + "/jobs")
    until(page, f"parseInt(document.querySelector('[data-job=\"{job}\"] [data-field=percent]').textContent) >= 10")
    page.locator(f"[data-job='{job}'] [data-field=rate]", has_text=re.compile(r"\d")).wait_for()
    shot("jobs")
    page.goto(f"{url}/jobs/{job}")
    page.locator("dd[data-field=rate]", has_text=re.compile(r"\d")).wait_for()
    page.wait_for_timeout(300)
    shot("job")
    page.goto(f"{url}/jobs/{facts['shapes']}/gallery")
    page.wait_for_load_state("networkidle")
    shot("gallery")
    rest("POST", f"/v1/jobs/{job}/cancel")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=facts["chromium"], args=["--no-sandbox"])
    pages = {"jobs": "/jobs", "job": f"/jobs/{facts['panics']}", "gallery": f"/jobs/{facts['shapes']}/gallery", "endpoints": "/endpoints",
             "endpoint": "/endpoints/probe", "devices": "/devices", "tenants": "/tenants", "audit": "/audit",
             "log": f"/jobs/{facts['prints']}/logs/1/1", "none": "/nothing", "empty": "/jobs?status=failed"}
    for scheme in ["light", "dark"]:
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 860}, locale="en-GB",
                                      timezone_id="Europe/Rome", reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(15000)
        wrong = watch(page)
        page.goto(url)
        inspect(page, f"{scheme} sign-in")
        sign_in(page)
        if scheme == "light":
            live(page)
            cancel(page)
            hostile(page)
            gallery(page)
            tree(page)
        for name, path in pages.items():
            # A page that is not there is answered as such, which is no error of the page.
            page.goto(url + path)
            inspect(page, f"{scheme} {name}")
            if scheme == "light":
                walk(page, name)
            page.set_viewport_size({"width": 360, "height": 740})
            fits(page, name)
            if scheme == "dark":
                page.screenshot(path=shots / f"narrow-{name}.png")
            page.set_viewport_size({"width": 1280, "height": 860})
            fits(page, name)
            page.wait_for_load_state("networkidle") if name == "gallery" else None
            page.screenshot(path=shots / f"{scheme}-{name}.png")
        page.goto(url + "/jobs/" + facts["shapes"])
        page.screenshot(path=shots / f"{scheme}-shapes.png", full_page=True)
        pictures(page, scheme)
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        wrong = [what for what in wrong if "404" not in what]
        check(not wrong, f"{scheme}: {wrong}")
        context.close()
    browser.close()
print(json.dumps(found))
