"""Runs that go on from another: with its weights and tokenizer, composed as it was, or refused with the words to write."""

import json

import pytest
import torch

import lab
from lab.errors import RequestError
from lab.runs import folder as files
from lab.runs.start import check_start, origin
from lab.runs.train import continue_run, data_module, train

SIZES = ("model.dim=32", "model.context=32", "batch.rows=4", "split.max_bytes=2000", "trainer.validations=1")
PLAIN = ("preset=tiny", *SIZES, "logger=none", "trainer.threads=1", "trainer.log_every=1")


def base(corpus, *words):
    return lab.compose(
        *PLAIN, "budget.steps=3", "tokenizer.vocab_size=300", "data=files", f"data.path={corpus}", *words
    )


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory):
    """Runs of seeds 0 and 1, one that diverged, and one that was killed."""
    folder = tmp_path_factory.mktemp("pretrained")
    for seed in (0, 1):
        train(base(corpus, f"seed={seed}"), folder / f"seed{seed}")
    train(base(corpus, "seed=2", "optimizer=sgd", "optimizer.lr=1e30", "trainer.clip=null"), folder / "seed2")
    files.open_folder(folder / "killed", base(corpus, "seed=0"))
    return folder


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labelled.jsonl"
    rows = [{"text": f"{n} is {'odd' if n % 2 else 'even'}", "label": "odd" if n % 2 else "even"} for n in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def curve(folder):
    return [float(row["train/loss"]) for row in files.MetricsFile(folder / files.METRICS).read() if row["train/loss"]]


def test_a_run_goes_on_with_the_weights_and_the_tokenizer_of_another(corpus, pretrained, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": f"Other text, number {n}, with zebras."}) + "\n" for n in range(200)))
    words = [f"start={pretrained / 'seed0'}", f"data.path={other}", "optimizer.lr=1e-30"]
    run = train(base(corpus, *words, "budget.steps=1"), tmp_path / "run")
    first = lab.load(pretrained / "seed0")
    assert run.status == "finished"
    assert run.result["start"] == str(pretrained / "seed0")
    assert run.tokenizer.inner.to_str() == first.tokenizer.inner.to_str()
    assert all(torch.equal(weight, first.weights[name]) for name, weight in run.weights.items())


def test_a_folder_of_runs_gives_each_seed_its_own_and_is_one_configuration(corpus, pretrained, tmp_path):
    configs = [base(corpus, f"start={pretrained}", f"seed={seed}", "optimizer.lr=1e-30") for seed in (0, 1)]
    runs = [train(config, tmp_path / f"run{config.seed}") for config in configs]
    assert [run.result["start"] for run in runs] == [str(pretrained / f"seed{seed}") for seed in (0, 1)]
    assert runs[0].result["configuration"] == runs[1].result["configuration"]
    assert lab.config.identity(configs[0]) != lab.config.identity(base(corpus))


def test_a_stopped_run_goes_on_from_its_own_checkpoint(corpus, pretrained, tmp_path):
    config = base(corpus, f"start={pretrained}", "budget.steps=6")
    whole = train(config, tmp_path / "whole")

    def interrupt(row):
        if row["step"] == 3:
            from lab.runs.signals import Stop

            Stop._open.requested = True

    assert train(config, tmp_path / "parts", observers=[interrupt]).status == "stopped"
    resumed = continue_run(tmp_path / "parts")
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert resumed.result["val/loss"] == whole.result["val/loss"]
    assert resumed.result["start"] == whole.result["start"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.dim=64", "model.layers=3"], r".* here; add model\.dim=32 model\.layers=2$"),
        (["ffn=dense_relu", "model.bias=true"], r".*another: .*; add ffn=gated model\.bias=false$"),
        (["position=learned"], r".*another: position\.table\.weight is in one of them alone; add position=rope$"),
        (["attention=mqa"], r".*another: .* there and .* here; add attention=mha$"),
        (["tokenizer=word"], r": brings a tokenizer of its own; add tokenizer=bpe$"),
        (["tokenizer.vocab_size=400"], r": brings a tokenizer of its own; add tokenizer\.vocab_size=300$"),
        (["model.special=[sep,end]"], r": brings a tokenizer of its own; add model\.special=\[\]$"),
        (["seed=5"], r": needs a run folder, or a folder with one finished run of seed 5; none of its 3 runs is one$"),
        (["seed=2"], r": needs a run folder, or a folder with one finished run of seed 2; none of its 3 runs is one$"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_words_to_write(corpus, pretrained, tmp_path, words, message):
    with pytest.raises(RequestError, match=rf"^start={pretrained}{message}"):
        train(base(corpus, f"start={pretrained}", *words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_words_that_are_named_mend_it(corpus, pretrained, tmp_path):
    """The preset of the other where that is shorter; then the run trains."""
    words = ["preset=gpt2_like", "optimizer.lr=1e-30", f"start={pretrained}", "budget.steps=1"]
    small = [word for word in base(corpus).overrides if not word.startswith(("preset", "budget", "model.dim"))]
    with pytest.raises(RequestError) as refused:
        train(lab.compose(*small, *words), tmp_path / "run")
    added = str(refused.value).partition("; add ")[2].split()
    assert added[0] == "preset=tiny"
    assert train(lab.compose(*small, *words[1:], *added), tmp_path / "run").status == "finished"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("seed2", r"that run is diverged; only a finished one can be used$"),
        ("killed", r"the run has no result\.json yet; it runs, or was killed"),
        ("nowhere", r"no such folder \(a relative path counts from .*\)$"),
    ],
)
def test_only_a_finished_run_is_gone_on_from(pretrained, place, message):
    with pytest.raises(RequestError, match=message):
        origin("start", str(pretrained / place), 0)


def encoder(corpus, labels, *words):
    small = [word for word in base(corpus).overrides if not word.startswith("data")]
    return lab.compose(*small, "data=labelled", f"data.path={labels}", "objective=classify", "model=encoder", *words)


def test_an_encoder_starts_from_an_encoder_alone_and_takes_its_head_along(corpus, labels, pretrained, tmp_path):
    with pytest.raises(RequestError, match=r"holds model=decoder, and this one is model=encoder$"):
        train(encoder(corpus, labels, "model.special=[]", f"start={pretrained}"), tmp_path / "crossed")
    first = train(encoder(corpus, labels), tmp_path / "first")
    words = [f"start={first.folder}", "optimizer.lr=1e-30", "objective.pool=mean", "init.std=0.5"]
    second = train(encoder(corpus, labels, *words), tmp_path / "second")
    assert second.status == "finished", second.result["error"]
    assert all(torch.equal(weight, first.weights[name]) for name, weight in second.weights.items())
    assert second.model.state_dict().keys() == first.weights.keys()
    assert first.head["weight"].count_nonzero()
    assert all(torch.equal(weight, first.head[name]) for name, weight in second.head.items())


def test_a_head_of_other_labels_or_of_another_objective_begins_anew_and_that_is_said(corpus, labels, tmp_path, capfd):
    first = train(encoder(corpus, labels, "budget.steps=1"), tmp_path / "first")
    others = tmp_path / "others.jsonl"
    others.write_text(labels.read_text().replace('"even"', '"pair"'))
    words = [f"start={first.folder}", "optimizer.lr=1e-30", "budget.steps=1", "init.std=0.5"]
    run = train(encoder(corpus, others, *words), tmp_path / "others")
    assert capfd.readouterr().err.count("the head of objective=classify begins anew") == 1
    assert run.result["labels"] == ["odd", "pair"]
    assert not torch.equal(run.head["weight"], first.head["weight"])
    assert all(torch.equal(weight, first.weights[name]) for name, weight in run.weights.items())
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"source": f"{n} is", "target": f"odd {n}"}) + "\n" for n in range(200)))
    train(encoder(corpus, pairs, *words, "data=pairs", "objective=contrastive"), tmp_path / "headless")
    assert "begins anew" not in capfd.readouterr().err
    rank = ["data=pairs", "objective=rank", f"objective.first_stage={first.folder}", "objective.depth=2"]
    train(encoder(corpus, pairs, *words, *rank), tmp_path / "rank")
    said = " ".join(capfd.readouterr().err.split())
    assert "the head of objective=rank begins anew; that one is of objective=classify" in said


