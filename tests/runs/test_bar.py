"""What a person sees of a run while it trains."""

import pytest

from lab.runs.bar import Bar


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"val/loss": 2.0, "val/bpb": 1.5}, "validation 1.5000 bits per byte"),
        ({"val/loss": 2.0, "val/bpb": None}, "validation loss 2.0000"),
        ({"val/loss": 2.0, "val/chrf": 15.0}, "validation loss 2.0000"),
        ({"val/loss": 2.0, "val/accuracy": 0.5}, "accuracy 0.500"),
    ],
)
def test_a_line_tells_what_was_measured_whatever_the_tokenizer_loses(measured, said):
    bar = Bar()
    bar({"progress": 0.25, **measured})
    assert bar.words() == said
