#!/bin/bash
# Process 1 of systemd_machine.py's guest, until systemd takes its place. The kernel hands over the variables.
# The host's root is mounted read-only; the guest works in an overlay on it and never writes to the host.
: "${guest_modules:?}" "${guest_units:?}" "${guest_python:?}" "${guest_check:?}"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap '/sbin/poweroff -f' EXIT
set -eux

mount -t proc proc /proc
modprobe -d "$guest_modules" overlay
root=/mnt/root
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work $root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t devtmpfs devtmpfs $root/dev
# Of what this host would start nothing; of what the test gives, all.
rm -rf $root/etc/systemd/system $root/lib/systemd/system/*.wants
cp -r "$guest_units" $root/etc/systemd/system
grep -q '^webapp:' $root/etc/passwd || echo 'webapp:x:900:900::/:/bin/false' >>$root/etc/passwd
# Whoever runs a unit must reach the Python and the check, wherever they are (say, in root's home).
for path in "$guest_python" "$guest_check"; do
  while [ "$path" != / ]; do
    path=$(dirname "$path")
    chmod o+x "$root$path"
  done
done
cat >$root/etc/systemd/system/check.service <<END
[Service]
Type=oneshot
ExecStart=$guest_python $guest_check
StandardOutput=file:/dev/console
StandardError=file:/dev/console
END
set +x
exec chroot $root /lib/systemd/systemd --unit=check.service --show-status=no --log-target=console --log-level=err
