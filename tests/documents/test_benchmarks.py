"""The benchmark's own arithmetic: bodies, parsing, memory, the report. Nothing here measures speed."""

import hashlib
import mmap
import os
import subprocess
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks import processes, report, summary_accuracy, trained_t5, tuning, wrk
from benchmarks.bodies import EMBEDDINGS, KINDS, MIXED, SHORT, SIM, token_count
from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.environments import ROOT
from benchmarks.inprocess import micro_batches
from benchmarks.interleaved import share, together
from benchmarks.options import Options
from benchmarks.results import Results, Sample, show
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.bound import flops
from benchmarks.weights import model_folder

CAPTURED = """\
Running 1s test @ http://127.0.0.1:8955/sim
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.32ms    1.21ms  10.55ms   87.39%
    Req/Sec     1.69k   313.63     2.40k    72.73%
  1848 requests in 1.10s, 0.98MB read
  Non-2xx or 3xx responses: 1848
Requests/sec:   1680.35
Transfer/sec:      0.89MB
{"requests": 1848, "duration_us": 1099770, "p50_us": 857, "p90_us": 2913, "p99_us": 5792, "max_us": 10552, \
"connect": 0, "read": 0, "write": 0, "status": 1848, "timeout": 0}
"""
MACHINE = {
    "date": "2024-06-07",
    "processor": "a processor",
    "flags": ["avx2", "avx512_bf16"],
    "cores": 2,
    "memory_gb": 16.0,
    "kernel": "6.1",
    "python": "3.11.0",
    "load_before": 0.0,
    "wrk": "wrk 4.1.0",
    "packages": {"this project": {"torch": "2.13.0"}},
}


def sample_results() -> Results:
    """Ours at ten times every peer's rate, except for infinity with one connection: one and a half times."""
    samples = []
    for round_number, drift in enumerate((0.9, 1.0, 5.0)):
        for name in ("ours", "naive", "litserve", "infinity"):
            for kind in KINDS:
                for n in (1, 32):
                    rate = 100.0 if name == "ours" else 10.0
                    if name == "infinity" and n == 1:
                        rate = 66.7
                    values = {"req_per_s": rate * drift, "p50_ms": 10.0, "p99_ms": 20.0, "requests": 9, "errors": 0}
                    samples.append(Sample(round_number, name, "load", f"{kind}/{n}", values))
            samples.append(Sample(round_number, name, "startup", "start", {"alive_s": 0.5, "ready_s": 4.0}))
            peak = {"pss_mb": 500.0 if name == "ours" else 900.0}
            samples.append(Sample(round_number, name, "memory", "peak", peak))
    samples.append(Sample(0, "in-process", "bound", "bfloat16/2", {"gflop_per_s": 456.0}))
    samples.append(Sample(0, "in-process", "forward", "short/auto", {"p50_ms": 7.5}))
    samples.append(Sample(0, "ours", "cached", "empty", {"req_per_s": 2000.0}))
    samples.append(Sample(0, "ours", "cached", "cached", {"req_per_s": 1000.0, "share": 0.51}))
    for case, rate in (("embedding", 800.0), ("classification", 784.0)):
        values = {"texts_per_s": rate, "share": rate / 800}
        samples.append(Sample(0, "in-process", "classification", case, values))
    for case, p99_ms in (("alone", 10.0), ("beside", 25.0), ("generation", 900.0)):
        values = {"p50_ms": p99_ms / 2, "p99_ms": p99_ms}
        samples.append(Sample(0, "in-process", "beside_generation", f"{case}/1", values))
    options = asdict(Options(connections=(1, 32)))
    settings = {"ours": OURS, "litserve": dict(CONTENDERS["litserve"].settings)}
    return Results(MACHINE, options, settings, samples)


def test_bodies_are_the_same_on_every_machine() -> None:
    encoded = b"\n".join(SIM.encode(body) for kind in KINDS.values() for body in kind.bodies())
    assert hashlib.sha256(encoded).hexdigest() == "eac5268a37e995acd1c49d79168e7433dc7c5391bf109f5777593795263b786b"


