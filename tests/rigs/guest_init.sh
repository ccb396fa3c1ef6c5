#!/bin/bash
# Process 1 of a guest of nfs_machine.py. The kernel hands over the variables below from its command line.
# The host's root is mounted read-only; the guest works in an overlay on it and never writes to the host.
: "${guest_storage_address:?}" "${guest_front_address:?}" "${guest_server:?}"
: "${guest_modules:?}" "${guest_options:?}" "${guest_python:?}" "${guest_agent:?}"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap '/sbin/poweroff -f' EXIT
set -eux

mount -t proc proc /proc
modprobe -d "$guest_modules" -a overlay nfsv4 sch_netem
root=/mnt/root
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work $root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t devtmpfs devtmpfs $root/dev
mkdir -p $root/dev/shm
mount -t tmpfs tmpfs $root/dev/shm
mount -t tmpfs tmpfs $root/run

ip link set lo up
ip address add "$guest_storage_address/24" dev vec0
ip address add "$guest_front_address/24" dev vec1
ip link set vec0 up
ip link set vec1 up
# An NFS 4.1 client is known to its server by this name: of two clients with one name each ends the other's session.
echo "machine-$guest_storage_address" >/proc/sys/kernel/hostname
mkdir -p $root/mnt/efs
# The kernel alone (-i): no helper, so neither rpcbind nor name resolution is needed.
mount -i -t nfs4 -o "$guest_options,addr=$guest_server,clientaddr=$guest_storage_address" "$guest_server:/models" $root/mnt/efs
set +x
chroot $root "$guest_python" "$guest_agent" "$guest_front_address"
