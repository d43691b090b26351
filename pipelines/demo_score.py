"""Print the demo's out-of-fold score and its score on the hidden answers."""

import json
from pathlib import Path

from src.core.csv_text import parse_csv


def main() -> None:
    answers_path, submission_path = Path("input/demo/hidden_answers.csv"), Path("submissions/demo/baseline.csv")
    answers = parse_csv(answers_path.read_bytes(), str(answers_path))
    submission = parse_csv(submission_path.read_bytes(), str(submission_path))
    joined = answers.merge(submission, on="file_name", suffixes=("", "_answered"), validate="one_to_one")
    score = (joined["file_code"] == joined["file_code_answered"]).mean()
    scores = json.loads(Path("runs/demo/baseline/evaluation/scores.json").read_text(encoding="utf-8"))
    low, high = scores["interval_95"]
    print(f"out-of-fold string accuracy    {scores['score']:.4f}  (95% interval {low:.4f} to {high:.4f})")
    print(f"on the hidden answers          {score:.4f}  ({len(joined)} images, submissions/demo/baseline.csv)")


if __name__ == "__main__":
    main()