def test_bodies_have_the_lengths_that_they_claim() -> None:
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for kind in (SHORT, MIXED):
        bodies = kind.bodies()
        lengths = [[len(tokenizer.encode(text).ids) for text in body.all_texts] for body in bodies]
        assert lengths == [[token_count(text) for text in body.all_texts] for body in bodies]
        assert min(map(min, lengths)) >= kind.min_tokens
        assert max(map(max, lengths)) <= kind.max_tokens
        assert len({body.target for body in bodies}) == kind.n_bodies


def test_wrk_output_is_read_with_its_errors() -> None:
    load = wrk.parse(CAPTURED)
    assert load.per_s == pytest.approx(1680.35, abs=0.01)
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (0.857, 5.792, 10.552)
    assert load.errors == 1848


def test_output_without_figures_is_a_failure() -> None:
    with pytest.raises(wrk.LoadFailed, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_loads_in_turns_are_compared_turn_by_turn() -> None:
    def loads(*rates: int) -> list[wrk.Load]:
        return [wrk.Load(rate * 2, 2.0, 1.0, 1.0, 1.0, 1.0, errors=1) for rate in rates]

    ours, theirs = loads(50, 100, 500), loads(100, 160, 1000)  # the machine drifts; the share hardly does
    assert share(ours, theirs) == 0.5
    assert together(ours) == {"req_per_s": 1300 / 6, "requests": 1300, "errors": 3}


def test_embeddings_become_the_same_scores() -> None:
    answer = {"data": [{"embedding": "AACAPwAAAAA="}, {"embedding": "mpkZP83MTD8="}]}  # (1, 0) and (0.6, 0.8)
    assert EMBEDDINGS.scores(answer) == pytest.approx([0.6])


def test_pss_of_a_process_is_close_to_what_it_holds() -> None:
    before = processes.pss_bytes([os.getpid()])
    with mmap.mmap(-1, 64 << 20) as block:  # new pages, where bytes may take what an earlier test gave back
        for _ in range(64):
            block.write(b"\1" * (1 << 20))
        grown = processes.pss_bytes([os.getpid()]) - before
        assert grown == pytest.approx(len(block), rel=0.2)
    assert processes.pss_bytes([]) == 0


def test_processes_are_found_by_their_mark_and_not_without() -> None:
    mark = f"test-{os.getpid()}"
    command = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    environment = {**os.environ, processes.MARK: mark}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.marked(mark) == [child.pid]
        assert processes.cpu_s([child.pid]) >= 0
        assert child.stdin is not None
        child.stdin.close()
    assert processes.marked(mark) == []


def test_micro_batches_hold_every_text_once_and_keep_the_budget() -> None:
    texts = [[0] * length for length in (5, 200, 30, 30, 8, 700, 90)]
    batches = micro_batches(texts, 256)
    assert sorted(len(text) for batch in batches for text in batch) == [5, 8, 30, 30, 90, 200, 700]
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 256 for batch in batches)


def test_the_bound_counts_the_models_products() -> None:
    # One layer's weights are 12 * 384 * 384, twice that per token and layer; attention adds under 15 % at 200 tokens.
    tokens = sum(token_count(text) for body in MIXED.bodies() for text in body.all_texts) / MIXED.n_bodies
    products = 6 * 2 * 12 * 384 * 384 * tokens
    assert products < flops(MIXED) < 1.15 * products


def test_results_survive_the_file() -> None:
    written = sample_results().to_json()
    assert Results.from_json(written).to_json() == written


def test_targets_are_judged_from_medians() -> None:
    text = report.target_table(sample_results())
    rows = {row.split(" | ")[0].strip("| "): row for row in text.splitlines()[2:]}
    assert "10.0 x | met" in rows["against the naive baseline, mixed bodies, 32 connections: at least 5 times"]
    assert "1.50 x | **missed**" in rows["against the better of LitServe and infinity: at least 2 times everywhere"]
    assert "4.00 s | **missed**" in rows["process start to ready: at most 3.5 s"]
    assert "2.50 ms | **missed**" in rows["p50 at one connection, short bodies: at most 2 ms over the bare forward"]
    assert "not measured" in rows["p99 of short callers beside heavy ones: at most 3 times alone"]
    assert "51.0 % | **missed**" in rows["a cached /predict: at least 70 % of an empty Flask app's rate"]
    encoders = "classification: at least 95 % of embedding's texts per second, encoders of one size"
    assert "98.0 % | met" in rows[encoders]
    assert "2.50 x | met" in rows["p99 of a /sim caller beside long summaries: at most 3 times alone"]
    assert "0.556 x | met" in rows["peak memory below every peer's: less than 1 times the smallest"]


