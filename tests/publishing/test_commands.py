"""The authors' commands as they are typed."""

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from model_api.errors import Refused
from model_api.publishing.commands.main import VERBS
from model_api.publishing.commands.publish import parse_option, read_probes
from model_api.publishing.ssh import Target, build_archive
from model_api.repository import files
from model_api.repository.accuracy import Accuracy
from model_api.repository.environment import efs_root
from model_api.repository.layout import Layout
from model_api.repository.reader import Repository
from model_api.repository.statuses import write_status
from model_api.settings import Settings
from tests.rigs.commands import run
from tests.rigs.model_folders import make_folder
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, tree


@pytest.mark.parametrize("verb", VERBS)
def test_each_script_is_short_and_tells_its_exit_codes(verb: str) -> None:
    script = ROOT / "scripts" / verb
    assert len(script.read_text().splitlines()) < 40
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert f"python -m model_api {verb}" in done.stdout
    assert "exit codes:" in done.stdout


def test_a_models_life(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = make_folder(tmp_path / "1", 1), make_folder(tmp_path / "2", 2)
    assert run("publish", one, "--model", "mini", "--version", "1", "--option", "max_batch_tokens=256") == 0
    assert "published as version 1; instances load it now" in capsys.readouterr().out
    assert run("publish", two, "--model", "mini", "--canary", "12.5") == 0
    assert "published as version 2, canary for 12.5 % of callers; instances load it now" in capsys.readouterr().out
    assert run("promote", "mini") == 0
    told = "mini: version 2 is now stable (was 1); canary 2 ended\n  no instance reports yet\n"
    assert capsys.readouterr().out == told
    assert run("promote", "mini", "2") == 0
    assert "nothing changed" in capsys.readouterr().out
    assert run("rollback", "mini") == 0
    assert "mini: version 1 is now stable (was 2)\n" in capsys.readouterr().out
    assert run("publish", make_folder(tmp_path / "3", 3), "--model", "mini") == 0
    assert run("retire", "mini", "2") == 0
    assert "mini@2 lies in" in capsys.readouterr().out
    assert run("models", "mini", "--json") == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert [(version["version"], version["refs"]) for version in model["versions"]] == [
        ("3", ["stable"]),
        ("1", ["previous"]),
    ]
    manifest = Repository(layout.root).observe(None)["mini"].manifests["1"]
    assert manifest.options == {"max_batch_tokens": 256}


def test_a_model_is_taken_out_of_service_and_back(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish", make_folder(tmp_path / "1", 1), "--model", "mini")
    repository = Repository(layout.root)
    repository.observe(None)
    assert run("retire", "mini", "--all") == 0
    assert "taken out of service" in capsys.readouterr().out
    refs = repository.observe(None)["mini"].refs
    assert refs is not None
    assert refs.stable is None
    assert run("retire", "mini", "--all") == 0
    assert run("promote", "mini", "1") == 0
    refs = repository.observe(None)["mini"].refs
    assert refs is not None
    assert refs.stable is not None


def test_init_and_publish_in_one_go(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    assert run("publish", folder, "--model", "mini", "--root", tmp_path / "new") == 1
    assert not (tmp_path / "new").exists()
    assert run("publish", "--init", folder, "--model", "mini", "--root", tmp_path / "new") == 0
    assert run("publish", "--init", "--root", tmp_path / "new") == 0


def test_init_is_careful_where_it_would_be_a_slip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    assert run("publish", "--init", "--root", tmp_path / "home") == 3
    assert "holds other things and isn't a mount; --force" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.txt"]
    assert run("publish", "--init", "--root", tmp_path / "esf" / "models") == 3
    assert "looks like a typo" in capsys.readouterr().err
    assert run("publish", "--init", "--force", "--root", tmp_path / "home") == 0
    (tmp_path / "empty").mkdir()
    assert run("publish", "--init", "--root", tmp_path / "empty") == 0


def test_serve_and_publish_mean_the_same_place_whatever_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL_API_EFS_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert efs_root() == ROOT / "efs"
    assert Settings.from_env({}).efs_root == ROOT / "efs"
    assert '"${MODEL_API_EFS_ROOT:-$PWD/efs}"' in (ROOT / "scripts" / "serve").read_text()  # from the repository


def test_serve_makes_no_store_at_a_mistyped_root(tmp_path: Path) -> None:
    environment = {**os.environ, "MODEL_API_EFS_ROOT": str(tmp_path / "typo")}
    done = subprocess.run(
        [ROOT / "scripts" / "serve"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "holds no store: not mounted, or a typo" in done.stderr
    assert not (tmp_path / "typo").exists()


# A Python as authors have it on Windows: no fcntl, no modes, no uids, and a folder can't be opened.
WINDOWS = """
import os, runpy, sys
sys.modules["fcntl"] = None
for name in ("fchmod", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "geteuid", "getuid", "mkfifo"):
    if hasattr(os, name):
        delattr(os, name)
sys.modules["pwd"] = None
sys.argv = ["model_api", *sys.argv[1:]]
runpy.run_module("model_api", run_name="__main__")
"""


def on_windows(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-S", "-c", WINDOWS, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_windows_authors_need_nothing_but_python(layout: Layout, tmp_path: Path) -> None:
    root = f"--root={layout.root}"
    for seed in (1, 2, 3):
        done = on_windows("publish", make_folder(tmp_path / str(seed), seed), "--model", "mini", root)
        assert done.returncode == 0, done.stderr
    for arguments in (["rollback", "mini"], ["promote", "mini", "3"], ["retire", "mini", "1"], ["copy", "mini", "two"]):
        done = on_windows(*arguments, root)
        assert done.returncode == 0, done.stderr
    for arguments in (["rename", "two", "three"], ["gc"], ["show", "mini"], ["history", "mini"], ["models"]):
        done = on_windows(*arguments, root)
        assert done.returncode == 0, done.stderr
    seen = Repository(layout.root).observe(None)
    assert {name: published.refused for name, published in seen.items()} == {"mini": {}, "three": {}}
    assert list(layout.root.rglob("*.held")) == []


def test_a_lock_that_outlived_its_process_is_told_with_the_file_to_remove(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish", make_folder(tmp_path / "1", 1), "--model", "mini")
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "_PATIENCE_S", 0.2)
    held = layout.model("mini") / ".lock.held"
    held.write_text("process 7 on laptop")
    capsys.readouterr()
    assert run("retire", "mini", "--all") == 1
    error = capsys.readouterr().err
    assert "locked by process 7 on laptop; if that has ended, remove this file" in error
    assert str(held) in error
    held.unlink()
    assert run("retire", "mini", "--all") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["retire", "mini", "1"], 3, "no model named 'mini'"),
        (["models", "mini"], 3, "no model named 'mini'"),
        (["models", "../mini"], 3, "model '../mini'"),
        (["publish", "nothing", "--model", "mini"], 3, "nothing is not a folder"),
        (["publish", "--seal", "mini"], 3, "no folder"),
        (["promote", "mini", "1", "--root", "/proc/nothing"], 1, "not mounted, or never set up"),
        (["publish", "x", "--model", "mini", "--to", "nowhere"], 3, "is not a folder"),
        (["models", "--to", "nowhere"], 3, "[USER@]HOST:/PATH"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    layout: Layout, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], code: int, words: str
) -> None:
    assert run(*arguments) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith(f"{arguments[0]}: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["publish"], ["publish", "x"], ["publish", "--model", "m"], ["retire", "m"], []])
def test_wrong_arguments_are_exit_2(layout: Layout, arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("verb", ["models", "publish"])
def test_settings_of_serving_stop_no_command(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("MODEL_API_LANES", "0")
    monkeypatch.setenv("MODEL_API_CACHE", "nonsense")
    arguments = (
        ["publish", str(make_folder(tmp_path / "a")), "--model", "mini", "--no-check"]
        if verb == "publish"
        else ["models"]
    )
    assert run(*arguments) == 0


def test_seal_makes_a_plain_copy_servable_at_once(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(layout.model("loose"))
    assert run("publish", "--seal", "loose") == 0
    assert "7 files sealed" in capsys.readouterr().out
    assert (layout.model("loose") / "SHA256SUMS").is_file()


def test_the_table_shows_refs_instances_and_refusals(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2):
        run("publish", make_folder(tmp_path / str(seed), seed), "--model", "mini")
    make_folder(layout.model("loose"))
    refs = Repository(layout.root).observe(None)["mini"].refs
    assert refs is not None
    assert refs.previous is not None
    served = {"name": "mini", "version": "1", "digest": refs.previous.digest, "state": "ready", "since": "noon"}
    refused = [{"version": "2", "reason": "no room: 5 GB needed"}]
    write_status(layout.statuses, "i-123", {"models": [{**served, "refused": refused}]})
    capsys.readouterr()
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["MODEL", "VERSION", "DIGEST", "REFS", "INSTANCE", "STATE", "SINCE"]
    assert lines[1].split()[:2] == ["loose", "-"]
    assert lines[2].split() == ["mini", "2", refs.named()["2"][:12], "stable", "-", "-", "-"]
    assert lines[3].split() == ["mini", "1", refs.previous.digest[:12], "previous", "i-123", "serving", "noon"]
    assert any("loose: unchanged for 0 of 60 s" in line for line in lines)
    assert any("mini@2: refused by i-123: no room: 5 GB needed" in line for line in lines)


def test_the_table_shows_precisions_and_why_they_are_not_what_was_asked_for(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("publish", make_folder(tmp_path / "a"), "--model", "mini")
    refs = Repository(layout.root).observe(None)["mini"].refs
    assert refs is not None
    assert refs.stable is not None
    served = {"name": "mini", "version": "1", "digest": refs.stable.digest, "state": "ready", "since": "noon"}
    reason = "in int8: int8 differs from float32 (cosine 0.9512, below 0.98)"
    measured = Accuracy("int8", 64, 0.9876, 0.9981, 0.03, 0.99, 5, None).to_document()
    write_status(layout.statuses, "one", {"models": [{**served, "precision": "int8", "accuracy": measured}]})
    write_status(layout.statuses, "two", {"models": [{**served, "precision": "bfloat16", "precision_reason": reason}]})
    capsys.readouterr()
    assert run("models", "--precision") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-2:] == ["SINCE", "PRECISION"]
    assert lines[1].endswith("noon   int8 (cosine >= 0.9876)")
    assert lines[2].endswith("noon   bfloat16")
    assert lines[3:] == ["", "not in the precision asked for:", f"  mini on two: {reason}"]


def test_an_empty_store_is_told_as_such(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    assert capsys.readouterr().out == "nothing is published yet\n"


def test_probes_are_read_from_json_and_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "probes"
    probe = {"inputs": ["a"], "outputs": [[1.0]], "tolerance": 0.5}
    file.write_text(json.dumps(probe))
    (one,) = read_probes(file)
    assert (one.inputs, one.outputs, one.tolerance, one.parameters) == (("a",), ([1.0],), 0.5, {})
    file.write_text(json.dumps([probe, probe]))
    assert len(read_probes(file)) == 2
    file.write_text(json.dumps(probe) + "\n\n" + json.dumps(probe) + "\n")
    assert len(read_probes(file)) == 2


@pytest.mark.parametrize("text", ["", "[]", "1", '{"inputs": ["a"]}', '{"inputs": ["a"], "outputs": []}', "{nonsense"])
def test_bad_probes_are_refused_by_the_files_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "probes"
    file.write_text(text)
    with pytest.raises(Refused, match="probes"):
        read_probes(file)


def test_probes_travel_in_the_manifest(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "probes").write_text('{"inputs": ["a"], "outputs": [[1.0]]}')
    assert run("publish", make_folder(tmp_path / "a"), "--model", "mini", "--probe", tmp_path / "probes") == 0
    assert len(Repository(layout.root).observe(None)["mini"].manifests["1"].probes) == 1


def test_options_are_json_where_they_can_be() -> None:
    assert parse_option("a=1") == ("a", 1)
    assert parse_option("a=mean=x") == ("a", "mean=x")
    assert parse_option('a=["x"]') == ("a", ["x"])
    with pytest.raises(Refused):
        parse_option("novalue")


@pytest.mark.parametrize("text", ["host", "host:relative", ":/efs", "-oProxyCommand=x:/efs"])
def test_a_target_must_be_host_and_path(text: str) -> None:
    with pytest.raises(Refused):
        Target.parse(text, "ssh")


def test_authors_need_neither_torch_nor_flask_nor_numpy(layout: Layout, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from model_api.publishing.commands.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "third = {m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names - {'__main__', 'model_api'}\n"
        "assert not {name for name in third if not name.startswith('_')}, third\n"
    )
    folder = make_folder(tmp_path / "a")
    command = [sys.executable, "-S", "-c", code, "publish", str(folder), "--model", "mini"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def far_python() -> list[str]:
    """Python 3.9 where it can be had (the far side's oldest), else this one; without any environment's packages."""
    beside = [str(path) for path in Path(sys.base_prefix).parent.glob("3.9.*/bin/python3.9")]
    for python in [*beside, "python3.9"]:
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0:
                return [python, "-S", "-E"]
    return [sys.executable, "-S", "-E"]


@pytest.mark.parametrize("verb", ["models", "publish"])
def test_the_far_side_runs_from_its_archive_alone(tmp_path: Path, verb: str) -> None:
    archive, root = tmp_path / "far.zip", new_store(tmp_path / "efs").root
    archive.write_bytes(build_archive())
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); from model_api.publishing.commands.main import main; "
    arguments = (
        ["publish", str(make_folder(tmp_path / "a")), "--model", "mini", "--no-check"]
        if verb == "publish"
        else ["models"]
    )
    command = [*far_python(), "-c", code + "sys.exit(main(sys.argv[1:]))", *arguments, "--root", str(root)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("instances load it now" if verb == "publish" else "nothing is published yet") in done.stdout


def test_an_archive_is_made_from_within_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "far.zip"
    archive.write_bytes(build_archive())
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); from model_api.publishing.ssh import build_archive; "
    code += "sys.stdout.buffer.write(build_archive())"
    again = subprocess.run([*far_python(), "-c", code], cwd=tmp_path, capture_output=True, check=True).stdout
    names = [set(zipfile.ZipFile(io.BytesIO(data)).namelist()) for data in (again, build_archive())]
    assert names[0] == names[1]
    assert "model_api/publishing/commands/main.py" in names[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish", "", "--model", "mini"),
        ("publish", "DIR", "--model", "mini", "--to", ""),
        ("publish", "DIR", "--model", "mini", "--sign", ""),
        ("promote", "mini", "--to="),
        ("rollback", "mini", "--root", ""),
        ("retire", "mini", ""),
    ],
)
def test_a_variable_that_is_not_set_changes_nothing(
    arguments: Sequence[str], layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty --to isn't the store here, an empty folder isn't the current one, an empty key isn't "unsigned"."""
    folder = make_folder(tmp_path / "m")
    assert run("publish", folder, "--model", "mini", "-m", "") == 0  # a message may be empty
    assert run("publish", make_folder(tmp_path / "n", 2), "--model", "mini", "--message=") == 0
    before = tree(layout.root)
    capsys.readouterr()
    assert run(*(folder if argument == "DIR" else argument for argument in arguments)) == 2
    assert capsys.readouterr().err == f"{arguments[0]}: an argument is empty: a variable that isn't set?\n"
    assert tree(layout.root) == before


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict", "cp1252"])
def test_names_that_the_output_cannot_show_are_shown_escaped(encoding: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "模型")
    for name in (os.fsencode("東京.py"), b"\xff\xfe.txt"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("x")
    command = [sys.executable, "-m", "model_api", "publish", "--check", str(folder), "--no-check"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment)
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"bytes that aren't UTF-8 in its name" in done.stdout
    assert b"--exclude '*.py'" in done.stdout
    assert b"--exclude '??.txt'" in done.stdout
    done = subprocess.run([*command, "--exclude", "*.py", "--exclude", "??.txt"], cwd=ROOT, env=environment)
    assert done.returncode == 0  # what it says mends it
