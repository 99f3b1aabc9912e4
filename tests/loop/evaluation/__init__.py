from pathlib import Path


def toy_evaluator_text() -> str:
    return Path(__file__).with_name("toy_evaluator.py").read_text(encoding="utf-8")
