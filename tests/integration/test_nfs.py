"""What a real NFS 4.1 client does when files change and when the server goes away."""

import time
from pathlib import Path

import pytest

from tests.rigs.nfs_machine import nfs_site

pytestmark = pytest.mark.integration


def test_x(tmp_path: Path) -> None:
    t = time.time()
    with nfs_site(tmp_path, machines=2) as site:
        print("up", time.time() - t)
        a, b = site.machines
        print(a.run(["bash", "-c", "echo hello > /mnt/efs/x; grep nfs /proc/mounts; id; df -h /; hostname"]))
        print(b.run(["cat", "/mnt/efs/x"]))
        site.freeze()
        r = b.start(["ls", "-l", "/mnt/efs"])
        with pytest.raises(TimeoutError):
            r.wait(2)
        site.thaw()
        print(r.wait(20))
        r.close()
        print(b.run(["nosuch"]))
        site.cut_off(1)
        with pytest.raises(OSError):
            b.dial(7000)
        site.reconnect(1)
        print(
            b.run(
                [
                    "bash",
                    "-c",
                    "dd if=/dev/zero of=/mnt/efs/big bs=1M count=200 conv=fsync; dd if=/mnt/efs/big of=/dev/null bs=4M",
                ]
            )
        )
        print(a.run(["bash", "-c", "dd if=/mnt/efs/big of=/dev/null bs=4M"]))
        t = time.time()
    print("down", time.time() - t)
