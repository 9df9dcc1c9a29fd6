"""What a verb says of a model that it does not fit: before its data is read, which is not there for these."""

import pytest

BAG = "preset=bag_of_words data.name=nobody/nothing"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("attention", BAG, "x"), "model=bag_of_words looks at no tokens"),
        (("routing", BAG), "model=bag_of_words has no experts"),
        (("generate", BAG, "x"), "holds model=bag_of_words, which writes no text"),
        (("generate", BAG, "x", "--steps"), "holds model=bag_of_words, which writes no text"),
        (("probe", BAG, "x"), "nothing in it scores the vocabulary"),
        (("embeddings", BAG, "--near", "x"), "model=bag_of_words has no table of embeddings"),
        (("attention", "preset=tiny data=wikitext103", "x", "--target", "y"), "--target: of encoder-decoders"),
        (("probe", "preset=tiny data=fineweb_edu", "x", "--target", "y"), "--target: of encoder-decoders"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_its_data_is_read(lab, words, message):
    done = lab(*words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
