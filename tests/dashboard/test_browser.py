"""A person's path through every page, in a real browser, on a real service; each page leaves a screenshot."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.conftest import free_port, wait_until
from tests.dashboard.seed import Seed
from tests.dashboard.test_data_page import add_dataset
from tunescope import Client

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).parents[2] / ".artifacts" / "screenshots"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
# Pages that are looked at as on a phone too, on the way, without opening them anew.
ON_A_PHONE_TOO = {
    "home", "runs", "run", "sweep", "compare", "compare-groups", "compare-what-matters", "evaluations", "evaluation",
    "evaluations-compared", "evaluation-confusion", "evaluation-calibration", "data", "forgetting", "audit", "stages",
    "experiments", "experiment", "model", "review-pairwise", "review-result", "review-rating",
}  # fmt: skip
FITTED = """() => [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(chart => {
    const [drawn, given] = [chart.querySelector('.main-svg'), chart].map(one => one?.getBoundingClientRect().width);
    return drawn === undefined || (drawn > 0.9 * given && drawn < given + 2);
})"""
# Streamlit asks for these two below the page's own path before it asks at the root: its way of finding where it is.
PROBED = ("/_stcore/health", "/_stcore/host-config")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium at {CHROMIUM}: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def dashboard_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard") / "log"


@pytest.fixture(scope="module")
def dashboard_url(live_service: str, dashboard_log: Path) -> Iterator[str]:
    """The dashboard in a process of its own, by the command that a person types."""
    port = free_port()
    command = [sys.executable, "-m", "tunescope", "dashboard", "--port", str(port), "--url", live_service]
    with dashboard_log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=dashboard_log.parent)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/_stcore/health"), seconds=60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return bool(httpx2.get(url).status_code == 200)
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """What the tabs of a module's tests share, as a person's do: the dashboard's scripts are fetched and read once."""
    opened = browser.new_context(viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    yield opened
    opened.close()


class Visitor:
    """A browser tab that notes what goes wrong in it."""

    def __init__(self, page: Page, url: str, suffix: str = "") -> None:
        self.page = page
        self.url = url
        self.suffix = suffix
        self.complaints: list[str] = []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text, message.location.get("url", "")))

    def _note(self, kind: str, text: str, url: str) -> None:
        if kind == "error" and not url.endswith(PROBED):
            self.complaints.append(f"{text} ({url})")

    def open(self, path: str, title: str) -> None:
        self.page.goto(self.url + path)
        self.arrived(title)

    def arrived(self, title: str) -> None:
        """The page with this title is there, drawn to its end, without an error box."""
        self.page.get_by_role("heading", name=title, level=1).wait_for()
        self.settled()

    def settled(self) -> None:
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        assert self.page.locator("[data-testid=stException]").all_inner_texts() == []
        assert self.complaints == []

    def keep(self, name: str) -> None:
        """A screenshot of the whole page; nothing may stick out sideways."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        size = self.page.viewport_size
        assert size is not None
        self._shoot(name + self.suffix, size["width"], size["height"])
        if not self.suffix and name in ON_A_PHONE_TOO:
            self.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
            # The menu at the side goes away by itself, sliding.
            self.page.wait_for_function("document.querySelector('[data-testid=stMain]').clientWidth === innerWidth")
            self._shoot(f"{name}-phone", PHONE["width"], PHONE["height"])
        self.page.set_viewport_size(size)
        # What was drawn for the phone is drawn anew: a click before that is lost.
        self.page.wait_for_function(FITTED)
        self.settled()

    def _shoot(self, name: str, width: int, least: int) -> None:
        height = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
        self.page.set_viewport_size({"width": width, "height": min(max(least, height), 4000)})
        self.settled()
        # Parts that the browser fetches when it first needs them hold a grey place until then.
        self.page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width

    def main(self, text: str, *, exact: bool = True) -> Locator:
        return self.page.locator("[data-testid=stMain]").get_by_text(text, exact=exact).first

    def follow(self, label: str | re.Pattern[str]) -> None:
        """Click the link with this label in the page's main part."""
        self.page.locator("[data-testid=stMain] [data-testid=stPageLink-NavLink]").filter(has_text=label).first.click()

    def navigate(self, name: str) -> None:
        self.page.locator("[data-testid=stSidebarNavLink]").filter(has_text=name).click()
        self.arrived(name)

    def cell(self, table: str, row: int, x: int) -> None:
        """Click into a table's row (from 0), `x` pixels from its left edge."""
        frame = self.page.locator(f".st-key-table-{table} [data-testid=stDataFrame]")
        frame.wait_for()
        self.settled()  # what the click before has done may move the table
        box = frame.bounding_box()
        assert box is not None
        self.page.mouse.click(box["x"] + x, box["y"] + 34 + 34 * row + 17)


