"""The publisher host: set up by the very user data of efs_layout/efs.yaml, reached by a real sshd."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from scripts.rehearsal.machine import Machine
from scripts.rehearsal.network import Network
from scripts.rehearsal.upload import ROOT

SSHD_CONFIG = """\
Port 22
HostKey /etc/rehearsal/host_key
AuthorizedKeysFile /etc/rehearsal/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
SetEnv MODEL_API_EFS_ROOT=/efs MODEL_API_STATUS_DIR=/efs-status
Subsystem sftp internal-sftp
"""
SSHD_SERVICE = """\
[Service]
Type=simple
ExecStart=/bin/sh -c "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f /etc/rehearsal/sshd_config"
Restart=always
"""


class _Loader(yaml.SafeLoader):
    """CloudFormation's short forms: the text of a !Sub is all that is wanted here."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: getattr(node, "value", None))


def user_data(names: dict[str, str]) -> str:
    """The host's user data with ${...} filled in as CloudFormation would."""
    template: Any = yaml.load((ROOT / "efs_layout" / "efs.yaml").read_text(), _Loader)
    text = str(template["Resources"]["PublisherHost"]["Properties"]["UserData"]["Fn::Base64"])
    for name, value in {**names, "AWS::StackName": "rehearsal", "AWS::Region": "eu-central-1"}.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text, "user data names something that the rehearsal doesn't know"
    return text


class Publisher:
    """The host, and an author's machine beside it (`author`, a name space) with a key for it."""

    def __init__(self, folder: Path, network: Network, skeleton: Path, backing: Path) -> None:
        layer = folder / "layer"
        keys = layer / "etc/rehearsal"
        keys.mkdir(parents=True)
        for key in ("host_key", "author_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / key)], check=True)
        (keys / "authorized_keys").write_text((keys / "author_key.pub").read_text())
        (keys / "sshd_config").write_text(SSHD_CONFIG)
        units = layer / "etc/systemd/system"
        units.mkdir(parents=True)
        (units / "ssh.service").write_text(SSHD_SERVICE)
        yum = layer / "usr/bin/dnf"
        yum.parent.mkdir(parents=True)
        yum.write_text((skeleton / "usr/bin/yum").read_text())
        yum.chmod(0o755)
        signal = layer / "opt/aws/bin/cfn-signal"  # nobody listens here
        signal.parent.mkdir(parents=True)
        signal.write_text("#!/bin/sh\nexit 0\n")
        signal.chmod(0o755)
        # The access point makes everybody uid 900; here the user that logs in has that uid.
        for name in ("passwd", "group"):
            (layer / "etc" / name).write_text((skeleton / "etc" / name).read_text().replace("webapp", "ec2-user"))
        (layer / "home/ec2-user").mkdir(parents=True)
        self.machine = Machine("publisher", folder / "machine", network, [skeleton, layer], backing)
        self.author, _ = network.join("author")
        self.ssh_config = folder / "ssh_config"
        self.ssh_config.write_text(
            f"Host model-publisher\n  HostName {self.machine.address}\n  User ec2-user\n"
            f"  IdentityFile {keys / 'author_key'}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
            f"  UserKnownHostsFile {folder / 'known_hosts'}\n"
        )

    def set_up(self, names: dict[str, str]) -> None:
        """Boot, as cloud-init does on the first boot; `names` are what the user data refers to."""
        self.machine.boot()
        self.machine.path("/user-data").write_text(user_data(names))
        self.machine.run("bash", "/user-data")
        # What root made there would be the access point's user's.
        self.machine.run("chown", "-R", "ec2-user:ec2-user", "/efs", "/efs-status")
        self.machine.run("systemctl", "start", "ssh")

    def as_author(self, *command: str) -> str:
        """Run a command on the author's machine, in the project's folder; what it printed. RuntimeError if it fails."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.author, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}")
        return done.stdout

    def model_api(self, *arguments: str) -> str:
        """`python -m model_api VERB ... --to` the publisher host, as an author types it."""
        python = str(ROOT / ".venv/bin/python")
        there = ["--to", "model-publisher:/efs", "--ssh", f"ssh -F {self.ssh_config}"]
        return self.as_author(python, "-m", "model_api", *arguments, *there)
