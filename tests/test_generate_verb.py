"""`lab generate` on runs of every family, and the text that tokens become while they come."""

import json
from pathlib import Path

import pytest
import torch

import lab as api
from lab.models.generate import generate
from lab.runs.generate import Writer
from lab.runs.translate import targets
from lab.views.step import Candidate

BRIEF = ("budget.steps=2", "logger=none", "trainer.validations=1", "trainer.threads=1")


@pytest.fixture(scope="module")
def decoder(small, tmp_path_factory):
    return api.train(api.compose(*small, *BRIEF), tmp_path_factory.mktemp("generate") / "run")


@pytest.fixture(scope="module")
def recurrent(small, tmp_path_factory):
    words = ("model=recurrent", "tokenizer=word", "tokenizer.vocab_size=60")
    return api.train(api.compose(*small, *words, *BRIEF), tmp_path_factory.mktemp("generate") / "run")


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    texts = folder / "pairs.jsonl"
    pairs = ({"one": word * n, "two": word * 2} for word in ("ab", "cd", "ef") for n in range(1, 8))
    texts.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    words = ("preset=tiny", "model=encoder_decoder", "objective=seq2seq", "tokenizer=byte", "data=pairs",
             f"data.path={texts}", "data.source=one", "data.target=two", "split.validation=0.3", "model.dim=32",
             "model.context=40", "batch.rows=4")  # fmt: skip
    return api.train(api.compose(*words, *BRIEF), folder / "run")


def continued(run, prompt, tokens, **more):
    """What generate says, as text."""
    begin = run.tokenizer.document_id
    before = [begin, *run.tokenizer.encode([prompt])[0].tolist()]
    (answer,) = generate(run.model, [before], tokens, stop={begin, run.tokenizer.id("end")}, **more)
    return run.tokenizer.decode([*before, *answer])[len(run.tokenizer.decode(before)) :]


def test_one_prompt_is_streamed_and_said_to_be_fast(decoder, recurrent, lab):
    for run, prompt in ((decoder, "Document 7"), (recurrent, "Document says that")):
        done = lab("generate", run.folder, prompt, "--tokens", "12")
        assert done.code == 0
        assert done.out == continued(run, prompt, 12) + "\n"
        assert done.err.count("\n") == 1
        assert "12 tokens; the first after " in done.err
        cached = run.model.cache_bytes(1 + len(run.tokenizer.encode([prompt])[0]) + 12)
        assert f" tokens/s; cache {cached:,} bytes" in done.err
        again = lab("generate", run.folder, prompt, "--tokens", "12", "--no-cache")
        assert (again.out, again.err.split("; ")[-1]) == (done.out, "no cache\n")


def test_what_is_drawn_goes_by_its_seed_and_filters_apply(decoder, lab):
    drawn = ("generate", decoder.folder, "Document 7", "--tokens", "10", "--temperature", "1.5")
    wanted = continued(decoder, "Document 7", 10, temperature=1.5, seed=2)
    assert lab(*drawn, "--seed", "2").out == wanted + "\n"
    assert lab(*drawn, "--seed", "3").out != wanted + "\n"
    filtered = lab("generate", decoder.folder, "Document 7", "--tokens", "10", "--top-k", "5", "--top-p", "0.9",
                   "--min-p", "0.01", "--repetition", "1.3", "--seed", "2").out  # fmt: skip
    settings = {"temperature": 1.0, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "repetition": 1.3, "seed": 2}
    assert filtered == continued(decoder, "Document 7", 10, **settings) + "\n"
    greedy = lab("generate", decoder.folder, "Document 7", "--tokens", "10").out
    assert lab(*drawn, "--top-k", "1").out == greedy