@pytest.fixture
def visitor(profile: BrowserContext, dashboard_url: str, record: Seed) -> Iterator[Visitor]:
    page = profile.new_page()
    yield Visitor(page, dashboard_url)
    page.close()


def test_from_the_runs_to_a_comparison_and_into_a_run(visitor: Visitor, record: Seed) -> None:
    visitor.open("/", "Home")
    visitor.main("rate-too-high").wait_for()
    visitor.keep("home")
    visitor.navigate("Runs")
    search = visitor.page.get_by_role("textbox", name="Search")
    search.fill("params.method = lora and status = finished order by metrics.eval/accuracy desc")
    search.press("Enter")
    visitor.page.wait_for_url(re.compile("q=params"))
    visitor.settled()
    for row in (0, 1):
        visitor.cell("runs", row, 18)
    visitor.page.get_by_text("2 runs selected").wait_for()
    visitor.keep("runs")
    visitor.page.get_by_role("button", name="Compare").click()
    visitor.arrived("Compare")
    assert visitor.page.locator(".ts-verdict").count() == 2
    visitor.keep("compare")
    visitor.follow("lora-r64")
    visitor.arrived("lora-r64")
    assert f"id={record.runs['lora-r64']}" in visitor.page.url
    visitor.page.locator(".js-plotly-plot").nth(3).wait_for()
    visitor.keep("run")
    for view in ("System", "Console", "Config", "Results", "Artifacts", "Environment"):
        visitor.page.get_by_role("tab", name=view).click()
        visitor.page.wait_for_url(re.compile(f"view={view}"))
        visitor.settled()
        visitor.keep(f"run-{view.lower()}")
    # Within the page, the record's link to the data turns to another view.
    visitor.page.get_by_role("button", name=re.compile("data 4b1f7c29d3")).click()
    visitor.page.wait_for_url(re.compile("view=Config"))
    visitor.main("learning_rate").wait_for()


def test_from_groups_of_runs_to_their_mean_curves_and_what_matters(visitor: Visitor, record: Seed) -> None:
    visitor.open(f"/runs?project={record.project}-sweep&group=params.learning_rate", "Runs")
    visitor.keep("runs-grouped")
    for row in range(3):
        visitor.cell("run-groups", row, 18)
    visitor.page.get_by_text("18 runs selected").wait_for()
    visitor.page.get_by_role("button", name="Compare").click()
    visitor.arrived("Compare")
    visitor.page.wait_for_url(re.compile("by=params.learning_rate"))
    visitor.page.locator(".ts-legend").nth(2).wait_for()
    visitor.page.locator(".js-plotly-plot .scatterlayer path.js-fill").first.wait_for(state="attached")
    visitor.keep("compare-groups")
    for view, part in (("Metrics", "table.ts-table td.best"), ("Settings", ".ts-mono"), ("What matters", ".parcoords")):
        visitor.page.get_by_role("tab", name=view).click()
        visitor.page.locator(part).first.wait_for()
        visitor.settled()
        visitor.keep(f"compare-{view.lower().replace(' ', '-')}")
    visitor.main("may be noise", exact=False).wait_for()


