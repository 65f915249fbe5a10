"""Every page of the console, light and dark, before axe: nothing serious. Pages are found by their links, so that a new one is looked at
without being named here."""
import importlib.resources
import re
import subprocess
from urllib.parse import urldefrag, urlsplit

import pytest
from selenium.webdriver.common.by import By

import axe_core_python
from conftest import BINARY
from test_console import FAILING, JOB, PASSWORD, Console, Person, browser, until  # noqa: F401: `browser` is a fixture

AXE = (importlib.resources.files(axe_core_python) / "axe.min.js").read_text()
SERIOUS = ("serious", "critical")
# What is downloaded, or ends the session, is no page.
PASSED_OVER = re.compile(r"/(assets|api)/|/logout|/log(/file)?$|/rejects/\d+$|download|format=")


@pytest.fixture(scope="module")
def person(browser, tmp_path_factory):  # noqa: F811
    console = Console(tmp_path_factory.mktemp("axe") / "data")
    yield Person(browser, console)
    console.end()
    # A job outlives its console.
    subprocess.run([str(BINARY), "stop", str(console.folder / "tasks/1/job/state/watched.sock")], capture_output=True)


def look(p, where):
    """What axe has against the page that is shown, in light and in dark."""
    found = []
    for scheme in ("light", "dark"):
        p.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        p.driver.execute_script(AXE)
        result = p.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done, (e) => done({error: String(e)}))")
        assert "error" not in result, f"{where}: {result}"
        assert result["passes"], f"{where}: axe has looked at nothing"
        for v in result["violations"]:
            if v["impact"] in SERIOUS:
                found += [f"{where} ({scheme}): {v['id']}: {n['html'][:200]}: {n['failureSummary']}" for n in v["nodes"]]
    p.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    return found


def links(p):
    all_of_it = p.driver.execute_script("return [...document.links].map((a) => a.href)")
    return {urldefrag(a).url for a in all_of_it if a.startswith(p.console.url) and not PASSED_OVER.search(a)}


def shape(url):
    """Pages that differ by a number, or by what is searched for, are one."""
    parts = urlsplit(url)
    return re.sub(r"\d+", "N", parts.path), frozenset(re.findall(r"(\w+)=", parts.query))


def test_axe_finds_nothing_serious(person):
    p = person
    p.go("/login")
    found = look(p, "login")
    # That nothing is found means that something would be.
    p.driver.execute_script("""const i = document.createElement('img'); i.src = '/assets/x'; i.id = 'control'; document.body.append(i)""")
    assert any("image-alt" in f for f in look(p, "control"))
    p.driver.execute_script("document.getElementById('control').remove()")
    p.fill(name="admin", password="wrong")
    p.press("Log in")
    until("a refusal", lambda: p.all(".problem"))
    found += look(p, "refused login")
    p.fill(name="admin", password=p.console.first)
    p.press("Log in")
    p.shows("[name=old]")
    found += look(p, "first login")
    p.fill(old=p.console.first, new=PASSWORD)
    p.press("Change the password")
    p.shows("[name=lang]")
    # One that runs, with an alarm, rejects and a second version; one that has failed; a draft with a mistake.
    for name, config in [("runs", JOB), ("fails", FAILING)]:
        p.go("/tasks/new")
        p.fill(name=name, tags="ads, live", config=config, description="what it is for")
        p.press("Save")
        until("the task", lambda: re.search(r"/tasks/\d+$", p.driver.current_url))
        p.press("Start")
        p.reaches("running" if name == "runs" else "failed")
    p.go("/tasks/1/edit")
    p.fill(config=JOB.replace("price > 1", "price > 2"), note="dearer")
    p.press("Save")
    until("the version", lambda: p.driver.current_url.endswith("/tasks/1"))
    p.go("/tasks/new")
    p.fill(name="draft", config=JOB.replace("type: Filter", "type: Filtre"))
    p.press("Save")
    until("the refusal", lambda: p.all(".problem") and p.all(".editor mark.error"))
    found += look(p, "a form with a mistake")
    p.go("/tasks/1")
    until("figures of the graph", lambda: "/s" in p.text("#live .graph"))
    p.go("/tasks/1/checkpoints")
    until("a checkpoint", lambda: p.driver.refresh() or p.all("tbody tr"))
    p.go("/nothing")
    found += look(p, "nothing here")
    begin, seen, visited = [p.console.url + "/tasks"], set(), []
    while begin:
        url = begin.pop(0)
        if shape(url) in seen:
            continue
        seen.add(shape(url))
        p.driver.get(url)
        if p.driver.execute_script("return document.contentType") != "text/html":
            continue
        visited.append(urlsplit(url).path)
        for closed in p.all("details:not([open]) > summary"):
            p.driver.execute_script("arguments[0].parentNode.open = true", closed)
        found += look(p, urlsplit(url).path)
        begin += sorted(links(p))
    for page in ("/tasks", "/tasks/1", "/operations", "/users", "/account"):
        assert any(v == page or (page == "/tasks/1" and re.fullmatch(r"/tasks/\d+", v)) for v in visited), f"{page} is not linked: {visited}"
    print("pages:", " ".join(visited))
    assert not found, "\n".join(found)
    assert p.driver.find_elements(By.TAG_NAME, "main")
