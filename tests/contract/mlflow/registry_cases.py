"""Calls to the registry, one after another, and what MLflow answers; then searches among what they made.

`test_registry_calls.py` asks this service on both databases; `test_registry_parity.py` asks a real MLflow server the
same, so that the expectations here are MLflow's and not ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Verb, path below /api/2.0/mlflow and fields (the query of a GET, else the body); return status and JSON.
Ask = Callable[[str, str, dict[str, Any]], tuple[int, dict[str, Any]]]

PROMPT = "mlflow.prompt.is_prompt"
IS_PROMPT = [{"key": PROMPT, "value": "true"}]
MODEL, VERSION = "registered-models", "model-versions"
OK = ""
BAD, TAKEN, GONE = "400 INVALID_PARAMETER_VALUE", "400 RESOURCE_ALREADY_EXISTS", "404 RESOURCE_DOES_NOT_EXIST"
HINT = " See the API docs for more information about request parameters."


def missing(name: str) -> str:
    return f"{BAD} Missing value for required parameter '{name}'.{HINT}"


def no_model(name: str) -> str:
    return f"{GONE} Registered Model with name={name} not found"


def no_version(name: str, version: str) -> str:
    return f"{GONE} Model Version (name={name}, version={version}) not found"


def bad_source(source: str, why: str) -> str:
    return f"{BAD} Invalid model version source: '{source}'. {why}"


RUN_OWNS = "The run_id request parameter must identify the resource that contains the source."
MODEL_OWNS = RUN_OWNS.replace("run_id", "model_id")
NO_PATH = (
    "To use a local path as a model version source, the run_id request parameter has to be specified and the local "
    "path has to be contained within the artifact directory of the run specified by the run_id."
)
ONE_NAME = (
    "Tried to create a {} with name '{}', but the name is already taken by a {}. MLflow does not allow creating a "
    "model and a prompt with the same name."
)

# Each with the beginning of its refusal, or OK.
CALLS: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", f"{MODEL}/create", {"name": "a", "tags": [{"key": "k", "value": "v"}], "description": "d"}, OK),
    ("POST", f"{MODEL}/create", {"name": "a"}, f"{TAKEN} Registered Model (name=a) already exists."),
    (
        "POST",
        f"{MODEL}/create",
        {"name": "a", "tags": IS_PROMPT},
        f"{TAKEN} {ONE_NAME.format('prompt', 'a', 'registered model')}",
    ),
    ("POST", f"{MODEL}/create", {}, missing("name")),
    ("POST", f"{MODEL}/create", {"name": ""}, missing("name")),
    ("POST", f"{MODEL}/create", {"name": "  "}, f"{BAD} Missing value for required parameter 'name'."),
    (
        "POST",
        f"{MODEL}/create",
        {"name": 123},
        f"{BAD} Invalid value 123 for parameter 'name' supplied:  Hint: Value was",
    ),
    ("POST", f"{MODEL}/create", {"name": "a/b"}, f"{BAD} Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
    (
        "POST",
        f"{MODEL}/create",
        {"name": ".."},
        f"{BAD} Invalid value \"..\" for parameter 'name' supplied: Names may be",
    ),
    ("POST", f"{MODEL}/create", {"name": "x", "tags": [{"key": "k!", "value": "v"}]}, f'{BAD} Invalid value "k!" for'),
    (
        "POST",
        f"{MODEL}/create",
        {"name": "x", "tags": "no"},
        f"{BAD} Invalid value \"no\" for parameter 'tags' supplied",
    ),
    (
        "POST",
        f"{MODEL}/create",
        {"name": "x", "tags": [{"key": "k" * 251, "value": "v"}]},
        f"{BAD} 'key' exceeds the maximum length of 250 characters",
    ),
    (
        "POST",
        f"{MODEL}/create",
        {"name": "x", "tags": [{"key": "k", "value": "v" * 100_001}]},
        f"{BAD} 'value' exceeds the maximum length of 100000 characters",
    ),
    ("POST", f"{MODEL}/create", {"name": "b"}, OK),
    ("GET", f"{MODEL}/get", {"name": "zz"}, no_model("zz")),
    ("GET", f"{MODEL}/get", {}, missing("name")),
    ("PATCH", f"{MODEL}/update", {"name": "a", "description": "new"}, OK),
    ("PATCH", f"{MODEL}/update", {"name": "zz", "description": "new"}, no_model("zz")),
    ("POST", f"{MODEL}/rename", {"name": "a"}, missing("new_name")),
    ("POST", f"{MODEL}/rename", {"name": "a", "new_name": "b"}, f"{TAKEN} Registered Model (name=b) already exists."),
    ("POST", f"{MODEL}/rename", {"name": "a", "new_name": "b:c"}, f"{BAD} Invalid model name 'b:c'."),
    ("POST", f"{MODEL}/rename", {"name": "zz", "new_name": "q"}, no_model("zz")),
    ("POST", f"{MODEL}/set-tag", {"name": "a", "key": "t", "value": "1"}, OK),
    ("POST", f"{MODEL}/set-tag", {"name": "a", "key": "empty"}, OK),
    ("POST", f"{MODEL}/set-tag", {"name": "a", "value": "1"}, missing("key")),
    ("POST", f"{MODEL}/set-tag", {"name": "zz", "key": "t", "value": "1"}, no_model("zz")),
    ("DELETE", f"{MODEL}/delete-tag", {"name": "a", "key": "t"}, OK),
    ("DELETE", f"{MODEL}/delete-tag", {"name": "a", "key": "t"}, OK),
    ("DELETE", f"{MODEL}/delete-tag", {"name": "a"}, missing("key")),
    (
        "POST",
        f"{VERSION}/create",
        {
            "name": "a",
            "source": "s3://bucket/x",
            "tags": [{"key": "vk", "value": "vv"}],
            "run_id": "elsewhere",
            "run_link": "http://elsewhere/run",
            "description": "first",
        },
        OK,
    ),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "s3://bucket/y"}, OK),
    ("POST", f"{VERSION}/create", {"name": "zz", "source": "s3://bucket/x"}, no_model("zz")),
    ("POST", f"{VERSION}/create", {"name": "a"}, missing("source")),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "a/path"}, bad_source("a/path", NO_PATH)),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "/a/path"}, bad_source("/a/path", NO_PATH)),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "file:///a/path"}, bad_source("file:///a/path", NO_PATH)),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "dummy-source"}, bad_source("dummy-source", NO_PATH)),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "runs:/r/m"}, bad_source("runs:/r/m", RUN_OWNS)),
    (
        "POST",
        f"{VERSION}/create",
        {"name": "a", "source": "runs:/r/m", "run_id": "s"},
        bad_source("runs:/r/m", RUN_OWNS),
    ),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "runs:/r/m", "run_id": "r"}, OK),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "models:/a/1"}, OK),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "models:/a/99"}, no_version("a", "99")),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "models:/zz/1"}, no_model("zz")),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "models:/m-1"}, bad_source("models:/m-1", MODEL_OWNS)),
    (
        "POST",
        f"{VERSION}/create",
        {"name": "a", "source": "models:/a/1", "run_id": "other"},
        bad_source(
            "models:/a/1", "The run_id and model_id request parameters must match the referenced model version."
        ),
    ),
    (
        "POST",
        f"{VERSION}/create",
        {"name": "a", "source": "mlflow-artifacts:/0/r/artifacts/m"},
        bad_source("mlflow-artifacts:/0/r/artifacts/m", RUN_OWNS),
    ),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "s3://b/../x"}, bad_source("s3://b/../x", "If supplying a")),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "s3://b/%2e%2e/x"}, bad_source("s3://b/%2e%2e/x", "If ")),
    (
        "POST",
        f"{VERSION}/create",
        {"name": "a", "source": "s3://b/x", "model_id": "m-1"},
        f"{GONE} Logged model with ID 'm-1' not found.",
    ),
    ("POST", f"{VERSION}/create", {"name": "a", "source": "s3://b/x", "tags": [{"key": "k", "value": None}]}, OK),
    ("GET", f"{VERSION}/get", {"name": "a", "version": "1"}, OK),
    ("GET", f"{VERSION}/get", {"name": "a", "version": "x"}, f"{BAD} Parameter 'version' must be an integer, got 'x'."),
    ("GET", f"{VERSION}/get", {"name": "a", "version": "999"}, no_version("a", "999")),
    ("GET", f"{VERSION}/get", {"name": "zz", "version": "1"}, no_version("zz", "1")),
    ("GET", f"{VERSION}/get", {"name": "a"}, missing("version")),
    ("PATCH", f"{VERSION}/update", {"name": "a", "version": "1", "description": "better"}, OK),
    (
        "PATCH",
        f"{VERSION}/update",
        {"name": "a", "version": 1},
        f"{BAD} Invalid value 1 for parameter 'version' supplied",
    ),
    ("PATCH", f"{VERSION}/update", {"name": "a", "version": "99"}, no_version("a", "99")),
    ("POST", f"{VERSION}/set-tag", {"name": "a", "version": "1", "key": "t", "value": "1"}, OK),
    ("POST", f"{VERSION}/set-tag", {"name": "a", "version": "99", "key": "t", "value": "1"}, no_version("a", "99")),
    ("POST", f"{VERSION}/set-tag", {"name": "a", "version": "1", "value": "1"}, missing("key")),
    ("DELETE", f"{VERSION}/delete-tag", {"name": "a", "version": "1", "key": "t"}, OK),
    ("DELETE", f"{VERSION}/delete-tag", {"name": "a", "version": "1", "key": "never"}, OK),
    ("DELETE", f"{VERSION}/delete-tag", {"name": "a", "version": "99", "key": "t"}, no_version("a", "99")),
    ("POST", f"{MODEL}/alias", {"name": "a", "alias": "champion", "version": "1"}, OK),
    ("POST", f"{MODEL}/alias", {"name": "a", "alias": "other", "version": "1"}, OK),
    ("POST", f"{MODEL}/alias", {"name": "a", "alias": "champion", "version": "2"}, OK),
    ("POST", f"{MODEL}/alias", {"name": "a", "alias": "latest", "version": "2"}, f"{BAD} 'latest' alias name (case"),
    (
        "POST",
        f"{MODEL}/alias",
        {"name": "a", "alias": "V12", "version": "2"},
        f"{BAD} Version alias name 'V12' is reserved.",
    ),
    (
        "POST",
        f"{MODEL}/alias",
        {"name": "a", "alias": "a b", "version": "2"},
        f"{BAD} Invalid alias name: 'a b'. Names may",
    ),
    (
        "POST",
        f"{MODEL}/alias",
        {"name": "a", "alias": "x" * 256, "version": "2"},
        f"{BAD} 'Registered model alias name' exceeds the maximum length of 255 characters",
    ),
    ("POST", f"{MODEL}/alias", {"name": "a", "alias": "q", "version": "99"}, no_version("a", "99")),
    ("POST", f"{MODEL}/alias", {"name": "a", "alias": "q"}, missing("version")),
    ("GET", f"{MODEL}/alias", {"name": "a", "alias": "champion"}, OK),
    ("GET", f"{MODEL}/alias", {"name": "a", "alias": "Champion"}, f"{BAD} Registered model alias Champion not found."),
    ("GET", f"{MODEL}/alias", {"name": "a", "alias": "latest"}, OK),
    ("GET", f"{MODEL}/alias", {"name": "b", "alias": "latest"}, f"{GONE} Latest version not found for model b."),
    ("GET", f"{MODEL}/alias", {"name": "zz", "alias": "champion"}, no_model("zz")),
    ("DELETE", f"{MODEL}/alias", {"name": "a", "alias": "other"}, OK),
    ("DELETE", f"{MODEL}/alias", {"name": "a", "alias": "other"}, OK),
    ("DELETE", f"{MODEL}/alias", {"name": "zz", "alias": "other"}, no_model("zz")),
    ("POST", f"{VERSION}/transition-stage", {"name": "a", "version": "1", "stage": "production"}, OK),
    (
        "POST",
        f"{VERSION}/transition-stage",
        {"name": "a", "version": "2", "stage": "Production", "archive_existing_versions": True},
        OK,
    ),
    ("POST", f"{VERSION}/transition-stage", {"name": "a", "version": "2", "stage": "Staging"}, OK),
    (
        "POST",
        f"{VERSION}/transition-stage",
        {"name": "a", "version": "2", "stage": "weird"},
        f"{BAD} Invalid Model Version stage: weird. Value must be one of None, Staging, Production, Archived.",
    ),
    ("POST", f"{VERSION}/transition-stage", {"name": "a", "version": "2"}, missing("stage")),
    ("POST", f"{VERSION}/transition-stage", {"name": "a", "version": "99", "stage": "Staging"}, no_version("a", "99")),
    (
        "POST",
        f"{MODEL}/get-latest-versions",
        {"name": "a", "stages": ["weird"]},
        f"{BAD} Invalid Model Version stage: weird",
    ),
    ("POST", f"{MODEL}/get-latest-versions", {"name": "zz"}, no_model("zz")),
    ("GET", f"{VERSION}/get-download-uri", {"name": "a", "version": "99"}, no_version("a", "99")),
    ("POST", f"{MODEL}/create", {"name": "p", "tags": [*IS_PROMPT, {"key": "z", "value": "1"}]}, OK),
    (
        "POST",
        f"{VERSION}/create",
        {"name": "p", "source": "s3://x/y", "tags": IS_PROMPT},
        f"{BAD} Invalid prompt source: 's3://x/y'. Prompt sources must use an MLflow placeholder.",
    ),
    ("POST", f"{VERSION}/create", {"name": "p", "source": "dummy-source", "tags": IS_PROMPT}, OK),
    (
        "POST",
        f"{VERSION}/create",
        {
            "name": "p",
            "source": "dummy-source",
            "tags": [*IS_PROMPT, {"key": "mlflow.prompt.text", "value": "h" * 100_001}],
        },
        f"{BAD} Prompt text exceeds max length of 100000 characters.",
    ),
    ("POST", f"{MODEL}/create", {"name": "p"}, f"{TAKEN} {ONE_NAME.format('registered model', 'p', 'prompt')}"),
    (
        "POST",
        f"{VERSION}/create",
        {"name": "a", "source": "models:/p/1"},
        bad_source("models:/p/1", "Prompt versions cannot be used as model version sources."),
    ),
    ("POST", f"{MODEL}/create", {"name": "cc_x"}, OK),
    ("POST", f"{MODEL}/set-tag", {"name": "b", "key": "z", "value": "1"}, OK),
    ("POST", f"{MODEL}/set-tag", {"name": "a", "key": "z", "value": "2"}, OK),
]

# What is found then: names of models, or name/version.
MODELS: list[tuple[dict[str, Any], str]] = [
    ({}, "a b cc_x"),
    ({"filter": "name = 'a'"}, "a"),
    ({"filter": 'name = "a"'}, "a"),
    ({"filter": "attribute.name='a' AND"}, "a"),
    ({"filter": "name != 'a'"}, "b cc_x"),
    ({"filter": "name LIKE 'c__x'"}, "cc_x"),
    ({"filter": "name LIKE 'C%'"}, ""),
    ({"filter": "name ilike 'CC%'"}, "cc_x"),
    ({"filter": "name IN ('a','b')"}, "a b"),
    ({"filter": "name not in ('a')"}, "b cc_x"),
    ({"filter": "tags.z = '1'"}, "b"),
    ({"filter": "tag.z != '1'"}, "a"),
    ({"filter": "tags.`z` LIKE '%'"}, "a b"),
    ({"filter": "tags.z ilike '1' and name = 'b'"}, "b"),
    ({"filter": "tags.z = '2' AND tags.k = 'v'"}, "a"),
    ({"filter": "tags.z = '1' AND tags.z = '2'"}, ""),
    ({"filter": f"tag.`{PROMPT}` != 'true'"}, "a b cc_x"),
    ({"filter": f"tags.`{PROMPT}` = 'false'"}, "a b cc_x"),
    ({"filter": f"tags.`{PROMPT}` like 'tr%'"}, "a b cc_x"),
    ({"filter": f"tags.`{PROMPT}` = 'true'"}, "p"),
    ({"filter": f"tags.`{PROMPT}` != 'false'"}, "p"),
    ({"filter": f"tags.`{PROMPT}` = 'true' AND tags.z = '1'"}, "p"),
    ({"filter": f"tags.`{PROMPT}` = 'true' AND tags.z = '2'"}, ""),
    ({"order_by": ["name DESC"]}, "cc_x b a"),
    ({"order_by": ["timestamp"]}, "b a cc_x"),
    ({"order_by": ["last_updated_timestamp DESC"]}, "cc_x a b"),
    ({"order_by": ["timestamp asc", "name"]}, "b a cc_x"),
    ({"max_results": 0}, ""),
    ({"max_results": 1}, "a"),
    ({"max_results": 1, "page_token": "eyJvZmZzZXQiOiAxfQ=="}, "b"),
    ({"max_results": 1000}, "a b cc_x"),
]
ALL = "a/2 a/1 a/5 a/4 a/3"
VERSIONS: list[tuple[dict[str, Any], str]] = [
    ({}, ALL),
    ({"filter": "name = 'a'"}, ALL),
    ({"filter": "name='p'"}, ""),
    ({"filter": "name != 'a'"}, ""),
    ({"filter": "name ILIKE 'A'"}, ALL),
    ({"filter": "run_id = 'elsewhere'"}, "a/1 a/4"),
    ({"filter": "run_id IN ('elsewhere','r')"}, "a/1 a/4 a/3"),
    ({"filter": "run_id NOT IN ('elsewhere')"}, "a/2 a/5 a/3"),
    ({"filter": "run_id != 'elsewhere'"}, "a/2 a/5 a/3"),
    ({"filter": "source_path = 's3://bucket/x'"}, "a/1"),
    ({"filter": "source_path LIKE 's3%'"}, "a/2 a/1 a/5"),
    ({"filter": "version_number = 1"}, "a/1"),
    ({"filter": "version_number > 1"}, "a/2 a/5 a/4 a/3"),
    ({"filter": "version_number >= '5'"}, "a/5"),
    ({"filter": "tags.vk = 'vv'"}, "a/1"),
    ({"filter": "tags.vk != 'vv'"}, ""),
    ({"filter": "name = 'a' AND version_number = 1 AND tags.vk = 'vv'"}, "a/1"),
    ({"filter": f"tags.`{PROMPT}` = 'true'"}, "p/1"),
    ({"filter": f"tags.`{PROMPT}` != 'true'"}, ALL),
    ({"order_by": ["name DESC"]}, "a/5 a/4 a/3 a/2 a/1"),
    ({"order_by": ["version_number"]}, "a/1 a/2 a/3 a/4 a/5"),
    ({"order_by": ["creation_timestamp"]}, "a/1 a/2 a/3 a/4 a/5"),
    ({"order_by": ["last_updated_timestamp ASC"]}, "a/3 a/4 a/5 a/1 a/2"),
    ({"order_by": ["name", "version_number ASC"]}, "a/1 a/2 a/3 a/4 a/5"),
    ({"max_results": 2}, "a/2 a/1"),
    ({"max_results": 2, "page_token": "eyJvZmZzZXQiOiAxfQ=="}, "a/1 a/5"),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    *(
        (MODEL, {"filter": text})
        for text in (
            "name = 'a' OR name = 'b'",
            "(name = 'a')",
            "name > 'a'",
            "name == 'a'",
            "name NOT LIKE 'a%'",
            "name = a",
            "name = 1",
            "name",
            "nme = 'a'",
            "NAME = 'a'",
            "run_id = 'x'",
            "foo.z = '1'",
            "attributes.name = 'a'",
            "tags.z > '1'",
            "tags.z IN ('1')",
            "tags.z = 1",
            "name IN ()",
            "name in ('a', 1)",
        )
    ),
    *(
        (VERSION, {"filter": text})
        for text in (
            "name = 'a' or name = 'b'",
            "source_path IN ('x')",
            "version_number < 2.5",
            "version_number LIKE '1'",
            "version_number IN (1,2)",
            "version_number = 'x'",
            "run_id = 1",
            "status = 'READY'",
            "creation_timestamp > 0",
            "model_id = 'm'",
        )
    ),
    *((MODEL, {"order_by": [text]}) for text in ("creation_timestamp", "foo", "name sideways", "tags.z", "name, name")),
    *((VERSION, {"order_by": [text]}) for text in ("foo", "run_id", "tags.x", "version_number sideways")),
    *((MODEL, {"max_results": given}) for given in (1001, "x")),
    *((VERSION, {"max_results": given}) for given in (0, -1, 200_001, "x")),
    (MODEL, {"page_token": "bad"}),
    (VERSION, {"page_token": "bad"}),
]

# Asked when the searches are done.
LAST: list[tuple[str, str, dict[str, Any], str]] = [
    ("DELETE", f"{VERSION}/delete", {"name": "a", "version": "2"}, OK),
    ("DELETE", f"{VERSION}/delete", {"name": "a", "version": "2"}, no_version("a", "2")),
    ("DELETE", f"{VERSION}/delete", {"name": "a"}, missing("version")),
    ("GET", f"{VERSION}/get", {"name": "a", "version": "2"}, no_version("a", "2")),
    ("GET", f"{MODEL}/alias", {"name": "a", "alias": "champion"}, f"{BAD} Registered model alias champion not found."),
    ("POST", f"{MODEL}/rename", {"name": "a", "new_name": "a2"}, OK),
    ("GET", f"{VERSION}/get", {"name": "a2", "version": "1"}, OK),
    ("GET", f"{MODEL}/get", {"name": "a"}, no_model("a")),
    ("DELETE", f"{MODEL}/delete", {"name": "a2"}, OK),
    ("DELETE", f"{MODEL}/delete", {"name": "a2"}, no_model("a2")),
    ("GET", f"{VERSION}/get", {"name": "a2", "version": "1"}, no_version("a2", "1")),
    ("POST", f"{MODEL}/create", {"name": "a2"}, OK),
]


def answers(ask: Ask, calls: list[tuple[str, str, dict[str, Any], str]]) -> list[str]:
    """Each call as it is answered, refusals as long as they are expected to be."""
    found = []
    for verb, path, fields, expected in calls:
        status, body = ask(verb, path, fields)
        said = OK if status == 200 else f"{status} {body.get('error_code')} {body.get('message')}"
        found.append(said[: len(expected)] if expected else said)
    return found


def find(ask: Ask, what: str, fields: dict[str, Any]) -> str:
    """What a search finds, or its status when it is refused."""
    status, body = ask("GET", f"{what}/search", fields)
    if status != 200:
        return str(status)
    if what == MODEL:
        return " ".join(model["name"] for model in body.get("registered_models", []))
    return " ".join(f"{version['name']}/{version['version']}" for version in body.get("model_versions", []))