def test_from_a_sweep_to_its_best_run(visitor: Visitor, record: Seed) -> None:
    visitor.open("/sweeps", "Sweeps")
    visitor.keep("sweeps")
    visitor.open(f"/sweeps?of=sweep:rates&within={record.project}-sweep&objective=eval/accuracy", "rates")
    visitor.page.locator(".parcoords").first.wait_for()
    visitor.page.locator(".st-key-table-trials canvas").first.wait_for()
    visitor.keep("sweep")
    best = visitor.page.locator("[class*=st-key-verdict-blue-best]").get_by_role("link")
    name = best.inner_text().split()[-1]
    best.click()
    visitor.arrived(name)
    visitor.settled()


def test_a_name_in_the_table_opens_the_run(visitor: Visitor, record: Seed) -> None:
    visitor.open(f"/runs?project={record.project}&status=crashed", "Runs")
    visitor.cell("runs", 0, 60)
    visitor.arrived("rate-too-high")
    assert visitor.page.url.endswith(f"/run?id={record.runs['rate-too-high']}")
    visitor.page.get_by_text("Traceback and last lines").click()
    visitor.page.get_by_text('File "train.py", line 88').wait_for()
    visitor.keep("run-crashed")


def test_a_click_on_a_confusion_cell_shows_its_items(visitor: Visitor, record: Seed) -> None:
    visitor.open(f"/evaluations?suite={record.intents}", "Evaluations")
    visitor.keep("evaluations")
    visitor.cell("evaluations", 2, 60)
    visitor.arrived(f"lora-r16, step 1,200 on {record.intents} v1")
    visitor.keep("evaluation")
    visitor.page.get_by_role("tab", name="Confusion").click()
    points = visitor.page.locator(".scatterlayer .point")
    points.first.wait_for()
    visitor.keep("evaluation-confusion")
    points.nth(1).click(force=True)
    visitor.page.wait_for_url(re.compile("predicted="))
    visitor.settled()
    true, predicted = (re.search(f"{name}=([a-z_]+)", visitor.page.url) for name in ("true", "predicted"))
    assert true is not None
    assert predicted is not None
    rows = visitor.page.locator("table.ts-table tbody tr").filter(has_text="intent-")
    rows.first.wait_for()
    assert rows.count() > 0
    assert all(true[1] in rows.nth(i).inner_text() for i in range(rows.count()))
    assert all(predicted[1] in rows.nth(i).inner_text() for i in range(rows.count()))
    for view in ("Slices", "Flips"):
        visitor.page.get_by_role("tab", name=view).click()
        visitor.settled()
        visitor.keep(f"evaluation-{view.lower()}")
    visitor.page.get_by_role("tab", name="Calibration").click()
    visitor.main("No calibration curve").wait_for()


def test_two_ticked_evaluations_show_what_flipped(visitor: Visitor, record: Seed, live_service: str) -> None:
    with Client(live_service) as api:
        listed = [one["id"] for one in api.list_evaluations(suite=record.general)["items"]]
    visitor.open(f"/evaluations?suite={record.general}", "Evaluations")
    for name in ("full", "base"):
        visitor.cell("evaluations", listed.index(record.evaluations[name, record.general]), 18)
    visitor.page.get_by_role("button", name="See what flipped").click()
    visitor.arrived(f"full, step 1,200 on {record.general} v1")
    visitor.main(f"full is worse than base on {record.general}", exact=False).wait_for()
    visitor.page.locator(".ts-item").first.wait_for()
    assert f"versus={record.evaluations['base', record.general]}" in visitor.page.evaluate("location.href")
    visitor.follow("All evaluations")
    visitor.arrived("Evaluations")
    visitor.open(f"/evaluations?suite={record.general}", "Evaluations")
    for name in ("full", "lora-r64", "base"):
        visitor.cell("evaluations", listed.index(record.evaluations[name, record.general]), 18)
    visitor.page.get_by_role("button", name="Compare").click()
    visitor.arrived(f"3 evaluations on {record.general} v1")
    visitor.main("2 comparisons; the verdict goes by p after Holm", exact=False).wait_for()
    assert visitor.page.locator(".ts-verdict").count() == 2
    visitor.keep("evaluations-compared")
    visitor.open(f"/evaluations?id={record.evaluations['lora-r64', record.intents]}&tab=Calibration", "lora-r64")
    visitor.page.locator("[class*=st-key-chart-calibration] .main-svg").first.wait_for()
    visitor.keep("evaluation-calibration")