def test_several_prompts_are_a_batch_that_says_what_each_says_alone(decoder, lab):
    prompts = ("Document 7", "8", "says that")
    done = lab("generate", decoder.folder, *prompts, "--tokens", "9", "--json").json
    assert [answer["prompt"] for answer in done["answers"]] == list(prompts)
    assert [answer["text"] for answer in done["answers"]] == [continued(decoder, prompt, 9) for prompt in prompts]
    assert done["cache_bytes"] == 3 * decoder.model.cache_bytes(1 + 10 + 9)
    shown = lab("generate", decoder.folder, *prompts, "--tokens", "9").out
    lab("generate", decoder.folder, "Document <b>", "--tokens", "3", "--html", "written.html")
    assert "Document &lt;b&gt;</p>" in Path("written.html").read_text()
    assert shown == "\n\n".join(f"> {prompt}\n{continued(decoder, prompt, 9)}" for prompt in prompts) + "\n"


def test_at_the_end_of_the_context_it_stops_or_slides_and_says_so(decoder, lab):
    words = ("generate", decoder.folder, "Document 7", "--tokens", "40", "--json")
    stopped, slid = lab(*words), lab(*words, "--slide")
    assert [done.json["answers"][0]["ended"] for done in (stopped, slid)] == ["context", "tokens"]
    assert [done.json["answers"][0]["tokens"] for done in (stopped, slid)] == [32 + 1 - 11, 40]
    assert stopped.err.endswith("; stopped at the end of the context\n")
    assert slid.err.endswith("; slid on past the end of the context, its older half forgotten\n")
    assert slid.json["answers"][0]["text"] == continued(decoder, "Document 7", 40, slide=True)


def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(decoder, lab):
    whole = continued(decoder, "Document 7", 20, temperature=1.0)
    stop = whole[6:9]
    words = ("generate", decoder.folder, "Document 7", "--tokens", "20", "--temperature", "1", "--stop", stop)
    assert lab(*words).out == whole[: whole.index(stop)] + "\n"
    (answer,) = lab(*words, "--json").json["answers"]
    assert answer["ended"] == "stop"


def test_an_encoder_decoder_reads_the_prompt(translator, lab):
    texts = ["abab", "cd", "efefef"]
    for beam in (1, 3):
        done = lab("generate", translator.folder, *texts, "--beam", str(beam), "--json").json
        assert [answer["text"] for answer in done["answers"]] == api.translate(translator, texts, beam=beam)
    drawn = ("generate", translator.folder, "abab", "--tokens", "6", "--temperature", "1", "--seed")
    assert lab(*drawn, "1").out == lab(*drawn, "1").out != lab(*drawn, "2").out


def test_one_token_step_by_step(decoder, recurrent, translator, lab):
    words = ("generate", decoder.folder, "Doc", "--steps", "--json")
    step = lab(*words).json
    assert step["ids"] == [0, *(1 + byte for byte in b"Doc")]
    shapes = {stage["place"]: (stage["shape"], stage["times"]) for stage in step["stages"]}
    assert shapes["embedding"] == ([1, 4, 32], 1)
    assert shapes["blocks.*.attention"] == ([1, 4, 32], 2)
    assert shapes["logits"] == ([1, 4, 257], 1)
    assert step["chosen"] == step["candidates"][0]
    assert decoder.tokenizer.decode([step["chosen"]["id"]]) == continued(decoder, "Doc", 1)
    probabilities = decoder.model(torch.tensor([step["ids"]]))[0, -1].softmax(-1)
    assert [one["before"] for one in step["candidates"]] == pytest.approx(probabilities.topk(10).values.tolist())
    drawn = lab(*words, "--top-k", "3", "--temperature", "0.5", "--seed", "4").json
    kept = probabilities.topk(3).values ** 2  # a temperature of 1/2 squares them
    after = [one["after"] for one in drawn["candidates"]]
    assert after == pytest.approx([*(kept / kept.sum()).tolist(), *[0] * 7])
    across = lab("generate", translator.folder, "abab", "--steps", "--json").json
    shapes = {stage["place"]: stage["shape"] for stage in across["stages"]}
    assert (shapes["encoder.blocks.*"], shapes["decoder.blocks.*"]) == ([1, 5, 32], [1, 1, 32])
    (written,) = targets(translator, ["abab"], beam=1)
    assert across["chosen"]["id"] == [*written, translator.tokenizer.id("end")][0]
    shown = lab("generate", recurrent.folder, "Document", "--steps", "--html", "step.html").out
    assert "What may follow" in Path("step.html").read_text()
    assert "recurrence" in shown
    assert shown.splitlines()[-1].startswith("chosen: ")


