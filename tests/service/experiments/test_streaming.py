"""Server-sent events as bytes: cut, read, stripped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.experiments.streaming import EventSplitter, GarbledStream, StreamReader, data_of


def event(**body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@given(st.lists(st.text(min_size=1).map(lambda text: event(text=text)), max_size=8), st.data())
def test_however_a_stream_is_cut_into_chunks_the_same_events_come_out(events: list[bytes], data: st.DataObject) -> None:
    stream, splitter, found, start = b"".join(events), EventSplitter(), [], 0
    while start < len(stream):
        end = data.draw(st.integers(start + 1, len(stream)))
        found += splitter.feed(stream[start:end])
        start = end
    assert found == events


def test_windows_line_ends_are_line_ends_even_when_cut() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == []
    assert splitter.feed(b"\ndata: 2\r\n\r\n") == [b"data: 1\n\n", b"data: 2\n\n"]


def test_a_comment_has_no_data() -> None:
    assert data_of(b": keep-alive\n\n") is None
    assert data_of(b"event: x\ndata: 1\n\n") == b"1"


def test_the_first_token_is_the_first_text_not_the_role() -> None:
    reader = StreamReader(strip_usage=False)
    reader.read(event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]))
    assert not reader.started
    reader.read(event(choices=[{"index": 0, "delta": {"content": "a"}}]))
    assert reader.started


@pytest.mark.parametrize("delta", [{"tool_calls": [{"index": 0}]}, {"reasoning_content": "hm"}, {"refusal": "no"}])
def test_other_tokens_count_too(delta: dict[str, Any]) -> None:
    reader = StreamReader(strip_usage=False)
    reader.read(event(choices=[{"index": 0, "delta": delta}]))
    assert reader.started


def test_usage_nobody_asked_for_is_read_and_removed() -> None:
    reader = StreamReader(strip_usage=True)
    passed = reader.read(event(choices=[{"index": 0, "delta": {"content": "a"}}], usage=None))
    assert json.loads(passed[6:]) == {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    assert reader.read(event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 4})) == b""
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (3, 4)


def test_usage_asked_for_passes_byte_for_byte() -> None:
    reader, sent = StreamReader(strip_usage=False), event(choices=[], usage={"prompt_tokens": 3})
    assert reader.read(sent) == sent
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (3, None)


@pytest.mark.parametrize("usage", [{"prompt_tokens": -1}, {"prompt_tokens": "3"}, {"prompt_tokens": True}, 3, []])
def test_usage_that_is_none_stays_unknown(usage: Any) -> None:
    reader = StreamReader(strip_usage=False)
    reader.read(event(choices=[], usage=usage))
    assert reader.usage.input_tokens is None


@pytest.mark.parametrize("data", [b"data: {oops\n\n", b"data: [1]\n\n", b"data: 3\n\n"])
def test_an_event_that_is_no_object_is_an_error(data: bytes) -> None:
    with pytest.raises(GarbledStream):
        StreamReader(strip_usage=False).read(data)


@pytest.mark.parametrize(
    ("last", "finished", "failed"),
    [
        (event(choices=[{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]), False, False),
        (event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]), True, False),
        (b"data: [DONE]\n\n", True, False),
        (event(error={"message": "no"}), False, True),
    ],
)
def test_how_a_stream_ended_is_known(last: bytes, finished: bool, failed: bool) -> None:
    reader = StreamReader(strip_usage=False)
    reader.read(last)
    assert (reader.finished, reader.failed) == (finished, failed)


def test_the_answer_is_kept_only_when_asked_and_only_the_first_choice() -> None:
    kept, not_kept = StreamReader(strip_usage=False, keep_answer=True), StreamReader(strip_usage=False)
    for reader in (kept, not_kept):
        for index, text in ((0, "a"), (1, "x"), (0, "b")):
            reader.read(event(choices=[{"index": index, "delta": {"content": text}}]))
    assert (kept.answer, not_kept.answer) == ("ab", "")
