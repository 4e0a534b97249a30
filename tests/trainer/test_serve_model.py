from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from starlette.testclient import TestClient
from transformers import PreTrainedTokenizerFast

from tests.conftest import wait_until
from tests.trainer.conftest import built, llama
from trainer import engine as engine_module
from trainer.config import ModelConfig
from trainer.errors import ConfigError, ModelError
from trainer.generate import Prompt, decode, generate
from trainer.loop import train
from trainer.methods import choose
from trainer.models import Card, Checkpoint, load, read_card, save
from trainer.serve_model import create_app, model_names
from trainer.served import Served, SharedBase, families, load_served, load_to_serve

QUESTIONS = ["2+3=", "Hello", "what?", "one two three"]


def served(tokenizer: PreTrainedTokenizerFast, seed: int, template: str = "{input}\n") -> Served:
    return Served(checkpoint(tokenizer, seed, template))


def checkpoint(tokenizer: PreTrainedTokenizerFast, seed: int, template: str = "{input}\n") -> Checkpoint:
    card = Card(task="causal_lm", method={"name": "full"}, base=ModelConfig(path="-"), prompt_template=template)
    return Checkpoint(llama(seed).eval(), tokenizer, card)


@pytest.fixture(scope="module")
def client(tokenizer: PreTrainedTokenizerFast) -> Iterator[TestClient]:
    models = {"one": served(tokenizer, 1), "two": served(tokenizer, 2, "Q: {input}\nA:")}
    with TestClient(create_app(models, wait=0.02)) as test_client:
        yield test_client


def ask(client: TestClient, question: str = "2+3=", model: str = "one", **options: Any) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 12, **options}
    return client.post("/v1/chat/completions", json=body)


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_an_answer_is_what_scoring_hears(client: TestClient, tokenizer: PreTrainedTokenizerFast) -> None:
    for model, seed, template in (("one", 1, "{input}\n"), ("two", 2, "Q: {input}\nA:")):
        prompts = [template.replace("{input}", question) for question in QUESTIONS]
        expected = generate(llama(seed), tokenizer, prompts, max_new_tokens=12)
        assert [ask(client, one, model).json()["choices"][0]["message"]["content"] for one in QUESTIONS] == expected
    assert len(set(expected)) > 1


def test_an_answer_has_openais_shape(client: TestClient) -> None:
    body = ask(client).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "one"
    assert body["id"].startswith("chatcmpl-")
    [choice] = body["choices"]
    assert choice["index"] == 0
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    usage = body["usage"]
    assert usage["prompt_tokens"] == len("2+3=\n")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same_in_pieces(client: TestClient) -> None:
    whole = ask(client, "Hello").json()
    response = ask(client, "Hello", stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    first, *pieces, last, usage = events(response.text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
    assert text.strip() == whole["choices"][0]["message"]["content"]
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert last["choices"][0]["delta"] == {}
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert all(
        chunk["object"] == "chat.completion.chunk" and chunk["usage"] is None for chunk in [first, *pieces, last]
    )
    assert len({chunk["id"] for chunk in [first, *pieces, last, usage]}) == 1


def test_a_stream_without_usage_ends_with_its_reason(client: TestClient) -> None:
    chunks = events(ask(client, stream=True).text)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert all("usage" not in chunk for chunk in chunks)


def test_tokens_and_stops_end_an_answer(client: TestClient) -> None:
    whole = ask(client, "Hello", max_tokens=12).json()["choices"][0]["message"]["content"]
    short = ask(client, "Hello", max_completion_tokens=2).json()
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 2
    stop = whole[3:5]
    cut = whole[: whole.index(stop)]
    for options in ({"stop": stop}, {"stop": ["never", stop]}):
        choice = ask(client, "Hello", **options).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (cut.strip(), "stop")
    chunks = events(ask(client, "Hello", stop=stop, stream=True).text)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks).strip() == cut.strip()


def test_greedy_unless_asked_and_seeded_when_drawn(client: TestClient) -> None:
    def said(**options: Any) -> str:
        return str(ask(client, "Hello", **options).json()["choices"][0]["message"]["content"])

    assert said() == said(temperature=0)
    assert said(temperature=1.5, seed=4) == said(temperature=1.5, seed=4)
    assert len({said(temperature=1.5, seed=seed) for seed in range(5)}) > 1


def test_the_last_question_is_answered_and_parts_are_joined(client: TestClient) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "before"},
        {"role": "assistant", "content": "so"},
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
    ]
    assert ask(client, messages=messages).json()["choices"][0] == ask(client, "Hello").json()["choices"][0]


