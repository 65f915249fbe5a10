"""The console in a real browser: what people do with it, from the first login to an alarm's mail.

With MILLRACE_SCREENSHOTS set to a folder, every page is kept there at 1,440 and 390 pixels."""
import email
import email.policy
import os
import pathlib
import re
import sqlite3
import subprocess
import time

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import servers
from conftest import BINARY

PASSWORD = "correct horse battery"
JOB = """name: watched
run_env:
  checkpoint: {interval: 200ms, dir: state}
streams:
  events:
    config:
      source: {type: Generator, config: {profile: ad_exposures, rate: 300}}
      operates:
        - type: StringToMap
          config: {format: json, fields: {uid: string, price: "decimal(18,2)"}}
transforms:
  - {type: Filter, name: dear, config: {where: price > 1}}
sink:
  - {type: File, name: out, config: {path: out.jsonl}}
"""
FAILING = JOB.replace("{type: Generator, config: {profile: ad_exposures, rate: 300}}", "{type: File, config: {path: not-there.jsonl}}")
WIDTHS = {"wide": (1440, 1000), "narrow": (390, 844)}


def until(what, happened, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := happened():
                return found
        except StaleElementReferenceException:
            pass  # the page was drawn anew between two looks
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come about")


class Console:
    def __init__(self, folder, *args, env=None):
        self.folder = folder
        command = [str(BINARY), "serve", "--listen", "127.0.0.1:0", "--data", str(folder), *args]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.first = None
        for line in self.process.stdout:
            if m := re.search("with the password ([^,]+),", line):
                self.first = m[1]
            if m := re.match("console: (.*)", line):
                self.url = m[1]
                return
        raise AssertionError("the console does not begin")

    def end(self):
        self.process.terminate()
        assert self.process.wait(30) == 0


@pytest.fixture(scope="module")
def mail_server():
    server = servers.Server("smtp", 1).start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def console(tmp_path_factory, mail_server):
    folder = tmp_path_factory.mktemp("console") / "data"
    console = Console(folder, "--allow-address", "127.0.0.1", env={"MILLRACE_SMTP": f"smtp://127.0.0.1:{mail_server.port}"})
    yield console
    console.end()
    db = sqlite3.connect(folder / "console.db")
    for (task,) in db.execute("SELECT id FROM tasks").fetchall():
        # A job outlives its console: that is what it is for.
        subprocess.run([str(BINARY), "stop", str(folder / f"tasks/{task}/job/state/watched.sock")], capture_output=True)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en", "--window-size=1440,1000"):
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    # Until something is a mistake, however slow the machine.
    driver.set_script_timeout(180)
    yield driver
    driver.quit()


class Person:
    """Somebody with a browser."""

    def __init__(self, driver, console):
        self.driver, self.console = driver, console

    def go(self, path):
        self.driver.get(self.console.url + path)

    def one(self, css):
        # A page that was gone to by a button may not be there yet.
        return until(f"{css} at {self.driver.current_url}", lambda: next(iter(self.all(css)), None))

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def fill(self, **fields):
        for name, value in fields.items():
            box = self.one(f"[name={name}]")
            self.driver.execute_script(
                "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))", box, value)

    def press(self, text, within="main"):
        def ready():
            return next((b for b in self.all(f"{within} button, {within} a.button") if b.text == text and b.is_displayed() and b.is_enabled()), None)

        def pressed():
            if button := ready():
                # Not by the mouse: charts that grow meanwhile would move the button from under it.
                self.driver.execute_script("arguments[0].click()", button)
            return button
        until(f"the button {text!r}", pressed)

    def shows(self, css):
        """Waits for a page that has this, as a whole: what is looked at next may stand further down."""
        whole = "return document.readyState === 'complete' && document.querySelector(arguments[0]) !== null"
        until(f"a page with {css}, at {self.driver.current_url}", lambda: self.driver.execute_script(whole, css))

    def squiggles(self, wanted):
        """What is marked in the editor: the id of its problem and its text."""
        find = "return [...document.querySelectorAll('.editor mark.error')].map((m) => [m.dataset.id, m.textContent])"
        until(f"the marks {wanted}", lambda: [tuple(m) for m in self.driver.execute_script(find)] == wanted)

    def text(self, css):
        """Of what is there now, in one look: pages are drawn anew all the time."""
        return self.driver.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText).join(' ')", css)

    def state(self):
        return self.text("#live .state")

    def reaches(self, state):
        until(f"{state}, it is {self.state()}", lambda: self.state() == state)

    def fits(self, name):
        """No page is wider than a telephone; what is wide scrolls for itself."""
        for width, size in WIDTHS.items():
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False})
            over = self.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
            assert over <= 0, f"{name} is {over} pixels too wide at {size[0]}"
            if folder := os.environ.get("MILLRACE_SCREENSHOTS"):
                height = min(self.driver.execute_script("return document.documentElement.scrollHeight"), 2400)
                self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                            {"width": size[0], "height": height, "deviceScaleFactor": 1, "mobile": False})
                pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
                self.driver.save_screenshot(str(pathlib.Path(folder) / f"{name}-{size[0]}.png"))
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def complains(self):
        """What the browser has against a page: a breach of its own policy above all."""
        # A refused form is one that was meant to be refused.
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE" and "status of 422" not in e["message"]]