def test_from_the_readout_back_to_the_data(visitor: Visitor, record: Seed, live_service: str) -> None:
    """Readout → arm's model version → its evaluation → audit → run → config and data hash, by clicks alone."""
    with Client(live_service) as api:
        listed = api.list_experiments()["items"]
    listed.sort(key=lambda one: ("running", "paused", "stopped", "draft", "decided").index(one["status"]))
    visitor.open("/experiments", "Experiments")
    visitor.keep("experiments")
    visitor.cell("experiments", [one["key"] for one in listed].index(record.experiment), 60)
    visitor.arrived("Support bot: LoRA r=64 against r=16")
    visitor.page.locator(".js-plotly-plot").first.wait_for()
    visitor.keep("experiment")
    visitor.follow(f"{record.model} v3")
    visitor.arrived(record.model)
    visitor.keep("model")
    visitor.follow(re.compile(rf"^\s*\S*\s*{record.intents} \d"))
    visitor.arrived(f"lora-r64, step 1,200 on {record.intents} v1")
    visitor.follow(re.compile("audit: "))
    visitor.arrived("Forgetting audit of lora-r64")
    visitor.keep("audit")
    visitor.follow(re.compile(r"^\s*\S*\s*lora-r64$"))
    visitor.arrived("lora-r64")
    visitor.page.get_by_role("button", name=re.compile("data 4b1f7c29d3")).click()
    visitor.page.wait_for_url(re.compile("view=Config"))
    visitor.main("sha256:4b1f7c29d3e8a101").wait_for()
    visitor.main("learning_rate").wait_for()
    visitor.settled()


def test_the_verdict_list_leads_to_a_failed_audit(visitor: Visitor, record: Seed) -> None:
    visitor.open("/forgetting?verdict=fail", "Forgetting")
    visitor.page.locator(".js-plotly-plot").first.wait_for()
    visitor.keep("forgetting")
    visitor.cell("audits", 0, 22)
    visitor.arrived("Forgetting audit of full")
    visitor.main("What usually helps").wait_for()
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("button", name="Markdown").click()
    assert "FAIL" in Path(download.value.path()).read_text()
    visitor.keep("audit-failed")


def test_a_waiver_is_written_from_the_page(visitor: Visitor, record: Seed, live_service: str) -> None:
    audit = record.audits["full"]
    visitor.open(f"/forgetting?id={audit}", "Forgetting audit of full")
    visitor.page.get_by_role("button", name="Waive", exact=True).first.click()
    visitor.page.get_by_label("Who answers for it").fill("Grace Hopper")
    visitor.page.get_by_label("Why").fill("A demonstration only.")
    visitor.keep("audit-waive")
    visitor.page.locator("[class*=st-key-waive-do] button").click()
    visitor.main("A demonstration only.").wait_for()
    visitor.settled()
    with Client(live_service) as api:
        (waiver,) = [one for one in api.list_waivers(audit)["items"] if one["state"] == "valid"]
        api.revoke_waiver(audit, waiver["id"], who="Grace Hopper", why="It is over.")