def test_a_chat_template_is_used_where_there_is_one(tokenizer_folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    with TestClient(create_app({"chat": served(tokenizer, 1)})) as client:
        body = ask(client, "Hi", "chat").json()
    assert body["usage"]["prompt_tokens"] == len("[user]Hi>")
    expected = generate(llama(1), tokenizer, ["[user]Hi>"], max_new_tokens=12, newline=False)[0]
    assert body["choices"][0]["message"]["content"] == expected


@pytest.mark.parametrize(
    ("change", "status", "code", "param", "message"),
    [
        ({"model": "three"}, 404, "model_not_found", "model", "There is no model 'three'; there are one, two."),
        ({"messages": []}, 400, None, "messages", "messages: Expected `array` of length >= 1"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, None, "messages", "There is no message with"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            None,
            "messages",
            "Content of type",
        ),
        ({"max_tokens": 0}, 400, None, "max_tokens", "max_tokens: Expected `int` >= 1"),
        ({"temperature": 3}, 400, None, "temperature", "temperature: Expected `float` <= 2.0"),
        ({"n": 2}, 400, None, "n", "n: Invalid enum value 2"),
        (
            {"max_tokens": 60},
            400,
            "context_length_exceeded",
            "messages",
            "The model's context is 64 tokens: 5 of prompt",
        ),
        (
            {"messages": [{"role": "user", "content": "x" * 70}]},
            400,
            "context_length_exceeded",
            "messages",
            "The model's",
        ),
    ],
)
def test_refusals_have_openais_shape(
    client: TestClient, change: dict[str, Any], status: int, code: str | None, param: str, message: str
) -> None:
    response = ask(client, **change)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["message"].startswith(message)
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)


def test_paths_and_bodies_that_are_not_there(client: TestClient) -> None:
    for response, status in (
        (client.get("/v1/nothing"), 404),
        (client.get("/v1/chat/completions"), 405),
        (client.get("/v1/models/three"), 404),
        (client.post("/v1/chat/completions", content=b"{"), 400),
    ):
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_models_and_health(client: TestClient) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["one", "two"]
    assert client.get("/v1/models/two").json()["owned_by"] == "tunescope"
    assert client.get("/healthz").json() == {"status": "ok", "models": ["one", "two"]}


def test_requests_that_come_together_are_decoded_together(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(model: Any, prompts: Any, **options: Any) -> Any:
        sizes.append(len(prompts))
        return decode(model, prompts, **options)

    monkeypatch.setattr(engine_module, "decode", counted)
    app = create_app({"one": served(tokenizer, 1)}, max_batch=6, wait=5.0)
    with TestClient(app) as client, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda question: ask(client, question).json(), QUESTIONS * 3))
    assert sizes == [6, 6]
    alone = generate(llama(1), tokenizer, [f"{question}\n" for question in QUESTIONS], max_new_tokens=12)
    assert [one["choices"][0]["message"]["content"] for one in answers] == alone * 3


