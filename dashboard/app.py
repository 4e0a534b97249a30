"""The dashboard's frame: navigation, theme and the service's state around the page that was asked for.

tunescope dashboard --url http://127.0.0.1:8000
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import components, data, navigate
from tunescope import ApiError, ConnectionFailed

# The pages' folder is not called pages/: Streamlit serves such a folder by itself, without this frame, to whoever
# comes first by a deep link.
ASSETS = Path(__file__).parent / "assets"


def main() -> None:
    # Before the navigation: a page's icon would become the favicon otherwise, fetched from a public server.
    st.set_page_config(page_icon=str(ASSETS / "favicon.svg"), layout="wide")
    page = st.navigation(
        {
            "": [st.Page("views/home.py", title="Home", icon=":material/home:", default=True)],
            "Track": [
                st.Page("views/runs.py", title="Runs", icon=":material/table_rows:", url_path="runs"),
                st.Page("views/compare.py", title="Compare", icon=":material/compare_arrows:", url_path="compare"),
                st.Page("views/sweeps.py", title="Sweeps", icon=":material/tune:", url_path="sweeps"),
                st.Page(
                    "views/run.py", title="Run", icon=":material/timeline:", url_path="run", visibility="hidden"
                ),
            ],
            "Evaluate": [
                st.Page(
                    "views/evaluations.py", title="Evaluations", icon=":material/fact_check:", url_path="evaluations"
                ),
                st.Page("views/review.py", title="Review", icon=":material/thumbs_up_down:", url_path="review"),
                st.Page("views/data.py", title="Data", icon=":material/dataset:", url_path="data"),
            ],
            "Audit": [
                st.Page(
                    "views/forgetting.py", title="Forgetting", icon=":material/verified_user:", url_path="forgetting"
                )
            ],
            "Serve": [
                st.Page("views/experiments.py", title="Experiments", icon=":material/call_split:",
                        url_path="experiments"),
                st.Page("views/models.py", title="Models", icon=":material/deployed_code:", url_path="models"),
            ],
        }
    )  # fmt: skip
    st.set_page_config(
        page_title=f"{page.title} · Tunescope",
        menu_items={"About": "Tunescope: did it learn, is it better, what did it forget, do users prefer it."},
    )
    st.html(ASSETS / "style.css")
    st.logo(str(ASSETS / "logo.svg"), icon_image=str(ASSETS / "favicon.svg"), size="large")
    navigate.follow(page.url_path or "home")
    with components.guard():
        page.run()
    with st.sidebar:
        connection()


def connection() -> None:
    """Which service this is, and whether it answers."""
    try:
        version = data.health().get("version")
    except (ConnectionFailed, ApiError):
        st.caption(f":red[:material/cloud_off:] {data.client().url}")
        return
    st.caption(f":green[:material/cloud_done:] {data.client().url}" + (f" · {version}" if version else ""))


main()
