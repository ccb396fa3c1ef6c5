#!/bin/bash
# Process 1 of a guest of nfs_machine.py. The kernel hands over the variables below from its command line.
: "${guest_storage_address:?}" "${guest_front_address:?}" "${guest_server:?}"
: "${guest_modules:?}" "${guest_options:?}" "${guest_python:?}" "${guest_agent:?}"
. "${0%/*}/guest_root.sh" overlay nfsv4 sch_netem
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
