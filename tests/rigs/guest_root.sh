#!/bin/bash
# Sourced by a guest's process 1, with the kernel modules it wants: makes $root, an overlay on the host's files, which the
# guest never writes to. Needs $guest_modules.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap '/sbin/poweroff -f' EXIT
set -eux

mount -t proc proc /proc
modprobe -d "$guest_modules" -a "$@"
root=/mnt/root
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work $root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t devtmpfs devtmpfs $root/dev