def test_a_sequence_of_fine_tunes_is_a_matrix(visitor: Visitor, record: Seed) -> None:
    stages = "".join(f"&stages=version:{record.versions[name]}" for name in ("lora-r16", "lora-r64", "full"))
    suites = "".join(f"&suites={suite}" for suite in (record.intents, record.general))
    visitor.open(f"/forgetting?part=Stages&base=version:{record.versions['base']}{stages}{suites}", "Forgetting")
    visitor.page.locator(".js-plotly-plot .heatmaplayer").first.wait_for()
    visitor.main("say which suite each stage was trained for", exact=False).wait_for()
    visitor.keep("stages")
    visitor.open(
        f"/forgetting?part=Stages&base=version:{record.versions['base']}"
        f"&stages=version:{record.versions['lora-r16']}&stages=version:{record.versions['full']}{suites}",
        "Forgetting",
    )
    visitor.main("Riemer et al. 2019").wait_for()
    visitor.keep("stages-scored")


def test_a_chart_gives_its_data(visitor: Visitor, record: Seed) -> None:
    visitor.open(f"/run?id={record.runs['full']}", "full")
    chart = visitor.page.locator("[class*=st-key-chart-curve-loss]")
    chart.get_by_role("button", name="CSV").click()
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("button", name="Download").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "run_id,key,step,value,min,max"
    assert sum(",train/loss," in line for line in lines) == 240
    assert sum(",eval/loss," in line for line in lines) == 24


def test_pausing_an_experiment_asks_and_then_does(visitor: Visitor, record: Seed, live_service: str) -> None:
    with Client(live_service) as api:
        if api.get_experiment(record.draft)["status"] == "draft":
            api.start_experiment(record.draft)
        visitor.open(f"/experiments?key={record.draft}", "A shorter prompt")
        visitor.page.get_by_role("button", name="Pause").click()
        yes = visitor.page.get_by_role("button", name="Yes, pause")
        yes.wait_for()
        # The page refreshes itself every five seconds; the question stays.
        visitor.page.wait_for_timeout(7_000)
        assert api.get_experiment(record.draft)["status"] == "running"
        yes.click()
        visitor.page.get_by_role("button", name="Start").wait_for()
        assert api.get_experiment(record.draft)["status"] == "paused"
    visitor.settled()


def test_a_running_run_moves_by_itself(visitor: Visitor, record: Seed, live_service: str) -> None:
    with Client(live_service) as api:
        api.update_run(record.runs["qlora-on"], status="running")
        visitor.open(f"/run?id={record.runs['qlora-on']}", "qlora-on")
        api.update_run(record.runs["qlora-on"], status="finished")
        visitor.page.locator("[data-testid=stMain]").get_by_text("finished").first.wait_for()
        visitor.settled()


@pytest.mark.parametrize(
    ("suffix", "width", "scheme"),
    [("-phone", 390, "light"), ("-dark", 1280, "dark")],
)
@pytest.mark.slow
def test_every_page_on_a_phone_and_in_the_dark(
    browser: Browser, dashboard_url: str, record: Seed, suffix: str, width: int, scheme: str
) -> None:
    height = 844 if width < 500 else 900
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
    )
    visitor = Visitor(page, dashboard_url, suffix)
    evaluation = record.evaluations["lora-r64", record.intents]
    ids = ",".join(record.runs[name] for name in ("lora-r16", "lora-r64", "full"))
    for name, path, title in (
        ("home", "/", "Home"),
        ("runs", "/runs", "Runs"),
        ("run", f"/run?id={record.runs['lora-r64']}", "lora-r64"),
        ("compare", f"/compare?ids={ids}", "Compare"),
        ("sweep", f"/sweeps?of=sweep:rates&within={record.project}-sweep", "rates"),
        ("compare-groups", f"/compare?ids={','.join(record.sweep)}&view=Curves&by=seed", "Compare"),
        ("compare-what-matters", f"/compare?ids={','.join(record.sweep)}&view=What+matters", "Compare"),
        ("evaluations", f"/evaluations?suite={record.intents}", "Evaluations"),
        ("evaluation-calibration", f"/evaluations?id={evaluation}&tab=Calibration", "lora-r64, step 1,200"),
        ("evaluation-confusion", f"/evaluations?id={evaluation}&tab=Confusion", "lora-r64, step 1,200"),
        ("data", "/data", "Data"),
        ("forgetting", "/forgetting", "Forgetting"),
        ("audit", f"/forgetting?id={record.audits['full']}", "Forgetting audit of full"),
        (
            "stages",
            f"/forgetting?part=Stages&stages=version:{record.versions['lora-r16']}&suites={record.general}",
            "Forgetting",
        ),
        ("experiments", "/experiments", "Experiments"),
        ("experiment", f"/experiments?key={record.experiment}", "Support bot"),
        ("model", f"/models?name={record.model}&version=2", record.model),
    ):
        visitor.open(path, title)
        visitor.keep(name)
    page.close()


