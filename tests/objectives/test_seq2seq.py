"""Sequence to sequence: what is reported is what the trained model generates, and what does not fit is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sacrebleu
import torch
from pytorch_lightning.strategies.strategy import _ForwardRedirection
from torch.distributed.fsdp import FullyShardedDataParallel

import lab
from lab.errors import RequestError
from lab.objectives.seq2seq import SequenceToSequence
from lab.runs.ranks import _free_port
from lab.runs.train import data_module

RUN = (
    "preset=tiny", "model=encoder_decoder", "objective=seq2seq", "objective.smoothing=0.2", "model.dim=32",
    "model.context=40", "batch.rows=16", "budget.steps=40", "optimizer.lr=0.01", "trainer.validations=1",
    "trainer.threads=1", "logger=none", "tokenizer=byte", "data=pairs", "data.source=one", "data.target=two",
    "split.validation=0.3",
)  # fmt: skip


@pytest.fixture
def words(tmp_path):
    """Words of two letters, and their translations: each letter twice."""
    path = tmp_path / "pairs.jsonl"
    random = np.random.default_rng(0)
    texts = ["".join(random.choice([*"abcd"], n)) for n in random.integers(1, 12, 90)]
    path.write_text("".join(json.dumps({"one": text, "two": text * 2}) + "\n" for text in texts))
    return f"data.path={path}"


def alone(model, tokenizer, source, limit):
    """The greedy target of one source, every step computed anew."""
    target = [tokenizer.document_id]
    while len(target) <= limit and (len(target) == 1 or target[-1] != tokenizer.id("end")):
        target.append(int(model(source.unsqueeze(0), torch.tensor([target]))[0, -1].argmax()))
    return tokenizer.decode(token for token in target[1:] if token != tokenizer.id("end"))


def test_what_is_reported_is_what_the_model_generates(words, tmp_path):
    config = lab.compose(*RUN, words, "objective.translated=null")
    run = lab.train(config, tmp_path / "run")
    assert run.status == "finished", run.result["error"]
    loaded = lab.load(run.folder)
    model, tokenizer, data = loaded.model.eval(), loaded.tokenizer, data_module(config)
    examples = data.prepared.examples
    nats, found, lengths = [], [], []
    with torch.no_grad():
        for number in range(len(examples)):
            row = data.validation_rows.batch(np.array([number]))
            scores = model(row.source, row.tokens)[0].log_softmax(-1)
            nats += (-scores.gather(1, row.targets[0].unsqueeze(1))[:, 0]).tolist()
            found.append(alone(model, tokenizer, row.source[0], min(2 * row.source.shape[1] + 10, 39)))
            lengths.append(row.source.shape[1] - 1)
    true = [example.texts[1] for example in examples]
    assert run.result["val/loss"] == pytest.approx(np.mean(nats), rel=1e-4)
    assert run.result["val/chrf"] == pytest.approx(sacrebleu.corpus_chrf(found, [true]).score)
    assert run.result["val/bleu"] == pytest.approx(sacrebleu.corpus_bleu(found, [true]).score)
    assert run.result["val/exact"] == pytest.approx(
        np.mean([one == other for one, other in zip(found, true, strict=True)])
    )
    bands = {key.rpartition("_")[2]: value for key, value in run.result.items() if key.startswith("val/chrf/source_")}
    assert bands
    for key, value in bands.items():
        first, _, last = key.partition("-")
        inside = [i for i, length in enumerate(lengths) if int(first) <= length <= int(last or first)]
        assert value == pytest.approx(
            sacrebleu.corpus_chrf([found[i] for i in inside], [[true[i] for i in inside]]).score
        )
    speeds = [key for key in run.result if key.startswith("train/tokens_per_second/source_")]
    assert speeds
    assert all(run.result[key] > 0 for key in speeds)
    parts = lab.report(run.folder).to_json()["tables"][0]["parts"]
    assert list(parts) == [*(f"val/chrf/source_{key}" for key in bands), *speeds]
    assert all(value == [run.result[key]] for key, value in parts.items())
    assert lab.translate(loaded, [example.texts[0] for example in examples]) == found
    with pytest.raises(RequestError, match=r"^text 2: 0 tokens; from 1 to 39"):
        lab.translate(loaded, ["ab", ""])


def test_the_loss_is_smoothed_and_flops_count_both_sides(words, tmp_path):
    config = lab.compose(*RUN, words)
    data = data_module(config)
    batch = data.training_batch(0)
    model = lab.build(config, vocab_size=data.prepared.tokenizer.vocab_size)
    objective = SequenceToSequence(model=model, optimizer=None, prepared=data.prepared, smoothing=0.2)
    logits = model(batch.source, batch.tokens, batch.source_layout, batch.layout)
    flat = logits.flatten(0, 1), batch.targets.flatten()
    expected = torch.nn.functional.cross_entropy(*flat, label_smoothing=0.2, reduction="sum")
    assert objective.nats(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    pairs = zip(batch.lengths, batch.source_lengths, strict=True)
    assert objective.flops(batch) == sum(float(model.pair_flops([t], [s])[0]) for t, s in pairs)
    assert batch.read == batch.lengths.sum() + batch.source_lengths.sum()


@pytest.mark.parametrize(("wanted", "found"), [(7, 7), (1, 1), (1000, None), (None, None)])
def test_translated_examples_are_spread_evenly(words, wanted, found):
    data = data_module(lab.compose(*RUN, words))
    count = len(data.prepared.examples)
    objective = SequenceToSequence(
        model=torch.nn.Linear(1, 1), optimizer=None, prepared=data.prepared, translated=wanted
    )
    chosen = sorted(objective._chosen)
    assert len(chosen) == (found or count)
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_a_task_gives_its_question_and_wants_its_answers(tmp_path):
    for task, answer in (("copy", slice(None)), ("reverse", slice(None, None, -1))):
        config = lab.compose("preset=transformer_2017_pairs", f"data={task}", "data.train=64", "data.validation=10")
        data = data_module(config)
        batch = data.training_batch(0)
        for row in range(len(batch.source)):
            *question, ask, end = batch.source[row, : batch.source_lengths[row]].tolist()
            *target, last = batch.targets[row, : batch.lengths[row]].tolist()
            assert (ask, end, last) == (1, 0, 0)
            assert target == question[answer]
            assert batch.tokens[row, : batch.lengths[row]].tolist() == [0, *target]
        recall = data_module(lab.compose("preset=transformer_2017_pairs", "data=multi_recall", "data.train=64"))
        assert (recall.training_batch(0).lengths == 8 + 1).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    {
        "objective.smoothing=1": r"^objective\.smoothing: 1.* from 0 to under 1",
        "objective.beam=0": r"^objective\.beam: 0; a whole number, at least 1",
        "objective.translated=0": r"^objective\.translated: 0; a whole number",
        "objective.penalty=-1": r"^objective\.penalty: -1.*; a number, 0 or more",
    }.items(),
)
def test_values_out_of_range_are_refused(words, tmp_path, wrong, message):
    with pytest.raises(RequestError, match=message):
        lab.train(lab.compose(*RUN, words, wrong), tmp_path / "run")


@pytest.mark.parametrize(
    ("request_", "message"),
    {
        "objective=seq2seq data=reverse": r"trains model=encoder_decoder.*; add ",
        "model=encoder_decoder": r"^objective=causal: trains model=decoder.*add .*objective=span",
        "model=encoder_decoder objective=seq2seq": r"^objective=seq2seq: .* pairs or task.*docs is text; add objective=span",
    }.items(),
)
def test_families_that_do_not_fit_are_refused_with_the_words_to_add(request_, message):
    with pytest.raises(RequestError, match=message):
        lab.compose(*request_.split())


@pytest.mark.long
def test_two_devices_report_what_one_does(words, tmp_path):
    """Each device translates examples of its own, of other lengths, in other numbers of steps."""
    wanted = (*RUN, words, "objective.translated=7", "budget.steps=12")
    one = lab.train(lab.compose(*wanted), tmp_path / "one").result
    two = lab.train(lab.compose(*wanted, "trainer=ddp", "trainer.devices=2"), tmp_path / "two").result
    assert two["status"] == "finished", two["error"]
    judged = [key for key in one if key.startswith(("val/chrf", "val/bleu", "val/exact"))]
    assert {key: two[key] for key in judged} == pytest.approx({key: one[key] for key in judged})
    assert two["val/loss"] == pytest.approx(one["val/loss"], rel=1e-4)


def sharded_evaluation(rank, port):
    """On one of two ranks: what a validation step gives of a model that is whole, and of one whose parameters are shared out.
    The ranks have other numbers of rows, and decode in other numbers of steps.
    """
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    data = data_module(lab.compose("preset=transformer_2017_pairs", "data.train=64", "data.validation=11"))
    model = lab.build(lab.compose("preset=transformer_2017_pairs", "model.dim=32"), data.prepared.tokenizer.vocab_size)
    settings = {"longest": (2.0, 0.0)[rank], "translated": None, "prepared": data.prepared}
    objective = SequenceToSequence(model=model, optimizer=None, **settings).eval()
    batch = data.validation_rows.batch(np.array(([0, 1, 2], [7, 8])[rank]))
    whole = objective.validation_step(batch, 0)
    # As Lightning's strategy wraps and calls it.
    shared = FullyShardedDataParallel(objective, device_id=torch.device("cpu"), use_orig_params=True)
    with torch.no_grad():
        parts = _ForwardRedirection()(shared, objective, "validation_step", batch, 0)
    assert len(whole[1]) == (3, 2)[rank]
    assert parts[1] == whole[1]
    torch.testing.assert_close(parts[0], whole[0])
    torch.distributed.destroy_process_group()


@pytest.mark.long
def test_a_shared_out_model_is_judged_as_a_whole_one():
    torch.multiprocessing.spawn(sharded_evaluation, (_free_port(),), nprocs=2)
