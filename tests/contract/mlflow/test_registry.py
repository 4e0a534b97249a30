"""The registry through the real client: models, versions, aliases, stages, prompts; and one registry for both APIs."""

from __future__ import annotations

import uuid

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from tunescope import ApiError, Client


@pytest.fixture
def name() -> str:
    return f"model-{uuid.uuid4().hex}"


def test_a_model_lives_and_dies(mlflow_client: mlflow.MlflowClient, name: str) -> None:
    made = mlflow_client.create_registered_model(name, tags={"team": "nlp"}, description="answers mail")
    assert (made.name, made.tags, made.description) == (name, {"team": "nlp"}, "answers mail")
    assert made.creation_timestamp == made.last_updated_timestamp > 1.6e12
    mlflow_client.set_registered_model_tag(name, "task", "chat")
    mlflow_client.delete_registered_model_tag(name, "team")
    assert mlflow_client.update_registered_model(name, "better").description == "better"
    read = mlflow_client.get_registered_model(name)
    assert (read.tags, read.description, read.latest_versions) == ({"task": "chat"}, "better", [])
    mlflow_client.rename_registered_model(name, f"{name}-2")
    renamed = mlflow_client.get_registered_model(f"{name}-2")
    assert (renamed.name, renamed.tags) == (f"{name}-2", {"task": "chat"})
    mlflow_client.delete_registered_model(f"{name}-2")
    with pytest.raises(MlflowException, match="not found") as gone:
        mlflow_client.get_registered_model(f"{name}-2")
    assert gone.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    mlflow_client.create_registered_model(name)
    with pytest.raises(MlflowException, match="already exists") as taken:
        mlflow_client.create_registered_model(name)
    assert taken.value.error_code == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.filterwarnings("ignore:.*Model registry stages:FutureWarning")  # so the client says of stages
def test_versions_stages_and_aliases(mlflow_client: mlflow.MlflowClient, experiment: str, name: str) -> None:
    run = mlflow_client.create_run(experiment).info
    mlflow_client.create_registered_model(name)
    first = mlflow_client.create_model_version(
        name, f"{run.artifact_uri}/model", run.run_id, tags={"bits": "4"}, description="first", run_link="http://run"
    )
    assert (first.version, first.run_id, first.run_link, first.tags) == ("1", run.run_id, "http://run", {"bits": "4"})
    assert (first.status, first.current_stage, first.description) == ("READY", "None", "first")
    for number in ("2", "3"):
        made = mlflow_client.create_model_version(name, f"runs:/{run.run_id}/model", run.run_id)
        assert made.version == number
    assert mlflow_client.get_model_version_download_uri(name, "1") == f"{run.artifact_uri}/model"
    mlflow_client.set_model_version_tag(name, "1", "judged", "yes")
    mlflow_client.delete_model_version_tag(name, "1", "bits")
    mlflow_client.update_model_version(name, "1", "best so far")
    mlflow_client.set_registered_model_alias(name, "champion", "1")
    mlflow_client.set_registered_model_alias(name, "candidate", "3")
    read = mlflow_client.get_model_version_by_alias(name, "champion")
    assert (read.version, read.tags, read.description, read.aliases) == (
        "1", {"judged": "yes"}, "best so far", ["champion"],
    )  # fmt: skip
    mlflow_client.transition_model_version_stage(name, "1", "production")
    mlflow_client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
    latest = {version.current_stage: version.version for version in mlflow_client.get_latest_versions(name)}
    assert latest == {"Archived": "1", "Production": "2", "None": "3"}
    assert mlflow_client.get_model_version_by_alias(name, "latest").version == "3"
    mlflow_client.delete_registered_model_alias(name, "champion")
    assert mlflow_client.get_registered_model(name).aliases == {"candidate": "3"}
    mlflow_client.delete_model_version(name, "3")
    assert mlflow_client.get_registered_model(name).aliases == {}
    assert mlflow_client.create_model_version(name, f"runs:/{run.run_id}/model", run.run_id).version == "4"
    found = mlflow_client.search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])
    assert [version.version for version in found] == ["1", "2", "4"]


def test_searches_are_paged(mlflow_client: mlflow.MlflowClient, name: str) -> None:
    for number in range(5):
        mlflow_client.create_registered_model(f"{name}-{number}", tags={"number": str(number % 2)})
    found, token = [], None
    while True:
        page = mlflow_client.search_registered_models(f"name LIKE '{name}%'", max_results=2, page_token=token)
        found += [model.name for model in page]
        token = page.token
        if not token:
            break
    assert found == [f"{name}-{number}" for number in range(5)]
    odd = mlflow_client.search_registered_models(f"name LIKE '{name}%' and tags.number = '1'", order_by=["name DESC"])
    assert [model.name for model in odd] == [f"{name}-3", f"{name}-1"]


def test_a_version_is_copied_to_another_model(mlflow_client: mlflow.MlflowClient, experiment: str, name: str) -> None:
    run = mlflow_client.create_run(experiment).info
    mlflow_client.create_registered_model(name)
    mlflow_client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
    mlflow_client.set_registered_model_alias(name, "champion", "1")
    copy = mlflow_client.copy_model_version(f"models:/{name}@champion", f"{name}-copy")
    assert (copy.version, copy.source, copy.run_id) == ("1", f"models:/{name}/1", run.run_id)
    # Where its files are is known even when the first model is called something else.
    mlflow_client.rename_registered_model(name, f"{name}-renamed")
    assert mlflow_client.get_model_version_download_uri(f"{name}-copy", "1") == f"{run.artifact_uri}/model"


