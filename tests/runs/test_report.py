"""The report in all its forms: what it says, nothing lost in JSON and CSV, a page that stands alone."""

import csv
import io
import json
import os
import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from rich.console import Console

from lab.cli import main
from lab.errors import RequestError
from lab.runs.comparison import method, numbers, words
from lab.runs.comparison.charts import chart_data
from lab.runs.report import report
from lab.runs.terms import Terms
from tests.runs.synthetic import write_ladder, write_run, write_scale, write_search

NASTY = "+note=<b onclick=x>&\"'</script>"


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ladder"
    write_ladder(folder, seeds=4)
    bad = {"configuration": "hash3", "status": "diverged", "error": "loss became nan at step 7"}
    write_run(folder / "bad", ["preset=ladder_3_rope"], None, 9, **bad)
    return folder


def printed(made, width):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    made.print(console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_keeps_its_width_and_says_everything(ladder, width):
    made = report([ladder], "previous")
    text = printed(made, width)
    table = [line for line in text.splitlines() if "`wandb" not in line]
    assert max(map(len, table)) <= width
    assert "\x1b" not in text
    flat = " ".join(text.split())
    for comparison in made.results.comparisons:
        assert words.sentence(comparison, made.results.tables[0], against=False) in flat
    assert "seed 9: diverged, loss became nan at step 7" in flat
    assert method.said(made.results) in flat
    for column in (
        "parameters",
        "FLOPs",
        "tokens",
        "seeds",
        "bits per byte",
        "verdict",
        "time",
        "tokens/s",
        "memory",
    ):
        assert column in flat


def test_parts_of_the_measure_are_told_apart_and_named_however_narrow(tmp_path):
    spans = ("2-3", "4-7", "8-15", "16-31", "32-63")
    parts = {f"val/accuracy/distance_{span}": 0.5 + i / 10 for i, span in enumerate(spans)}
    judged = {"headline": {"name": "val/accuracy", "unit": "", "direction": "maximize"}, "val/accuracy": 0.7, **parts}
    for name in ("attention", "recurrent_models_of_a_long_name"):
        write_run(tmp_path / name, [f"preset={name}"], None, 0, configuration=name, **judged)
    shown = printed(report([tmp_path]), 80)
    heading, rows = shown.split("val/accuracy, by distance")[1].strip().split("\n", 1)
    assert heading.split()[-5:] == list(spans)
    assert rows.split("attention")[1].split()[:2] == ["0.5", "0.6"]
    assert all(len(line) <= 80 for line in rows.splitlines()[:4])


@pytest.mark.parametrize(
    ("one", "other", "labels"),
    [
        (["attention=mha"], ["attention=gqa", "model.layers=4"], ["attention=mha", "attention=gqa"]),
        (
            ["attention=mha", "optimizer.lr=1e-3"],
            ["attention=gqa", "optimizer.lr=0.001"],
            ["attention=mha", "attention=gqa"],
        ),
        (
            ["attention=mha", "split.holdout=[a,b]"],
            ["attention=gqa"],
            ["attention=mha split.holdout=[a,b]", "attention=gqa"],
        ),
    ],
)
def test_what_is_written_apart_and_means_the_same_is_no_difference(tmp_path, one, other, labels):
    for name, overrides in (("one", one), ("other", other)):
        folder = write_run(tmp_path / name, overrides, 2.0, configuration=name)
        path = folder / "config.yaml"
        path.write_text(path.read_text() + "\nmodel: {layers: 4}\n" if path.exists() else "model: {layers: 4}\n")
    made = report([tmp_path])
    assert [each.label for each in made.results.tables[0].configurations] == labels
    with pytest.raises(RequestError, match=r"--scale split.holdout: is no number that differs"):
        report([tmp_path], scale=["split.holdout"])


def test_a_moved_folder_names_its_own_files(tmp_path):
    for seed in range(2):
        place = tmp_path / "old" / f"{seed}" / "wandb" / "offline-run-1"
        folder = write_run(tmp_path / "old" / f"{seed}", ["attention=mha"], 2.0, seed, wandb=str(place))
        place.mkdir(parents=True)
        assert folder.exists()
    (tmp_path / "old").rename(tmp_path / "new")
    assert words.wandb_places(report([tmp_path / "new"]).results) == [
        str(tmp_path / "new" / f"{seed}" / "wandb" / "offline-run-1") for seed in range(2)
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_reported_all_the_same(tmp_path, capfd):
    write_run(tmp_path / "s" / "one", ["attention=mha"], 2.0)
    (tmp_path / "s").chmod(0o500)
    assert main(["report", str(tmp_path / "s")]) == 0
    said = capfd.readouterr()
    assert "--html FILE writes the page elsewhere" in said.err
    assert "bits per byte" in said.out


def test_the_page_of_an_experiment_stays(tmp_path):
    for option in ("mha", "gqa"):
        write_run(tmp_path / "q" / "compare" / option, [f"attention={option}"], 2.0, configuration=option)
    Terms(claim=("better: attention=gqa over attention=mha",)).write(tmp_path / "q" / "compare")
    (tmp_path / "q" / "report.html").write_text("the claim")
    assert main(["report", str(tmp_path / "q")]) == 0
    assert (tmp_path / "q" / "report.html").read_text() == "the claim"
    assert (tmp_path / "q" / "comparison.html").exists()


def test_a_sentence_says_what_was_found(ladder):
    made = report([ladder], "previous")
    table = made.results.tables[0]
    first = table.comparisons[0]
    assert re.fullmatch(
        r"preset=ladder_1_pre_norm lowers bits per byte by 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\] "
        r"over 4 paired seeds: better\.",
        words.sentence(first, table, against=False),
    )
    assert words.unmatched(table.comparisons[-1]) == "not at equal cost: parameters −5.8%, training FLOPs −5.8%"


def test_json_holds_all_and_survives_a_round_trip(ladder):
    document = report([ladder], "previous").to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    table = document["tables"][0]
    assert table["configurations"][0]["label"] == "preset=ladder_0_2017"
    for each in table["configurations"]:
        assert each["seeds"] == [0, 1, 2, 3]
        assert each["mean"] == pytest.approx(sum(each["values"].values()) / 4)
        assert each["command"] == f"lab train -m {each['label']} trainer.threads=2 seed=0,1,2,3"
        assert None not in (each["parameters"], each["flops"], each["tokens_seen"], each["peak_memory_bytes"])
    assert [each["whole_road"] for each in table["comparisons"]] == [False] * 6 + [True]
    for each in table["comparisons"]:
        assert each["low"] < each["difference"] < each["high"]
        assert each["p"] <= each["p_holm"]
    assert document["not_counted"][0]["error"] == "loss became nan at step 7"
    assert len(document["wandb"]) == 28


def test_csv_reads_back_to_the_same_numbers(ladder, tmp_path):
    made = report([ladder], "ladder_0_2017")
    made.write_table(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        rows = {row["configuration"]: row for row in csv.DictReader(file)}
    table = made.results.tables[0]
    assert list(rows) == [each.label for each in table.configurations]
    for comparison in table.comparisons:
        row = rows[comparison.configuration.label]
        assert float(row["difference"]) == comparison.difference.mean
        assert float(row["mean"]) == comparison.configuration.mean
        assert row["verdict"] == comparison.verdict
    assert rows[table.baseline.label]["difference"] == ""


class Addresses(HTMLParser):
    """What a page would load, and the text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.loads, self.text, self.skip, self.tags = [], [], None, []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.skip = tag if tag in ("script", "style") else self.skip
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag):
        self.skip = None if tag == self.skip else self.skip

    def handle_data(self, data):
        if self.skip is None:
            self.text.append(data)


def test_the_page_loads_nothing_and_draws_from_its_own_data(ladder, tmp_path):
    made = report([ladder], "previous")
    made.write_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    parser = Addresses()
    parser.feed(page)
    assert parser.loads == ["#not-counted"]
    own = page.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert len(page) < 200_000
    assert not re.search(r"(https?:)?//\w+\.\w", own)
    assert "default-src 'none'" in page
    assert re.search(r"\{\{ \w+ \}\}", own) is None
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', own)[1])
    assert data == json.loads(json.dumps([chart_data(table) for table in made.results.tables]))
    text = " ".join(" ".join(parser.text).split())
    for said in (
        "Of 6 swaps",
        "The whole road",
        "better",
        *(text for _, text in method.parts(made.results)),
        "loss became nan at step 7",
    ):
        assert said in text
    assert f"Page: {tmp_path / 'page.html'}" in printed(made, 80)


def test_whatever_comes_from_a_run_folder_is_escaped(tmp_path):
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", ["attention=mha"], 2.0 + seed / 100, seed)
        write_run(tmp_path / f"b{seed}", [NASTY], 2.1 + seed / 90, seed)
    write_run(tmp_path / "<i>", [NASTY], None, 9, status="failed", error="\x1b[31m<script>\nsecond line")
    made = report([tmp_path])
    made.write_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    own = page
    assert "<b onclick" not in own
    assert "<script>\nsecond" not in own
    assert own.count("</script>") == 2
    parser = Addresses()
    parser.feed(own)
    assert NASTY.partition("=")[2] in "".join(parser.text)
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', own)[1])
    assert any(NASTY.partition("=")[2] in each["label"] for each in data[0]["configurations"])
    script = (resources.files("lab.runs.comparison") / "page.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    text = printed(made, 200)
    assert "\x1b" not in text
    assert "\\x1b[31m<script> second line" in text


def test_a_page_of_a_search_and_of_a_scale_hold_what_they_are_about(tmp_path):
    searched, scaled = report(write_search(tmp_path / "search", 20)), write_scale(tmp_path / "scale")
    searched.write_html(tmp_path / "search.html")
    page = (tmp_path / "search.html").read_text("utf-8")
    assert page.index("Hyperparameters</h2>") < page.index('class="cards"')
    assert "fANOVA" in page
    data = chart_data(searched.results.tables[0])
    assert [each["name"] for each in data["hyperparameters"]] == ["optimizer.lr", "model.dim", "norm", "position"]
    assert [each["log"] for each in data["hyperparameters"]] == [True, False, False, False]
    made = report(scaled, scale=["model.dim"], margin=0.01)
    made.write_html(tmp_path / "scale.html")
    page = (tmp_path / "scale.html").read_text("utf-8")
    for line in words.scaling(made.scalings[0], made.results.tables[0]):
        assert line in page
        assert line in " ".join(printed(made, 300).split())
    json.dumps(made.to_json(), allow_nan=False)
    assert made.to_json()["tables"][0]["scaling"]["trends"][0]["verdict"] == "goes away with scale"


def test_a_sweep_that_searched_is_a_search_however_few_finished(tmp_path):
    folder = write_search(tmp_path / "sweep", 3)
    (folder / "sweep.yaml").write_text("method: bayes")
    write_run(folder / "p", ["optimizer.lr=0.123456789", "norm=none"], 2.9, 0, "p", status="pruned", steps=40)
    plan = [
        {"folder": f"p{seed}", "overrides": ["optimizer.lr=0.123456789", "norm=none", f"seed={seed}"]}
        for seed in (1, 2)
    ]
    plan.append({"folder": "other", "overrides": ["optimizer.lr=1", "seed=0"]})
    (folder / "plan.json").write_text(json.dumps(plan))
    made = report(folder)
    made.write_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<h1>The best of 3 configurations that finished reaches" in page
    assert "behind the others at step 40, val/bpb 2.9" in page
    assert words.waiting(made.results) == (
        "1 planned run has not started, 2 not run, since another seed of the configuration was given up"
    )
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page)[1])
    assert data[0]["apart"] == [{"label": "optimizer.lr=0.123456789 norm=none", "status": "pruned"}]
    rates = next(axis for axis in data[0]["hyperparameters"] if axis["name"] == "optimizer.lr")
    assert rates["values"][3] == 0.123456789


def test_what_the_rule_says_follows_what_was_asked(ladder):
    plain, margin, looked = (
        method.said(report(ladder, "previous", *asked).results) for asked in ((), (0.02,), (0.02, (), 6))
    )
    assert "margin" not in plain
    assert "Holm" in plain
    assert "±0.02" in margin
    assert "at most 6" in looked
    assert "t-test" not in looked
    document = report(ladder, "previous", most_seeds=6).to_json()
    assert document["most_seeds"] == 6
    assert {each["verdict"] for each in document["tables"][0]["comparisons"]} <= {"better", "undecided"}


def test_flags_of_the_command(ladder, tmp_path, capsys):
    page, table = tmp_path / "page.html", tmp_path / "table.md"
    flags = ["--baseline", "previous", "--html", str(page), "--margin", "0.02", "--table", str(table), "--json"]
    assert main(["report", str(ladder), *flags]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["margin"] == 0.02
    assert page.exists()
    assert table.exists()
    for wrong, said in (
        (["--margin", "-1"], "--margin -1.0"),
        (["--table", "table.doc"], "--table table.doc: a table ends in one of .csv, .parquet, .tex, .md"),
        (["--scale", "model.dim"], "--scale model.dim: is no number that differs"),
        (["--most-seeds", "3"], "4 pairs with at most 3"),
        (["--measure", "val/los"], "--measure val/los: no run holds such a number"),
        (["--scale", "model.dim", "--baseline", "previous"], "choose one"),
    ):
        assert main(["report", str(ladder), "--html", str(page), *wrong]) == 2
        assert said in capsys.readouterr().err


def test_another_measure_is_asked_for(ladder):
    made = report(ladder, "previous", measure="tokens_per_second")
    table = made.results.tables[0]
    assert (table.measure.name, table.measure.direction) == ("tokens_per_second", "max")
    assert [each.mean for each in table.configurations] == [13_560.0] * 7
    assert report(ladder, measure="val/bpb").results.tables[0].measure.unit == "bits per byte"


def test_the_page_of_several_sweeps_lies_around_them(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_run(tmp_path / name / "run", [f"attention={name}"], 2.0)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "a", str(tmp_path / "b")]) == 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]
    assert main(["report", "a"]) == 0
    assert (tmp_path / "a" / "report.html").is_file()


def test_curves_are_means_over_seeds_with_their_range(tmp_path):
    for seed, losses in enumerate(([4.0, 3.0, 2.0], [6.0, 4.0])):
        folder = write_run(tmp_path / str(seed), ["attention=mha"], 2.0, seed)
        rows = [f"{step},{step * 10},{step * 99},{step}.5,,,{loss},0.1" for step, loss in enumerate(losses, 1)]
        header = "step,tokens,flops,seconds,train/loss,val/loss,val/bpb,lr"
        (folder / "metrics.csv").write_text("\n".join([header, *rows]) + "\n3,3")
    curve = chart_data(report([tmp_path]).results.tables[0])["configurations"][0]["curves"]["val/bpb"]
    assert curve["mean"] == [5.0, 3.5]
    assert (curve["low"], curve["high"]) == ([4.0, 3.0], [6.0, 4.0])
    assert curve["tokens"] == [10, 20]


def test_optional_keys_may_be_missing(tmp_path):
    optional = [
        "headline",
        "val/loss",
        "parameters",
        "parameters_active",
        "flops",
        "tokens_seen",
        "seconds",
        "threads",
    ]
    optional += [
        "tokens_per_second",
        "peak_memory_bytes",
        "choices",
        "configuration",
        "data_fingerprint",
        "versions",
    ]
    optional += [
        "tokenizer/lost_share",
        "started",
        "wandb",
        "error",
        "overrides",
        "steps",
        "train/loss",
        "devices",
    ]
    for seed in range(3):
        for name, value in (("attention=mha", 2.0), ("attention=mqa", 2.2)):
            folder = write_run(tmp_path / f"{name}{seed}", [name], value + seed / (50 + value), seed, without=optional)
            (folder / "metrics.csv").unlink()
    made = report([tmp_path], "mha")
    assert made.results.comparisons[0].verdict == "worse"
    assert "–" in printed(made, 80)
    json.dumps(made.to_json(), allow_nan=False)
    made.write_table(tmp_path / "t.csv")
    made.write_html(tmp_path / "p.html")
    assert "left no metrics.csv" in (tmp_path / "p.html").read_text("utf-8")


def test_a_damaged_run_among_others_is_listed_and_the_rest_reported(ladder, tmp_path):
    write_run(tmp_path / "good", ["attention=mha"], 2.0)
    for name, content in (
        ("cut", '{"status": "fin'),
        ("list", "[]"),
        ("bytes", b"\xff\xfe".decode("latin1")),
        ("deep", "[" * 100_000),
        ("half", '{"status": "finished", "overrides": ["ffn=\\ud800"]}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(content, encoding="latin1")
    results = report([tmp_path]).results
    assert len(results.tables) == 1
    assert {(run.folder.name, run.status) for _, run, _ in results.not_counted} == {
        ("cut", "unreadable"),
        ("list", "unreadable"),
        ("bytes", "unreadable"),
        ("deep", "unreadable"),
        ("half", "unreadable"),
    }


def test_numbers_that_no_run_has_do_no_harm(tmp_path):
    write_run(tmp_path / "huge", ["attention=mha"], 2.0, flops=10**400, vocab_size=[3])
    write_run(tmp_path / "usual", ["attention=mqa"], 2.0)
    made = report(tmp_path)
    made.write_html(tmp_path / "page.html")
    assert made.results.tables[0].configurations[0].average("flops") is None


def test_a_run_without_a_result_is_listed(tmp_path):
    write_run(tmp_path / "good", ["attention=mha"], 2.0)
    killed = write_run(tmp_path / "killed", ["attention=mqa"], 2.0)
    (killed / "result.json").unlink()
    assert "attention=mqa seed 0: no result, still running, or killed" in printed(report([tmp_path]), 200)


def test_nothing_finished_is_a_report_too(tmp_path):
    write_run(tmp_path / "bad", ["attention=mha"], None, status="failed", error="out of memory")
    made = report([tmp_path])
    assert "No run is finished" in printed(made, 80)
    made.write_html(tmp_path / "page.html")
    assert "out of memory" in (tmp_path / "page.html").read_text("utf-8")


def test_wrong_folders_are_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "result.json").write_text("{")
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text('{"a": 1}')
    for name, said in (
        ("missing", "does not exist"),
        ("file", "is not a folder"),
        ("empty", "no run in"),
        ("damaged", "result.json: damaged"),
        ("plan", "plan.json is damaged"),
    ):
        with pytest.raises(RequestError, match=said) as refused:
            report([tmp_path / name])
        assert str(tmp_path / name) in str(refused.value)


@pytest.mark.parametrize("write", ["write_table", "write_html"])
def test_a_path_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, write):
    write_run(tmp_path / "run", ["attention=mha"], 2.0)
    made = report(tmp_path / "run")
    (tmp_path / "taken.csv").mkdir()
    for path in (tmp_path / "missing" / "x.csv", tmp_path / "taken.csv"):
        with pytest.raises(RequestError, match=re.escape(f"{path} cannot be written")):
            getattr(made, write)(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run", "taken.csv"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.scaled(3_412_224), "3.41 M"),
        (numbers.scaled(999_600), "1.00 M"),
        (numbers.scaled(16.8e12), "16.8 T"),
        (numbers.scaled(0), "0"),
        (numbers.scaled(None), "–"),
        (numbers.duration(41.27), "41.3 s"),
        (numbers.duration(245), "4 m 05 s"),
        (numbers.duration(7620), "2 h 07 m"),
        (numbers.memory(612_000_000), "584 MiB"),
        (numbers.memory(3 * 2**30), "3.00 GiB"),
        (numbers.signed(-0.1234, 3), "−0.123"),
        (numbers.percent(0.12), "+12%"),
    ],
)
def test_numbers_are_said_with_their_units(shown, expected):
    assert shown == expected


def test_numbers_that_are_none_are_words(tmp_path):
    for number, clip in enumerate(("inf", "nan", "1", "2", "3", "4", "5", "6", "7", "8")):
        write_run(
            tmp_path / str(number), [f"trainer.clip={clip}", f"optimizer.lr={0.001 * (number + 1)}"], 2.0 + number / 10
        )
    report(tmp_path).write_html(tmp_path / "page.html")
    assert "trainer.clip" in (tmp_path / "page.html").read_text()


def test_a_measure_is_escaped_on_its_page(tmp_path):
    measure = "loss<img src=x>"
    for number in range(14):
        write_run(tmp_path / str(number), [f"optimizer.lr={number + 1}"], 2.0, **{measure: 2.0 + number})
    report(tmp_path, measure=f"{measure}:min").write_html(tmp_path / "page.html")
    assert "<img" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("sizes", "warns"), [((512, 2048), True), ((512, 512), False)])
def test_losses_over_other_tokens_are_said_not_to_compare(tmp_path, sizes, warns):
    for place, size in enumerate(sizes):
        write_run(tmp_path / str(place), [f"model.dim={place}"], 2.0, vocab_size=size)
    report(tmp_path).write_html(tmp_path / "page.html")
    assert ("do not compare" in (tmp_path / "page.html").read_text("utf-8")) is warns


def test_a_number_has_its_key_where_no_heading_says_it(tmp_path):
    for size in (512, 2048):
        for seed in range(3):
            write_run(
                tmp_path / f"{size}-{seed}", [f"tokenizer.vocab_size={size}"], 2.0 + size / 4096 + seed / 100, seed
            )
    report(tmp_path).write_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8").replace("<wbr>", "")
    assert page.count('<span class="key">vocab_size=</span>2048') >= 2
    table = page[page.index(">tokenizer.vocab_size</th>") :]
    assert "vocab_size=" not in table[: table.index("</table>")].split("data-command")[0]


def test_a_margin_that_a_sweep_fixed_is_the_headlines(tmp_path):
    """A share of 0.03 more right answers is not under 0.05 bits per byte."""
    for seed in range(5):
        for name, right in (("mha", 0.6), ("mqa", 0.63)):
            accuracy = {"val/accuracy": right + 0.001 * seed * (name == "mqa")}
            write_run(tmp_path / f"{name}{seed}", [f"attention={name}"], 2.0 + 0.001 * seed, seed, **accuracy)
    Terms(margin=0.05).write(tmp_path)
    assert report(tmp_path).results.rule.margin == 0.05
    other = report(tmp_path, measure="val/accuracy").results
    assert other.rule.margin is None
    assert [each.verdict for each in other.comparisons] == ["better"]
    assert report(tmp_path, measure="val/bpb").results.rule.margin == 0.05
    assert report(tmp_path, measure="val/accuracy", margin=0.05).results.rule.margin == 0.05
