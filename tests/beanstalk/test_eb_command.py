"""The real eb command against moto: what AWS is told, and what is in the bundle that it is given."""

import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.rehearsal.ebextensions import extensions_of
from scripts.rehearsal.upload import DEPLOY_BIN, Owner, cloud
from tests.needs import missing, needs
from tests.rigs.beanstalk_options import OVERRIDDEN_BY_EB

pytestmark = pytest.mark.integration
ODD = """it's "100%" $HOME `x` \\n é = #1: {a} [b]"""
MAX_BUNDLE_BYTES = 20 * 2**20


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """An environment created and deployed to once, from a clone with things lying about that must stay at home."""
    needs("git")
    if not (DEPLOY_BIN / "eb").exists():
        missing("scripts/setup-deploy --dev has not been run")
    journal = tmp_path_factory.mktemp("journal")
    with cloud(journal) as environ:
        owner = Owner(tmp_path_factory.mktemp("clone"), environ, journal)
        for name in ("efs/models/m/model.safetensors", ".env", "key.pem", ".venv/bin/python", "model_api/stray.pem"):
            (owner.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (owner.folder / name).write_text("not for the bundle")
        secret = "API_KEY=arn:aws:secretsmanager:us-east-1:123456789012:secret:key"
        owner.create("rehearsal", "--secret", secret, "--property", f"ODD={ODD}")
        owner.deploy("second")
        yield owner


@pytest.fixture(scope="module")
def bundle(owner: Owner) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(owner.bundle("second")) as archive:
        yield archive


def test_create_sends_no_option_that_beats_ours(owner: Owner) -> None:
    ours = extensions_of(owner.folder / ".ebextensions").option_settings
    saved = owner.options("rehearsal")
    (call,) = [call for call in owner.calls("CreateEnvironment") if call.get("PlatformArn")]
    assert call["TemplateName"] == "default"
    for sent in call.get("OptionSettings", []):
        assert sent["OptionName"] not in ours.get(sent["Namespace"], {})
        assert saved[sent["Namespace"]][sent["OptionName"]] == sent["Value"]


def test_the_table_of_overridden_options_is_what_eb_sends(owner: Owner) -> None:
    """Without a saved configuration eb sends defaults of its own: the very options that test_ebextensions forbids."""
    saved = owner.folder / ".elasticbeanstalk/saved_configs/default.cfg.yml"
    text = saved.read_text()
    saved.unlink()
    # Roles are named, because eb would make them of AWS's own policies, which moto doesn't have.
    options = owner.options("rehearsal")
    profile = options["aws:autoscaling:launchconfiguration"]["IamInstanceProfile"]
    role = options["aws:elasticbeanstalk:environment"]["ServiceRole"]
    try:
        owner.run("eb", "create", "plain", "--instance_profile", profile, "--service-role", role)
    finally:
        saved.write_text(text)
    sent = {(o["Namespace"], o["OptionName"]) for o in owner.calls("CreateEnvironment")[-1]["OptionSettings"]}
    assert sent <= OVERRIDDEN_BY_EB


def test_the_environment_knows_the_account(owner: Owner) -> None:
    options = owner.options("rehearsal")
    properties = options["aws:elasticbeanstalk:application:environment"]
    assert properties["EFS_FILE_SYSTEM_ID"].startswith("fs-")
    assert properties["ODD"] == ODD
    assert properties["EFS_MODELS_ACCESS_POINT"].startswith("fsap-")
    assert properties["EFS_STATUS_ACCESS_POINT"] != properties["EFS_MODELS_ACCESS_POINT"]
    assert options["aws:autoscaling:launchconfiguration"]["SecurityGroups"].startswith("sg-")
    assert "InstanceProfile" in options["aws:autoscaling:launchconfiguration"]["IamInstanceProfile"]
    assert options["aws:elasticbeanstalk:application:environmentsecrets"] == {
        "API_KEY": "arn:aws:secretsmanager:us-east-1:123456789012:secret:key"
    }


def test_the_environment_asks_for_the_key_that_was_made(owner: Owner) -> None:
    properties = owner.options("rehearsal")["aws:elasticbeanstalk:application:environment"]
    assert properties["MODEL_API_AUTH"] == "required"
    assert re.fullmatch(r"mk_[0-9a-f]{12}:[0-9a-f]{64}", properties["MODEL_API_FIRST_KEY"])


def test_deploy_and_status(owner: Owner) -> None:
    assert owner.calls("UpdateEnvironment")[-1]["VersionLabel"] == "second"
    assert "Deployed Version: second" in owner.run("eb", "status")


def test_creating_the_stack_again_changes_nothing(owner: Owner) -> None:
    before = (owner.folder / ".elasticbeanstalk/saved_configs/default.cfg.yml").read_text()
    owner.run("scripts/create-efs")
    assert (owner.folder / ".elasticbeanstalk/saved_configs/default.cfg.yml").read_text() == before


def test_the_bundle_is_small(owner: Owner) -> None:
    assert owner.bundle("second").stat().st_size < MAX_BUNDLE_BYTES


def test_the_bundle_holds_the_fixed_layout(bundle: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in bundle.namelist()}
    fixed = {"application.py", "model_api", ".ebextensions", "efs_layout", "scripts", "requirements.txt", "tests"}
    assert fixed | {".platform", "Procfile", "gunicorn.conf.py"} <= top


def test_nothing_private_or_heavy_is_in_the_bundle(bundle: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in bundle.namelist() if name not in ("./", "")}
    assert not top & {".git", ".venv", ".venvs", ".env", "efs", "key.pem", ".elasticbeanstalk", ".local_store"}
    suffixes = {Path(name).suffix for name in bundle.namelist()}
    assert not suffixes & {".safetensors", ".bin", ".pt", ".pem", ".pyc"}


def test_hooks_and_scripts_may_be_run(bundle: zipfile.ZipFile) -> None:
    hooks = [i for i in bundle.infolist() if i.filename.startswith((".platform/hooks/", ".platform/confighooks/"))]
    hooks = [info for info in hooks if not info.is_dir()]
    assert len(hooks) >= 7
    scripts = [bundle.getinfo(f"scripts/{name}") for name in ("setup", "serve", "test", "create-efs")]
    for info in hooks + scripts:
        assert stat.S_IMODE(info.external_attr >> 16) & 0o111 == 0o111, info.filename