@pytest.fixture(scope="module")
def person(browser, console):
    p = Person(browser, console)
    p.go("/tasks")
    p.fits("login")
    p.fill(name="admin", password=console.first)
    p.press("Log in")
    p.shows("[name=old]")
    p.fill(old=console.first, new=PASSWORD)
    p.press("Change the password")
    p.shows("[name=lang]")
    p.fits("account")
    return p


def out(console):
    return (console.folder / "tasks/1/job/out.jsonl").read_text()


def taps(p):
    """From the graph to the rows of an output, with a condition that is wrong at first."""
    p.go("/tasks/1")
    find = "return document.querySelector('#live .graph a[aria-label=dear]')?.getAttribute('href')"
    p.go(until("an arrow that leads to its rows", lambda: p.driver.execute_script(find)))
    assert Select(p.one("[name=output]")).first_selected_option.text == "dear"
    until("the fields", lambda: "price" in p.text("#tap-fields"))
    p.fill(where="prize > 2")
    p.press("Show")
    until("the refusal", lambda: "did you mean `price`?" in p.text("#tap-refused"))
    assert p.text("#tap-refused mark") == "prize"
    p.fill(where="price > 2")
    p.press("Show")
    until("rows", lambda: len(p.all("#tap-rows tbody tr")) > 3)
    p.press("Stop")
    until("the end", lambda: not p.one("#tap-stop").is_enabled())
    column = [e.text for e in p.all("#tap-rows th")].index("price")
    assert all(float(r.find_elements(By.TAG_NAME, "td")[column].text) > 2 for r in p.all("#tap-rows tbody tr"))
    p.fits("tap")


def completes(p):
    """Control and space, an arrow, Enter: the word stands in the text."""
    p.fill(config="name: x\nsink:\n  - {type: Std")
    box = p.one("[name=config]")
    p.driver.execute_script("arguments[0].focus(); arguments[0].setSelectionRange(arguments[0].value.length, arguments[0].value.length)", box)
    ActionChains(p.driver).key_down(Keys.CONTROL).send_keys(" ").key_up(Keys.CONTROL).perform()
    until("a suggestion", lambda: "Stdout" in p.text("#completions li"))
    box.send_keys(Keys.ENTER)
    until("the word", lambda: box.get_attribute("value").endswith("type: Stdout"))
    assert not p.one("#completions").is_displayed()


