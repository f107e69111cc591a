"""What ``quire explain`` answers to each sample, as text: ``python tests/dumps/answers.py --update`` writes them again.

Read the difference before it is committed: an answer is what a person is told.
"""

import argparse
import io
from pathlib import Path

from quire.arch import SKYLAKE_X
from quire.arch.known_processor import ANY_PROCESSOR
from quire.documents import read_log
from quire.dumps import Surroundings, explain_text
from quire.report.explain import render_explanation

__all__ = ["AROUND", "SAMPLES", "answer_of", "golden"]

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.txt"))
#: What ``quire explain`` takes when no option is given.
AROUND = Surroundings(ANY_PROCESSOR, SKYLAKE_X)


def golden(sample: Path) -> Path:
    """Return the file with the expected answer."""
    return sample.with_suffix(".answer")


def answer_of(sample: Path) -> str:
    """Return the answer to a sample as a person sees it."""
    file = io.StringIO()
    render_explanation(explain_text(read_log(str(sample), sample.name), AROUND, sample.name), file)
    return file.getvalue()


def main() -> None:
    """Compare all answers with their files, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the answers instead of comparing them")
    update = parser.parse_args().update
    for sample in SAMPLES:
        answer, path = answer_of(sample), golden(sample)
        if update:
            path.write_text(answer)
        elif not path.exists() or path.read_text() != answer:
            print(f"{sample.name}: another answer")


if __name__ == "__main__":
    main()
