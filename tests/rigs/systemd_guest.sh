#!/bin/bash
# Process 1 of systemd_machine.py's guest, until systemd takes its place. The kernel hands over the variables.
: "${guest_modules:?}" "${guest_units:?}" "${guest_python:?}" "${guest_check:?}"
. "${0%/*}/guest_root.sh" overlay
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