def test_the_page_is_made_of_the_figures() -> None:
    settings = dict(CONTENDERS["litserve"].settings)
    tried = {
        "litserve": [
            {"settings": settings, "short/1": 50.0, "short/32": 90.0, "mixed/4": 2.0, "score": 20.8},
            {"settings": {**settings, "max_batch": 1}, "score": 0.0, "failed": "did not start"},
        ]
    }
    page = report.performance_page(sample_results(), tried)
    assert "| LitServe | 10.0 | 10.0 | 20.0 | 10.0 |" in page
    assert "- date: 2024-06-07" in page
    assert f"| {settings['max_batch']} | 50.0 | 90.0 | 2.0 | 20.8 |" in page
    assert "| 1 | - | - | - | did not start |" in page
    assert "| 1 caller | 5.00 | 12.5 | 2.50 | 10.0 | 25.0 | 2.50 | 450 |" in page
    assert "| one text of minilm | 1,000 | 2,000 | 51 % |" in page
    assert "8 connections | 800 | 784 | 98 % |" in page
    assert "$" not in page


def test_the_best_setting_that_worked_is_taken() -> None:
    litserve = CONTENDERS["litserve"]
    slow, quick = ({**litserve.settings, "max_batch": size} for size in (1, 64))
    rows = [{"settings": slow, "score": 2.0}, {"settings": quick, "score": 3.0}]
    assert tuning.with_best(litserve, rows).settings == quick
    assert tuning.with_best(litserve, [{"settings": quick, "score": 0.0, "failed": "did not start"}]) == litserve
    assert tuning.with_best(litserve, []) == litserve


def test_scenarios_and_contenders_fit_together() -> None:
    for scenario in SCENARIOS:
        assert set(scenario.contenders or ()) <= set(CONTENDERS)
    for name, contender in CONTENDERS.items():
        if contender.candidates:
            assert (ROOT / "benchmarks" / f"requirements-{name}.txt").is_file()
            assert all(candidate.keys() == contender.settings.keys() for candidate in contender.candidates)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0, "0.000"), (0.1234, "0.123"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_figures_are_shown_with_three_digits(value: float | None, shown: str) -> None:
    assert show(value) == shown


def test_every_script_that_the_harness_starts_is_there() -> None:
    peers = {path.name for path in (ROOT / "benchmarks" / "peers").glob("*.py")}
    assert peers == {"serve_naive.py", "serve_litserve.py", "serve_infinity.py", "reference.py", "export_onnx.py"}
    assert os.access(ROOT / "benchmarks" / "run", os.X_OK)
    assert Path(wrk.SCRIPT).is_file()


def test_made_articles_tell_what_their_summaries_say() -> None:
    training, held_out = (list(islice(trained_t5.pairs(seed), 200)) for seed in (1, 2))
    assert training == list(islice(trained_t5.pairs(1), 200))
    assert not set(training) & set(held_out)
    for article, summary in held_out:
        name, place = summary.split()[:2], summary.split(" in ")[1].split(" on ")[0]
        assert f"of {place}, {' '.join(name)}, " in article
        assert 3 <= article.count(".") <= 5
    long_article, _ = next(trained_t5.pairs(2, (10, 14)))
    assert 11 <= long_article.count(".") <= 15


def test_accuracy_is_counted_against_both() -> None:
    found, reference, wanted = ["a b", "c d", "e f", "g h"], ["a b", "c d", "e f", "x"], ["a b", "c x", "y z", "g h"]
    assert summary_accuracy.shares(found, reference, wanted) == "75.0% | 50.0% | 0.6250"
