#!/bin/sh
# The first process of a node, already in its own namespaces: builds the root file system out of $DISK, then becomes systemd.
#   DISK: the node's directory   BIN: its programs   NODE_HOSTNAME   CGROUP_MOUNTS: name:options ..., or empty for cgroup v2
set -eu
root=$DISK/root
hostname "$NODE_HOSTNAME"
mount --rbind "$root" "$root"
cd "$root"

# Our /usr below the node's own changes: a node may write there (kubelet's plugin directory), and this machine never sees it.
mount -t overlay -o "lowerdir=/usr,upperdir=$DISK/usr,workdir=$DISK/usr.work" overlay usr
mkdir -p usr/lib/modules usr/local/bin
mount --bind "$BIN" usr/local/bin
mount -o remount,bind,ro usr/local/bin

mount -t proc proc proc
mount -t sysfs sysfs sys
# As hardened hosts have it (CIS), and Debian for /run: no program may run there.
mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs run
mkdir run/lock

mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty kmsg fuse; do
  [ -e "/dev/$device" ] || continue
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
touch dev/console
mount --bind /dev/null dev/console
# Without its disk's device the kubelet complains about statistics every few seconds. It only looks at the name, so behind it is nothing: whatever
# searches a node's disk never reads this machine's.
disk=$(findmnt -no SOURCE -T "$DISK" | tail -1 | sed 's/\[.*//')
case $disk in /dev/*) mkdir -p "dev/$(dirname "${disk#/dev/}")"; mknod "dev/${disk#/dev/}" b 240 0 ;; esac
# A disk of /etc/kubernetes' own is an image of the lab's, there to be searched.
if [ "$(findmnt -no TARGET -T "$root/etc/kubernetes" | tail -1)" = "$root/etc/kubernetes" ]; then
  own=$(findmnt -no SOURCE -T "$root/etc/kubernetes" | tail -1)
  cp -a "$own" "dev/${own#/dev/}"
fi

if [ -z "$CGROUP_MOUNTS" ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
fi
for hierarchy in $CGROUP_MOUNTS; do
  mkdir "sys/fs/cgroup/${hierarchy%%:*}"
  mount -t cgroup -o "${hierarchy#*:}" cgroup "sys/fs/cgroup/${hierarchy%%:*}"
done

pivot_root . mnt
cd /
umount -l /mnt
mount --make-rshared /
exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=multi-user.target --log-target=console --show-status=no