def test_a_task_from_its_form_to_a_rollback(person, console):
    p = person
    p.go("/tasks")
    p.press("New task")
    p.shows("[name=config]")
    completes(p)
    p.fill(name="clicks", tags="ads, live", config=JOB.replace("type: Filter", "type: Filtre"))
    p.squiggles([("unknown-part", "Filtre")])
    assert "Filter" in p.text("#problems") and p.text("#problems button") == "12:12"
    # Before the next answer, and after it, the mark stands at its word.
    p.fill(config="# Clicks.\n" + JOB.replace("type: Filter", "type: Filtre"))
    p.squiggles([("unknown-part", "Filtre")])
    until("the next answer", lambda: p.text("#problems button") == "13:12")
    p.squiggles([("unknown-part", "Filtre")])
    # The mark lies where the word is shown.
    p.fits("form")
    p.press("Save")
    until("the refusal", lambda: "unknown-part" in p.text(".problem"))
    assert "Filtre" in p.one("[name=config]").get_attribute("value")
    p.fill(config=JOB)
    until("no squiggle", lambda: not p.all(".editor mark.error") and p.all("#graph rect"))
    p.press("Save")
    until("the task", lambda: p.driver.current_url.endswith("/tasks/1"))
    p.reaches("not started")
    p.press("Start")
    p.reaches("running")
    until("the log", lambda: "run 1 of version 1" in p.text("[data-log]"))
    until("figures of the graph", lambda: "/s" in p.text("#live .graph"))
    until("a chart's line", lambda: len(p.driver.execute_script("return document.querySelector('#live .charts path.line')?.getAttribute('d') ?? ''")) > 20)
    p.fits("task")
    p.go("/tasks")
    until("a running row", lambda: "running" in p.text("tbody"))
    p.fits("tasks")
    p.go("/tasks/1")
    p.press("Stop with a savepoint")
    p.reaches("stopped")
    rows = (console.folder / "tasks/1/job/out.jsonl").read_text().splitlines()
    assert len(rows) > 10 and len(set(rows)) == len(rows)
    p.go("/tasks/1/edit")
    p.fill(config=JOB.replace("price > 1", "price > 2"), note="dearer")
    p.press("Save")
    until("the version", lambda: p.driver.current_url.endswith("/tasks/1"))
    p.go("/tasks/1/versions/2")
    assert [e.text for e in p.all(".diff .add")][1:] == ["+  - {type: Filter, name: dear, config: {where: price > 2}}"]
    p.fits("diff")
    p.go("/tasks/1")
    p.press("Start")
    p.reaches("running")
    until("more rows", lambda: len(out(console).splitlines()) > len(rows))
    taps(p)
    p.go("/tasks/1")
    p.press("Stop")
    p.reaches("stopped")
    p.go("/tasks/1/checkpoints")
    p.fits("checkpoints")
    row = next(r for r in p.all("tbody tr") if "savepoint" in r.text)
    row.find_element(By.CSS_SELECTOR, "a.button").click()
    p.shows("#refused")
    # What it does is said before, in the words of the command line.
    assert "would publish again what the checkpoints" in p.text("#refused") and "`out`" in p.text("#refused")
    slot = p.one("[name=from]").get_attribute("value")
    said = subprocess.run([str(BINARY), "checkpoints", "preview", slot, "topology.yaml"], cwd=console.folder / "tasks/1/job", capture_output=True, text=True)
    assert said.returncode == 1 and p.text("#refused").splitlines()[0] in said.stderr
    p.fits("restore")
    before = out(console)
    p.one("[name=accept_duplicates]").click()
    p.press("Start from there")
    p.reaches("running")
    until("rows that come again", lambda: len(out(console).splitlines()) > len(before.splitlines()))
    p.press("Stop")
    p.reaches("stopped")
    again = out(console)
    assert again.startswith(before) and len(set(again.splitlines())) < len(again.splitlines()), "as was said, rows are there twice"
    p.go("/tasks/1")
    p.press("Roll back to this")
    p.shows("#diff")
    assert "the state of the one part that has any survives" in p.text("#diff") and "going on from checkpoint" in p.text("#foreseen")
    p.fits("rollback")
    p.press("Roll back to this")
    until("the third version", lambda: "back to version 1" in p.text("main"))
    p.go("/operations")
    for action in ("create", "save", "start", "stop-with-savepoint"):
        assert action in p.one("tbody").text
    p.fits("operations")
    p.go("/users")
    p.fits("users")
    assert p.complains() == []


LETTERS = """name: washed
run_env:
  checkpoint: {interval: 200ms, dir: state}
stores:
  towns: {type: Embedded, config: {path: table, key: "{{k}}", load: towns.csv}}
streams:
  events:
    config:
      source: {type: File, config: {path: in.jsonl, mode: follow}}
      operates:
        - {type: StringToMap, config: {format: json, fields: {k: string, n: TYPE}}}
transforms:
  - {type: Lookup, name: placed, config: {store: towns, fields: [town]}}
sink:
  - {type: File, name: out, config: {path: out.jsonl}}
"""