@pytest.mark.long
def test_two_processes_start_and_validate_as_one_does(corpus, labels, tmp_path):
    """A head of its own, a part of the model that gets no gradient, and a rank that has no text left to validate."""
    words = ["embedding=untied", "batch.accumulate=2", "split.max_bytes=130", "packing=padded"]
    first = train(encoder(corpus, labels, *words), tmp_path / "first")
    assert len(data_module(first.config).validation_rows) % 2
    words += [f"start={first.folder}"]
    one = train(encoder(corpus, labels, *words), tmp_path / "one")
    two = train(encoder(corpus, labels, *words, "trainer=ddp", "trainer.devices=2"), tmp_path / "two")
    assert two.status == "finished", two.result["error"]
    assert curve(two.folder) == pytest.approx(curve(one.folder), rel=1e-5)
    assert two.result["start"] == one.result["start"] == str(first.folder)
    for key in ("val/loss", "val/accuracy", "val/macro_f1", "tokens_seen", "flops"):
        assert two.result[key] == pytest.approx(one.result[key], rel=1e-5), key


def test_what_fits_and_is_another_all_the_same_is_said(corpus, pretrained, tmp_path, capfd):
    config = base(corpus, f"start={pretrained}", "position=none", "model.dropout=0.1", "budget.steps=1")
    train(config, tmp_path / "run")
    said = "was trained with position=rope model.dropout=0.0"
    assert said in " ".join(capfd.readouterr().err.split())