def test_a_failing_batch_is_answered_and_the_next_one_works(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(create_app({"one": served(tokenizer, 1)})) as client:
        with monkeypatch.context() as patch:

            def fails(*_: Any, **__: Any) -> Any:
                raise RuntimeError("no memory")

            patch.setattr(engine_module, "decode", fails)
            refused = ask(client)
            streamed = ask(client, stream=True)
        assert refused.status_code == 500
        assert refused.json()["error"]["type"] == "server_error"
        assert '"code":"generation_failed"' in streamed.text
        assert "[DONE]" not in streamed.text
        assert "no memory" in caplog.text
        assert ask(client).status_code == 200


def test_too_many_waiting_are_turned_away(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()

    def waits(*_: Any, **__: Any) -> Any:
        hold.wait(30)
        return iter(())

    monkeypatch.setattr(engine_module, "decode", waits)
    engine = engine_module.Engine(checkpoint(tokenizer, 1), max_batch=1, wait=0.0, max_waiting=1)
    job = engine_module.Job(Prompt([5], 1), lambda piece: None)
    refusals = []
    for _ in range(3):
        try:
            engine.submit(job)
        except engine_module.TooBusy as error:
            refusals.append(str(error))
    hold.set()
    engine.close()
    assert refusals
    assert set(refusals) == {"1 requests are waiting; try again in a moment."}


def test_half_a_character_is_held_back(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tokenizer("aé!")["input_ids"]
    monkeypatch.setattr(engine_module, "decode", lambda *_, **__: iter([[token] for token in [*ids, 1]]))
    engine = engine_module.Engine(checkpoint(tokenizer, 1), max_batch=1, wait=0.0)
    pieces: list[engine_module.Piece] = []
    engine.submit(engine_module.Job(Prompt([5], 9), pieces.append, stream=True))
    engine.close()
    assert [piece.text for piece in pieces] == ["a", "é", "!", ""]
    assert [piece.reason for piece in pieces] == [None, None, None, "stop"]


def test_names() -> None:
    folders = [Path("/runs/base/model"), Path("/runs/tuned")]
    assert model_names(folders, []) == ["base", "tuned"]
    assert model_names(folders, ["a", "b"]) == ["a", "b"]
    with pytest.raises(ConfigError, match="1 names for 2 checkpoints"):
        model_names(folders, ["a"])
    with pytest.raises(ConfigError, match="two checkpoints are both called 'base'"):
        model_names([*folders, Path("/other/base")], [])


@pytest.fixture(scope="module")
def adapters(causal_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters of one base, which differ in what they say and in width."""
    folders = [tmp_path_factory.mktemp("adapters") / name for name in ("narrow", "wide")]
    for folder, rank in zip(folders, (4, 8), strict=True):
        base, tokenizer, _ = load(causal_folder)
        method = {"name": "lora", "r": rank}
        model = choose(method).prepare(base, task="causal_lm", seed=rank)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        origin = ModelConfig(path=str(causal_folder))
        save(folder, model, tokenizer, Card(task="causal_lm", method=method, base=origin, prompt_template="{input}\n"))
    return folders


def test_adapters_and_their_base_share_it_and_answer_as_each_would_alone(
    causal_folder: Path, adapters: list[Path]
) -> None:
    folders = [adapters[0], causal_folder, adapters[1]]
    names = ["narrow", "base", "wide"]
    expected = {}
    for name, folder in zip(names, folders, strict=True):
        alone = load_to_serve(folder)
        template = alone.card.prompt_template or "{input}"
        prompts = [template.replace("{input}", question) for question in QUESTIONS]
        expected[name] = generate(alone.model, alone.tokenizer, prompts, max_new_tokens=12)
    assert len({str(answers) for answers in expected.values()}) == 3

    together = load_served(folders)
    assert len({id(one.checkpoint.model) for one in together}) == 1
    asked = [(name, place) for place in range(len(QUESTIONS)) for name in names] * 3
    with (
        TestClient(create_app(dict(zip(names, together, strict=True)), max_batch=2)) as client,
        ThreadPoolExecutor(6) as pool,
    ):
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == names
        answers = list(pool.map(lambda one: ask(client, QUESTIONS[one[1]], one[0]).json(), asked))
        for (name, place), answer in zip(asked, answers, strict=True):
            assert (answer["model"], answer["choices"][0]["message"]["content"]) == (name, expected[name][place])
        for name in names:
            chunks = events(ask(client, QUESTIONS[0], name, stream=True).text)
            text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
            assert text.strip() == expected[name][0]
        refused = ask(client, model="none")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


def test_the_model_goes_round_in_the_order_of_asking(adapters: list[Path]) -> None:
    [first, second] = load_served(adapters)
    spoken: list[str] = []
    asking = threading.Event()

    def other() -> None:
        asking.set()
        with second.turn():
            spoken.append("second")

    waiting = threading.Thread(target=other)
    with first.turn():
        waiting.start()
        asking.wait(10)
        wait_until(lambda: shared_base(first)._tickets == 2)
    with first.turn():  # asked for after the other one
        spoken.append("first")
    waiting.join(10)
    assert spoken == ["second", "first"]


def shared_base(one: Served) -> SharedBase:
    return one.turn.func.__self__  # type: ignore[attr-defined, no-any-return]


def test_an_adapter_alone_is_merged_and_others_are_not_mixed_up(causal_folder: Path, adapters: list[Path]) -> None:
    [alone] = load_served(adapters[:1])
    assert not any("lora" in name for name, _ in alone.checkpoint.model.named_parameters())
    cards = {folder: read_card(folder) for folder in (*adapters, causal_folder)}
    assert families(cards) == [[*adapters, causal_folder]]
    other = cards[adapters[1]]
    quantised = msgspec.structs.replace(other, method={"name": "qlora", "compute": "fp32"})
    moved = msgspec.structs.replace(other, base=msgspec.structs.replace(other.base, dtype="bfloat16"))
    for changed in (quantised, moved):
        assert families(cards | {adapters[1]: changed}) == [[adapters[0], causal_folder], [adapters[1]]]


def test_a_merged_adapter_answers_as_it_did(sums_config: dict[str, Any]) -> None:
    trained = train(built(sums_config, method={"name": "lora"}))
    served = load_to_serve(Path(trained.result.model_folder))
    assert not any("lora" in name for name, _ in served.model.named_parameters())
    ids = served.tokenizer(["3+1=\n", "0+2=\n"], return_tensors="pt")
    with torch.inference_mode():
        expected, merged = trained.model(**ids).logits, served.model(**ids).logits
    assert torch.allclose(expected, merged, atol=1e-4)


def test_a_classifier_is_not_served(tickets_config: dict[str, Any]) -> None:
    trained = train(built(tickets_config))
    with pytest.raises(ModelError, match="a classification model answers no chat"):
        load_to_serve(Path(trained.result.model_folder))
