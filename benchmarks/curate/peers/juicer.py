"""Data-Juicer's command (`dj-process`), one process: `python juicer.py filters|near|exact|whole INPUT.parquet FOLDER`.

The recipe is written to FOLDER/recipe.yaml; kept documents stand in FOLDER/out/kept.jsonl.
"""

import json
import sys
from pathlib import Path

FILTERS = (
    "text_length_filter", "words_num_filter", "alphanumeric_filter", "average_line_length_filter",
    "maximum_line_length_filter", "special_characters_filter", "character_repetition_filter", "word_repetition_filter",
)  # fmt: skip
NEAR = {
    "document_minhash_deduplicator": {
        "tokenization": "space", "window_size": 5, "lowercase": True, "ignore_pattern": r"\p{P}", "num_permutations": 112,
        "jaccard_threshold": 0.7, "num_bands": 14, "num_rows_per_band": 8,
    }
}  # fmt: skip
STEPS = {
    "filters": [{name: {}} for name in FILTERS],
    "near": [NEAR],
    "exact": [{"document_deduplicator": {"lowercase": False, "ignore_non_character": False}}],
    "whole": [*({name: {}} for name in FILTERS), NEAR],
}


def main() -> None:
    task, source, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {
        "project_name": "bench", "dataset_path": str(source), "export_path": str(folder / "out" / "kept.jsonl"), "np": 1,
        "text_keys": "text", "use_cache": False, "open_tracer": False, "open_monitor": False, "op_fusion": True,
        "process": STEPS[task],
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor

    DefaultExecutor(init_configs(["--config", str(folder / "recipe.yaml")])).run()


if __name__ == "__main__":
    main()