def test_dead_letters_are_replayed_and_a_record_is_shown(person, console):
    p = person
    p.go("/tasks/new")
    p.fill(name="washed", config=LETTERS.replace("TYPE", "bigint"))
    p.press("Save")
    until("the task", lambda: re.search(r"/tasks/\d+$", p.driver.current_url))
    task = p.driver.current_url.rsplit("/", 1)[1]
    job = console.folder / f"tasks/{task}/job"
    (job / "towns.csv").write_text("k,town\na,Linz\nb,Graz\n")
    (job / "in.jsonl").write_text('{"k":"a","n":1}\n{"k":"b","n":"many"}\n')
    p.press("Start")
    p.reaches("running")
    until("a row", lambda: (job / "out.jsonl").exists() and "Linz" in (job / "out.jsonl").read_text())
    until("a dead letter in the figures", lambda: p.text("#rejected") == "1")
    p.press("Stop")
    p.reaches("stopped")
    p.go(f"/tasks/{task}/edit")
    p.fill(config=LETTERS.replace("TYPE", "string"))
    p.press("Save")
    until("the version", lambda: p.driver.current_url.endswith(f"/tasks/{task}"))
    p.press("Start")
    p.reaches("running")
    p.go(f"/tasks/{task}/rejects")
    assert "wrong-type" in p.text("tbody")
    p.fits("rejects")
    p.one("[name=letter]").click()
    p.press("Replay the chosen ones")
    p.shows("#words")
    assert "1 of 1 dead letters" in p.text("#words") and "the running job reads them now" in p.text("#words")
    p.fits("replay")
    p.press("Replay them")
    until("the row in the file", lambda: (job / "out.jsonl").read_text().splitlines()[1:] == ['{"k":"b","n":"many","town":"Graz"}'])

    def done():
        p.go(f"/tasks/{task}/rejects")
        return "written by all sinks" in p.text("#replays") and "not yet" not in p.text("#replays")
    until("its end", done)
    p.press("Replay all of the file")
    p.shows("#words")
    assert "1 were replayed before" in p.text("#words") and not p.all("[name=go]")
    p.go("/stores")
    p.fill(store="towns", name="towns")
    Select(p.one("[name=task]")).select_by_value(task)
    p.press("Allow")
    until("the store", lambda: "/records/towns/" in p.text("tbody"))
    p.fits("stores")
    p.go("/records/towns/b")
    until("the row", lambda: p.text("#record tbody").split() == ["town", "Graz"])
    p.fits("record")
    p.go(f"/tasks/{task}")
    p.press("Stop")
    p.reaches("stopped")
    assert p.complains() == []


def test_a_job_whose_store_is_away_is_blocked(person, console):
    redis = servers.Server("redis", 1).start()
    p = person
    try:
        p.go("/tasks/new")
        p.fill(name="waits", config=f"""name: waits
stores:
  users: {{type: Redis, config: {{url: "redis://127.0.0.1:{redis.port}", key: "{{{{uid}}}}"}}}}
streams:
  events:
    config:
      source: {{type: Generator, config: {{profile: ad_exposures, rate: 50}}}}
      operates:
        - {{type: StringToMap, config: {{format: json, fields: {{uid: string}}}}}}
transforms:
  - {{type: Lookup, config: {{store: users, fields: [city]}}}}
sink:
  - {{type: "Null"}}
""")
        p.press("Save")
        until("the task", lambda: re.search(r"/tasks/\d+$", p.driver.current_url))
        p.press("Start")
        p.reaches("running")
        redis.kill()
        p.reaches("blocked: waiting for a server")
        redis.start()
        p.reaches("running")
        p.press("Stop")
        p.reaches("stopped")
    finally:
        redis.end()


def mails(server):
    folder = server.data / "mail" / "new"
    files = sorted(folder.glob("*")) if folder.exists() else []
    return [email.message_from_bytes(f.read_bytes(), policy=email.policy.default) for f in files]


def test_an_alarm_is_told_by_mail_and_so_is_its_end(person, console, mail_server):
    p = person
    p.go("/tasks/new")
    p.fill(name="ill", config=FAILING, mails="ops@example.com")
    Select(p.all("[name=alarm_what]")[0]).select_by_value("liveness")
    p.press("Save")
    until("the task", lambda: re.search(r"/tasks/\d+$", p.driver.current_url))
    task = p.driver.current_url.rsplit("/", 1)[1]
    p.press("Start")
    p.reaches("failed")
    until("the reason", lambda: "not-there.jsonl" in p.text("#reason"))
    until("the mail", lambda: mails(mail_server))
    fired = mails(mail_server)[0]
    assert fired["subject"] == "millrace ill: alarm liveness" and f"/tasks/{task}" in fired.get_content()
    p.fits("failed")
    p.go(f"/tasks/{task}/edit")
    p.fill(config=JOB)
    p.press("Save")
    until("the task", lambda: p.driver.current_url.endswith(f"/tasks/{task}"))
    p.press("Start")
    p.reaches("running")
    until("the second mail", lambda: len(mails(mail_server)) > 1)
    assert mails(mail_server)[1]["subject"] == "millrace ill: resolved liveness"
    p.press("Stop")
    p.reaches("stopped")


def test_chinese_and_dark(person):
    p = person
    p.go("/account")
    Select(p.one("[name=lang]")).select_by_value("zh-CN")
    Select(p.one("[name=theme]")).select_by_value("dark")
    p.press("Save")
    until("Chinese", lambda: p.text("h1") == "账号")
    p.go("/tasks")
    assert p.text("h1") == "任务" and p.one("html").get_attribute("data-theme") == "dark"
    p.fits("dark")
    p.go("/account")
    Select(p.one("[name=lang]")).select_by_value("en")
    p.press("保存")
    until("English", lambda: p.text("h1") == "Account")