def test_a_sweep_compares_with_and_without(lab, corpus, pretrained, tmp_path):
    words = [word for word in base(corpus).overrides if not word.startswith("budget")]
    sweep = {
        "method": "grid", "program": "lab", "command": ["${env}", "lab", "train", "${args_no_hyphens}"],
        "metric": {"name": "val/bpb", "goal": "minimize"},
        "parameters": {"start": {"values": ["none", str(pretrained)]}, "seed": {"values": [0, 1]}},
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    ended = lab("sweep", "sweep.yaml", *words, "budget.steps=1", "--folder", "out", "--json")
    assert ended.code == 0, ended.err
    results = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob(f"*/{files.RESULT}"))]
    assert sorted(str(result["start"]) for result in results) == sorted(
        ["None", "None", *(str(pretrained / f"seed{seed}") for seed in (0, 1))]
    )
    assert len({result["configuration"] for result in results}) == 2
    assert lab("train", "-m", *words, "budget.steps=1", f"start=none,{pretrained}").code == 0


def test_in_a_sweep_it_is_the_run_that_agrees_with_this_one(corpus, tmp_path):
    """Several configurations with one seed: the budget and the length of the rows may be others."""
    for name in ("rope", "sinusoidal"):
        train(base(corpus, f"position={name}", "budget.steps=1"), tmp_path / name)
    for name in ("rope", "sinusoidal"):
        words = [f"start={tmp_path}", f"position={name}", "model.context=64", "budget.steps=0"]
        assert origin("start", str(tmp_path), 0, base(corpus, *words)).folder == tmp_path / name
    with pytest.raises(RequestError, match="2 of its 2 runs is one, and no single one agrees with"):
        origin("start", str(tmp_path), 0, base(corpus, "position=learned"))


def test_in_a_sweep_a_head_comes_from_that_run_too(corpus, labels, tmp_path):
    for name in ("rope", "sinusoidal"):
        train(encoder(corpus, labels, f"position={name}", "budget.steps=1"), tmp_path / "sweep" / name)
    words = [f"start={tmp_path / 'sweep'}", "position=rope", "budget.steps=0"]
    run = train(encoder(corpus, labels, *words), tmp_path / "run")
    first = lab.load(tmp_path / "sweep" / "rope")
    assert run.result["start"] == str(first.folder)
    assert all(torch.equal(weight, first.head[name]) for name, weight in run.head.items())


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (["split.validation=0.3"], r"add split\.validation=0\.05$"),
        (["split.by=kind"], r"add split\.by=null$"),
        (["split.validation=0.01"], None),
        (["split.max_bytes=null"], None),
    ],
)
def test_what_was_learnt_is_not_validated(corpus, pretrained, tmp_path, split, message):
    """Neither by a run that starts from one, nor by one that starts from that."""
    run = train(base(corpus, f"start={pretrained}", "budget.steps=0", "split.validation=0.04"), tmp_path / "between")
    for origin_of in (pretrained / "seed0", run.folder):
        config = base(corpus, f"start={origin_of}", "budget.steps=0", *split)
        if message is None:
            check_start(config)
            continue
        with pytest.raises(RequestError, match=rf"^start={origin_of}: .* was trained on documents"):
            check_start(config)
    if message:
        with pytest.raises(RequestError, match=message):
            check_start(base(corpus, f"start={pretrained}", *split))


def test_what_was_learnt_as_text_is_not_validated_with_labels(corpus, pretrained):
    labelled = ["data=labelled", f"data.path={corpus}", "objective=classify", "data.label=text", f"start={pretrained}"]
    same = ["tokenizer.vocab_size=300", "budget.steps=1"]
    with pytest.raises(RequestError, match=r"was trained on documents .*; add split\.validation=0\.05$"):
        check_start(lab.compose(*PLAIN, *same, *labelled, "split.validation=0.3"))
    check_start(lab.compose(*PLAIN, *same, *labelled, "split.validation=0.3", "data.text=other"))
    for few in ("data.per_label=8", "data.per_label=null"):
        check_start(lab.compose(*PLAIN, *same, *labelled, few))


def test_other_data_is_not_asked_for_its_split(corpus, pretrained, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_bytes(corpus.read_bytes())
    check_start(base(other, f"start={pretrained}", "split.validation=0.5"))
    here = f"{corpus.parent}/../{corpus.parent.name}/{corpus.name}"
    with pytest.raises(RequestError, match="was trained on documents"):
        check_start(base(here, f"start={pretrained}", "split.validation=0.5"))