def test_figures_of_a_candidate_have_as_many_digits_as_their_neighbours():
    assert Candidate(1, "a", -0.914, 0.045, 1.0).said() == ("−0.91", "4.50%", "100%")
    assert Candidate(1, "a", 2.0, 0.0048, 0.0).said() == ("2.00", "0.480%", "left out")


def test_a_page_that_cannot_be_is_refused_before_anything_is_written(decoder, lab, tmp_path):
    for file, why in ((Path("nowhere/page.html"), "No such file or directory"), (tmp_path, "Is a directory")):
        done = lab("generate", decoder.folder, "Doc", "--html", file)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"lab generate: --html: {file} cannot be written ({why})\n"


def test_a_writer_holds_back_what_may_change(decoder):
    tokenizer = decoder.tokenizer
    writer = Writer(tokenizer, [], ["éa!"])
    (ids,) = tokenizer.encode(["xéaébéa!c"])
    given = [writer.add(int(token)) for token in ids]
    assert given == ["x", "", "", "", "", "éa", "éb", "", "", "", "", ""]
    assert (writer.given, writer.stopped) == ("xéaéb", True)
    cut = Writer(tokenizer)
    assert [cut.add(int(token)) for token in tokenizer.encode(["aé"])[0][:2]] == ["a", ""]
    assert cut.rest() == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("",), "PROMPT: is empty"),
        (("a", "b" * 40), "PROMPT: 40 tokens; at most 31, as the model was trained on rows of 32"),
        (("a", "--temperature", "-1"), "--temperature: -1.0; 0, which takes the best token, or more"),
        (("a", "--top-p", "1.5"), "--top-p: 1.5; a probability over 0, at most 1"),
        (("a", "--top-k", "0"), "--top-k: 0; at least 1"),
        (("a", "--min-p", "2"), "--min-p: 2.0; "),
        (("a", "--repetition", "0"), "--repetition: 0.0; over 0"),
        (("a", "--tokens", "0"), "--tokens: 0; at least 1"),
        (("a", "--stop", ""), "--stop: is empty"),
        (("a", "--beam", "2"), "--beam: 2; at least 1, and of an encoder-decoder"),
        (("a", "--temperature", "0", "--top-k", "5"), "--top-k: draws, and --temperature 0 takes the best token"),
        (("-", "-"), "PROMPT: - more than once"),
        (("a", "--steps", "--slide", "--tokens", "-10"), "--tokens, --slide: of several tokens, and --steps shows one"),
        (("a", "--steps", "--beam", "4"), "--beam: of several tokens"),
    ],
)
def test_what_cannot_be_is_said(decoder, lab, words, message):
    done = lab("generate", decoder.folder, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"lab generate: {message}")
    assert done.err.count("\n") == 1


def test_words_without_a_token_and_what_a_family_does_not_do_are_said(recurrent, translator, small, lab, tmp_path):
    done = lab("generate", recurrent.folder, "Document zebra says qux, zebra.")
    assert done.err == "lab generate: PROMPT: the run's tokenizer has no token for 'zebra', 'qux', ','\n"
    for words, message in (
        (("--no-cache",), "--no-cache: of decoders and recurrent models"),
        (("--slide",), "--slide: of decoders and recurrent models"),
        (("--beam", "2", "--temperature", "1"), "--beam: 2; follows the most probable targets"),
    ):
        assert lab("generate", translator.folder, "abab", *words).err.startswith(f"lab generate: {message}")
    words = ("preset=tiny", "model=encoder", "objective=masked", *small[1:], *BRIEF)
    encoder = api.train(api.compose(*words), tmp_path / "encoder")
    assert "holds model=encoder, which writes no text" in lab("generate", encoder.folder, "abc").err
