"""`run.log_artifact(..., aliases=[...])` and `run.use_artifact("model:best")`, from a journal and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import tunescope
from tests.conftest import LiveService
from tunescope import ApiError, Client, TunescopeError
from tunescope._sync import sync


def start(url: str, project: str = "artifacts", **options: Any) -> tunescope.Run:
    return tunescope.init(project=project, url=url, system_interval=None, git_diff=False, quiet=True, **options)


def checkpoint(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (folder / "ckpt" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "ckpt" / name).write_bytes(content)
    return folder / "ckpt"


def test_from_one_run_to_the_next(live_service: str, api: Client, tmp_path: Path) -> None:
    weights = os.urandom(100_000)
    made = start(live_service, name="made")
    made.log_artifact(checkpoint(tmp_path, config=b"{}", weights=b"first"), "model", aliases=[])
    made.log_artifact(checkpoint(tmp_path, weights=weights), "model", "model", aliases=["best"], about={"f1": 0.5})
    made.log_artifact(tmp_path / "ckpt" / "config", "data/rows", "dataset", aliases="raw")
    made.log_artifact(b"plain", "plain")
    assert made.finish().left == 0
    versions = api.artifact_versions("artifacts", "model")["items"]
    assert [(one["version"], one["aliases"], one["about"]) for one in versions] == [
        (2, ["latest", "best"], {"f1": 0.5}),
        (1, [], {}),
    ]
    used = start(live_service, name="used")
    model = used.use_artifact("model:best")
    assert (model.name, model.version, model.files) == ("model", 2, ["config", "weights"])
    folder = model.download(tmp_path / "there")
    assert ((folder / "weights").read_bytes(), (folder / "config").read_bytes()) == (weights, b"{}")
    assert used.use_artifact("data/rows").files == ["config"]
    assert used.use_artifact("model:v1").version == 1
    used.finish()
    links = api.run_links(used.id)
    assert [(one["name"], one["version"]) for one in links["artifacts_used"]] == [
        ("data/rows", 1), ("model", 2), ("model", 1),
    ]  # fmt: skip
    assert [run["name"] for run in api.find_artifact_version("artifacts", "model", "best")["used_by"]] == ["used"]
    assert {one["path"] for one in api.list_artifacts(made.id)["items"]} >= {"model/weights", "data/rows", "plain"}
    assert {one["name"] for one in api.list_artifact_collections("artifacts")["items"]} == {"model", "data/rows"}


def test_what_is_there_is_not_fetched_again(live_service: str, api: Client, tmp_path: Path, journals: Path) -> None:
    run = start(live_service, "artifacts again")
    run.log_artifact(checkpoint(tmp_path, a=b"1", b=b"2"), "model", aliases=["best"])
    run.finish()
    version = api.find_artifact_version("artifacts again", "model")
    used = start(live_service, "artifacts again").use_artifact("model")
    folder = used.download()
    assert folder == journals / "artifacts" / version["id"]
    (folder / "a").write_bytes(b"spoilt")
    before = (folder / "b").stat().st_mtime_ns
    assert used.download() == folder
    assert ((folder / "a").read_bytes(), (folder / "b").stat().st_mtime_ns) == (b"1", before)
    assert sorted(file.name for file in folder.iterdir()) == ["a", "b"]


def test_aliases_and_versions_by_hand(live_service: str, api: Client) -> None:
    run = start(live_service, "artifact aliases")
    for content in (b"1", b"2"):
        run.log_artifact(content, "file.txt", aliases=["new"])
    run.finish()
    api.set_artifact_alias("artifact aliases", "file.txt", "champion", 1)
    assert start(live_service, "artifact aliases").use_artifact("file.txt:champion").version == 1
    api.delete_artifact_alias("artifact aliases", "file.txt", "champion")
    with pytest.raises(ApiError, match="has no version 'champion'"):
        start(live_service, "artifact aliases").use_artifact("file.txt:champion")


def test_offline_it_comes_later(live: LiveService, tmp_path: Path, journals: Path) -> None:
    run = start(live.url, mode="offline")
    run.log_artifact(checkpoint(tmp_path, a=b"1"), "model", aliases=["best"])
    with pytest.raises(TunescopeError, match="asks the service"):
        run.use_artifact("model")
    run.finish()
    with Client(live.url) as client:
        for _ in range(2):
            assert all(done.problem is None for done in sync(journals, client))
        assert client.find_artifact_version("artifacts", "model", "best")["version"] == 1


@pytest.mark.parametrize(("name", "alias"), [("a:b", "best"), ("a", "latest"), ("a", "v3"), ("a", "x y"), ("a", "")])
def test_what_the_service_would_refuse_is_said_at_once(live_service: str, name: str, alias: str) -> None:
    run = start(live_service, "refused artifacts")
    with pytest.raises(TunescopeError):
        run.log_artifact(b"1", name, aliases=[alias])
    assert run.finish().left == 0


def test_a_disabled_run_and_a_finished_one_keep_nothing(live_service: str) -> None:
    disabled = tunescope.init(mode="disabled")
    disabled.log_artifact(b"1", "a", aliases=[])
    with pytest.raises(TunescopeError, match="offline or disabled"):
        disabled.use_artifact("a")
    run = start(live_service, "finished artifacts")
    run.finish()
    run.log_artifact(b"1", "a", aliases=[])
