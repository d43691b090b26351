"""Make the demo competition from scikit-learn's handwritten digits, in the layout of the street-view competition.

    python -m src.make_demo

Writes input/demo/: mchar_train/, mchar_val/ and mchar_test_a/ with PNG files, their JSON files with boxes, the sample
submission, and hidden_answers.csv, which is read only by the last line of pipelines/demo.sh. The output is reproducible
to the byte with the versions in requirements.txt.
"""

from src.config import MakeDemoConfig
from src.core import cli


def main(config: MakeDemoConfig) -> None:
    """Write the competition's files."""
    from src.competitions.demo_images import make_demo

    make_demo(config)


if __name__ == "__main__":
    cli.run(main, MakeDemoConfig, __doc__)