def test_the_command_says_where_it_is(live_service: str, dashboard_url: str, dashboard_log: Path) -> None:
    """`tunescope dashboard`: one line with the address, and the service it shows."""
    said = dashboard_log.read_text()
    assert dashboard_url.replace("127.0.0.1", "localhost") in said
    assert live_service in said
    assert "Network URL" not in said


def test_from_a_training_set_to_what_leaks_of_it(visitor: Visitor, record: Seed, live_service: str) -> None:
    dataset = add_dataset(live_service, "browser-train")
    visitor.open(f"/data?id={dataset}", "Data")
    visitor.page.locator(".js-plotly-plot").nth(1).wait_for()
    visitor.keep("data")
    for view, part in (
        ("Repeated", "mark, del.ts-diff"),
        ("Labels", "table.ts-table, .ts-empty"),
        ("Leakage", ".ts-facts"),
    ):
        visitor.page.get_by_role("tab", name=view).click()
        visitor.page.wait_for_url(re.compile(f"tab={view}"))
        visitor.page.locator(part).first.wait_for()
        visitor.settled()
        visitor.keep(f"data-{view.lower()}")
    visitor.page.get_by_role("combobox", name="Tested on").click()
    visitor.page.get_by_role("option", name=re.compile(record.intents)).click()
    visitor.main("1 of 420 test items (0.2 %) are in the training set", exact=False).wait_for()
    visitor.page.locator("[class*=st-key-csv-leaked]").get_by_role("button", name="CSV").click()
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("button", name="Download").click()
    assert "intent-lost_card-3" in Path(download.value.path()).read_text()
    visitor.follow("lora-r64")
    visitor.arrived("lora-r64")


def test_a_winner_is_rolled_out_and_halted_by_hand(visitor: Visitor, live_service: str) -> None:
    key, page = "browser-rollout", visitor.page
    with Client(live_service) as api:
        api.create_experiment(
            key=key, name="By hand", variants=[{"key": name, "weight": 1} for name in ("base", "tuned")]
        )
        api.start_experiment(key)
        api.stop_experiment(key)
        visitor.open(f"/experiments?key={key}", "By hand")
        page.get_by_role("button", name="Decide").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("tuned", exact=True).click()
        dialog.get_by_text("Roll it out by steps").wait_for()
        dialog.get_by_label("Why").fill("users prefer it")
        dialog.get_by_label("Why").press("Control+Enter")
        dialog.get_by_role("button", name="Record the decision").click()
        visitor.main("5 % of users get tuned, the others base", exact=False).wait_for()
        visitor.settled()
        visitor.keep("rollout")
        page.get_by_role("button", name="Halt").click()
        dialog.get_by_label("Why").fill("complaints")
        dialog.get_by_label("Why").press("Control+Enter")
        dialog.get_by_role("button", name="Yes, halt").click()
        visitor.main("halted at 5 %: everybody gets base again", exact=False).wait_for()
        assert api.get_experiment(key)["rollout"]["reason"] == "complaints"
    visitor.settled()
