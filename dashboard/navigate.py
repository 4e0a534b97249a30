"""Going from page to page: links that say in the URL what they lead to, and clicks in tables and charts that do too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st

Json = dict[str, Any]
PageName = Literal[
    "home", "runs", "run", "compare", "sweeps", "evaluations", "review", "data", "forgetting", "experiments", "models"
]
# Where a click asked to go, and which page is shown, in the session.
_GO, _PAGE = "_go", "_page"


def page_path(page: PageName) -> str:
    return f"views/{page}.py"


def link(page: PageName, label: str, icon: str | None = None, help: str | None = None, **params: str | None) -> None:
    """A link to another page of the dashboard, with what it shows in its URL.

    A parameter of a link must not be bound to a widget of another page: Streamlit drops it on the way.
    """
    given = {name: value for name, value in params.items() if value is not None}
    image = f":material/{icon}:" if icon else ""
    if page == st.session_state.get(_PAGE) and "id" in given and given["id"] == st.query_params.get("id"):
        if len(given) == 1:
            st.markdown(f"{image} **{label}**", width="content")
            return
        # Another view of what is shown: the view belongs to a widget, which follows its state and not the URL.
        key = f"link-{page}-{label}-{sorted(given.items())}"
        st.button(label, icon=image or None, type="tertiary", key=key, help=help, on_click=_ask, args=(page, given))
        follow_from_fragment()
        return
    st.page_link(page_path(page), label=label, icon=image, help=help or "", query_params=given)


def go_to(page: PageName, **params: str) -> None:
    st.switch_page(page_path(page), query_params=params)


def follow(current: str) -> None:
    """Go where the last click asked to go. Called before anything is drawn."""
    st.session_state[_PAGE] = current
    target: tuple[PageName, dict[str, str]] | None = st.session_state.pop(_GO, None)
    if target is None:
        return
    page, params = target
    if page != current:
        go_to(page, **params)
    for name in [name for name in st.query_params if name not in params and name not in st.session_state]:
        del st.query_params[name]
    for name, value in params.items():
        if name in st.session_state:
            st.session_state[name] = value
        else:
            st.query_params[name] = value


def _ask(page: PageName, params: Mapping[str, str]) -> None:
    st.session_state[_GO] = (page, dict(params))


def follow_from_fragment() -> None:
    """A click inside a fragment reruns the fragment alone: what it asked for needs the whole page."""
    if _GO in st.session_state:
        st.rerun()


def clicked_row(key: str, page: PageName, targets: Sequence[Mapping[str, str]]) -> None:
    _ask(page, targets[st.session_state[key]["row"]])


def clicked_point(key: str, page: PageName, target: Callable[[Json], Mapping[str, str]]) -> None:
    for point in st.session_state[key]["selection"]["points"]:
        if point.get("customdata"):
            _ask(page, target(point))
