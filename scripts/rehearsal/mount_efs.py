"""/sbin/mount.efs of a rehearsed machine: the option rules of efs-utils' mount helper, then a bind mount.

usage: mount.efs FILE_SYSTEM:/PATH FOLDER -o OPTIONS

What stands in for the file system is BACKING/<access point>. BACKING/failures holds how many attempts are to fail yet
("always" for all), as when a mount target isn't there; "hang" makes each hang, as a server does that answers nothing.
An access point's PosixUser isn't imitated: everybody on a rehearsed machine who writes there is uid 900 by arrangement.
"""

import re
import signal
import subprocess
import sys
from pathlib import Path

BACKING = Path("/.efs-backing")
# Taken by the helper itself, never seen by the kernel.
HELPER_OPTIONS = {
    *("accesspoint", "awscredsuri", "awsprofile", "az", "cafile", "iam", "mounttargetip", "netns", "noocsp", "notls"),
    *("ocsp", "region", "tls", "tlsport", "verify", "rolearn", "jwtpath", "crossaccount", "stunnel"),
}
# mount(8)'s own and nfs(5)'s, as far as they have a place in an fstab line of this project.
KERNEL_OPTIONS = {
    *("_netdev", "nofail", "ro", "rw", "noatime", "nodev", "nosuid", "noexec", "hard", "soft", "noresvport"),
    *("nfsvers", "rsize", "wsize", "timeo", "retrans", "lookupcache", "actimeo", "acregmin", "acregmax"),
}


def parse(text: str) -> dict[str, str | None]:
    options: dict[str, str | None] = {}
    for option in text.split(","):
        name, equals, value = option.partition("=")
        if "=" in value:
            raise ValueError(f"{option}: more than one '='")
        options[name] = value if equals else None
    return options


def broken_rules(source: str, options: dict[str, str | None]) -> list[str]:
    """What efs-utils (3.2) would refuse, and what the kernel's NFS client wouldn't know."""
    rules = [
        (not re.fullmatch(r"fs-[0-9a-f]+(:/.*)?", source), f"{source} is no file system id"),
        ("capath" in options or "azid" in options, "an option that isn't supported"),
        ("tls" in options and "port" in options, "tls and port exclude each other"),
        ("tls" in options and "notls" in options, "tls and notls exclude each other"),
        ("ocsp" in options and "noocsp" in options, "ocsp and noocsp exclude each other"),
        ("tlsport" in options and not str(options["tlsport"]).isdigit(), "tlsport is no number"),
        ("accesspoint" in options and "tls" not in options, "accesspoint needs tls"),
        ("iam" in options and "tls" not in options, "iam needs tls"),
        (bool({"awsprofile", "awscredsuri"} & set(options)) and "iam" not in options, "credentials need iam"),
        (
            "accesspoint" in options and not re.fullmatch(r"fsap-[0-9a-f]{17}", str(options["accesspoint"])),
            f"access point {options.get('accesspoint')} is malformed",
        ),
    ]
    unknown = set(options) - HELPER_OPTIONS - KERNEL_OPTIONS
    return [complaint for broken, complaint in rules if broken] + [f"unknown option {name}" for name in sorted(unknown)]


def ordered_to_fail() -> bool:
    failures = BACKING / "failures"
    left = failures.read_text().strip() if failures.exists() else "0"
    if left == "hang":
        signal.pause()
    if left == "always":
        return True
    if int(left) > 0:
        failures.write_text(str(int(left) - 1))
        return True
    return False


def main(source: str, folder: str, text: str) -> int:
    options = parse(text)
    complaints = broken_rules(source, options)
    if complaints:
        print("\n".join(complaints), file=sys.stderr)
        return 1
    if ordered_to_fail():
        print(f"mount.nfs4: Connection timed out for {source} at {folder}", file=sys.stderr)
        return 32
    subprocess.run(["mount", "--bind", str(BACKING / str(options["accesspoint"])), folder], check=True)
    flags = [name for name in ("ro", "nodev", "nosuid", "noexec", "noatime") if name in options]
    subprocess.run(["mount", "-o", ",".join(["remount", "bind", *flags]), folder], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[sys.argv.index("-o") + 1]))
