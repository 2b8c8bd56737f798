#!/bin/bash
# Boots a real systemd over a throw-away copy of this machine: boot.sh BASE CHECKOUT PYTHON PACKAGES
# Its own namespaces of everything, an overlay of / whose upper half is memory, cgroups of its own. Prints the number of
# its first process when it is about to start, and ends with everything in it as soon as standard input is closed.
set -eu

if [ "$1" != --inside ]; then
  trap '' INT TERM HUP
  base=$1
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs "$base"
  mkdir "$base"/{upper,work,root,cgroup}
  mount -t cgroup2 cgroup2 "$base/cgroup"
  group=$base/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/backupd-test-$$
  mkdir "$group"
  exec 3<&0
  (
    echo "$BASHPID" >"$group/cgroup.procs"
    exec unshare --cgroup --pid --ipc --uts --net --mount --fork --kill-child bash "$0" --inside "$@"
  ) </dev/null 3<&- &
  booted=$!
  (cat <&3 >/dev/null; kill -KILL "$booted") 2>/dev/null &
  wait "$booted" 2>/dev/null || true
  exec 3<&-
  for _ in $(seq 100); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.05
  done
  exit
fi

shift
read -r number _ </proc/self/stat  # as the machine outside counts
base=$1 checkout=$2 python=$3 packages=$4
r=$base/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$r"
# What somebody did with the program on this machine is no part of a bare one.
rm -rf "$r"/var/lib/backupd* "$r"/var/spool/backupd* "$r"/etc/backupd "$r"/opt/backupd
mkdir -p "$r/srv/test/checkout"  # a copy, which nobody changes meanwhile
tar -C "$checkout" --exclude=./.git --exclude=./.venv --exclude=__pycache__ -cf - . | tar -C "$r/srv/test/checkout" -xf -
for name in python packages; do
  mkdir -p "$r/srv/test/$name"
  mount --bind "${!name}" "$r/srv/test/$name"
  mount -o remount,bind,ro "$r/srv/test/$name"
done
mount -t proc proc "$r/proc"
mount -t sysfs -o ro sysfs "$r/sys"
mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
for node in null zero full random urandom tty; do
  touch "$r/dev/$node"
  mount --bind "/dev/$node" "$r/dev/$node"
done
mkdir "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$r/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$r/dev/shm"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
ln -s null "$r/dev/console"
mount -t tmpfs -o mode=755 tmpfs "$r/run"
mount -t tmpfs -o mode=1777 tmpfs "$r/tmp"
# Of all that this machine would start, nothing is wanted but the log and the bus.
for wants in "$r"/lib/systemd/system/*.wants "$r"/etc/systemd/system; do
  mount -t tmpfs -o mode=755 tmpfs "$wants"
done
: >"$r/etc/fstab"
# An interpreter that lies in a home finds its own library here, where units can see it.
echo /srv/test/python/lib >"$r/etc/ld.so.conf.d/00-test.conf"
cat >"$r/etc/systemd/system/test.target" <<X
[Unit]
Requires=basic.target
After=basic.target
Wants=systemd-journald.service dbus.socket
X
mkdir "$r/srv/test/outside"
cd "$r"
pivot_root . srv/test/outside
echo "$number"
exec env -i container=backupd-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /bin/sh -c '
  umount -l /srv/test/outside
  mount --make-rshared /  # as on a machine of its own: credentials are mounted from one namespace into another
  ldconfig
  exec /lib/systemd/systemd --system --unit=test.target --log-target=journal' >/dev/null 2>&1
