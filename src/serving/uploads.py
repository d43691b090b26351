"""What clients send that cannot be answered: a 4xx status and JSON that says what was wrong with which file."""

from src.data.images import ImageProblem

STATUS = {"over-large": 413, "not an image": 415}  # of kinds of ImageProblem; all others are 422


class Refused(Exception):
    """A request that cannot be answered: its status, and what the client did wrong."""

    def __init__(self, status: int, detail: str, file: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.file = status, detail, file


def refusal_of(problem: ImageProblem, name: str) -> Refused:
    """Return what to tell the client about a file that cannot be decoded."""
    return Refused(STATUS.get(problem.kind, 422), f"{name}: {problem}", name)