def test_prompts(uri: str, mlflow_client: mlflow.MlflowClient, name: str) -> None:
    first = mlflow.genai.register_prompt(
        name, "Greet {{name}}.", commit_message="first", tags={"tone": "plain"}, model_config={"temperature": 0.1}
    )
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Greet {{name}}."}]
    second = mlflow.genai.register_prompt(name, chat, response_format={"type": "object"})
    assert (first.version, second.version) == (1, 2)
    read = mlflow.genai.load_prompt(name, version=1)
    assert (read.template, read.commit_message, read.tags) == ("Greet {{name}}.", "first", {"tone": "plain"})
    assert read.format(name="Ada") == "Greet Ada."
    assert mlflow.genai.load_prompt(f"prompts:/{name}@latest").template == chat
    mlflow.genai.set_prompt_alias(name, "production", 1)
    assert mlflow.genai.load_prompt(f"prompts:/{name}@production").version == 1
    mlflow.genai.delete_prompt_alias(name, "production")
    assert mlflow.genai.load_prompt(f"prompts:/{name}@production", allow_missing=True) is None
    mlflow.genai.set_prompt_version_tag(name, 2, "reviewed", "yes")
    assert mlflow.genai.load_prompt(name, version=2).tags["reviewed"] == "yes"
    assert [prompt.name for prompt in mlflow.genai.search_prompts(f"name = '{name}'")] == [name]
    assert [version.version for version in mlflow_client.search_prompt_versions(name)] == [2, 1]
    # A prompt is no model: neither side's list of models shows it, and its name is taken.
    assert mlflow_client.search_registered_models(f"name = '{name}'") == []
    assert mlflow_client.search_model_versions(f"name = '{name}'") == []
    with Client(uri) as native:
        assert name not in [model["name"] for model in native.list_models()["items"]]
        assert name in [model["name"] for model in native.list_models(prompts=True)["items"]]
    with pytest.raises(MlflowException, match="already taken by a prompt"):
        mlflow_client.create_registered_model(name)
    mlflow_client.delete_prompt_version(name, "1")
    mlflow_client.delete_prompt_version(name, "2")
    mlflow_client.delete_prompt(name)
    assert mlflow.genai.load_prompt(name, version=1, allow_missing=True) is None


def test_what_one_api_registers_the_other_shows(uri: str, mlflow_client: mlflow.MlflowClient, name: str) -> None:
    with Client(uri) as native:
        run = native.create_run(project=f"project-{name}")["id"]
        made = native.register_model(
            name, run_id=run, source="/checkpoints/last", method="lora", description="d", aliases=["champion"]
        )
        seen = mlflow_client.get_model_version_by_alias(name, "champion")
        assert (seen.version, seen.run_id, seen.source, seen.description) == ("1", run, "/checkpoints/last", "d")
        assert mlflow_client.get_registered_model(name).aliases == {"champion": "1"}
        assert [v.version for v in mlflow_client.search_model_versions(f"run_id = '{run}'")] == ["1"]

        mlflow_client.create_model_version(name, "s3://bucket/model", run, tags={"bits": "4"}, description="second")
        mlflow_client.set_registered_model_alias(name, "champion", "2")
        mlflow_client.set_registered_model_tag(name, "team", "nlp")
        newest, oldest = native.model_versions(name)["items"]
        assert (newest["version"], newest["run_id"], newest["source"]) == (2, run, "s3://bucket/model")
        assert (newest["tags"], newest["description"]) == ({"bits": "4"}, "second")
        assert (newest["aliases"], oldest["aliases"], oldest["id"]) == (["champion"], [], made["id"])
        assert native.get_alias(name, "champion")["version"] == 2
        assert native.get_model(name)["tags"] == {"team": "nlp"}
        assert [v["version"] for v in native.run_links(run)["model_versions"]] == [2, 1]

        native.update_model_version(newest["id"], tags={"bits": None, "judged": "yes"}, description="better")
        native.update_model(name, description="all of it", tags={"team": None})
        seen = mlflow_client.get_model_version(name, "2")
        assert (seen.tags, seen.description) == ({"judged": "yes"}, "better")
        read = mlflow_client.get_registered_model(name)
        assert (read.description, read.tags) == ("all of it", {})
        native.delete_alias(name, "champion")
        assert mlflow_client.get_registered_model(name).aliases == {}

        mlflow_client.delete_model_version(name, "2")
        assert native.get_model_version(newest["id"])["deleted_at"] is not None
        native.delete_model_version(made["id"])
        assert mlflow_client.search_model_versions(f"name = '{name}'") == []
        native.update_model(name, name=f"{name}-2")
        assert mlflow_client.get_registered_model(f"{name}-2").name == f"{name}-2"
        native.delete_model(f"{name}-2")
        assert mlflow_client.search_registered_models(f"name LIKE '{name}%'") == []
        with pytest.raises(ApiError, match="not found"):
            native.get_model(name)
