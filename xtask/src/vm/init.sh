#!/bin/busybox sh
# The guest's first program. What it says between `@@begin NAME` and `@@end NAME CODE` on the
# console is read on the other side.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t tracefs trace /sys/kernel/tracing
$b mount -t devtmpfs dev /dev
$b ifconfig lo up
echo "@@up $($b uname -r)"

# section NAME COMMAND...
section() {
    name=$1
    shift
    echo "@@begin $name"
    # Not to the console itself: it is a terminal, where pyscry draws a progress bar.
    $b timeout 60 "$@" >/tmp/said 2>&1
    code=$?
    $b cat /tmp/said
    echo
    echo "@@end $name $code"
}

# target MODE [PROGRAM]: starts a program, and waits until its stack is as it will stay.
target() {
    $b chroot /guest /usr/bin/@PYTHON@ -S -E "/${2:-program}.py" "$1" &
    pid=$!
    while [ ! -e "/guest/tmp/$1" ] && kill -0 $pid; do
        $b sleep 0.1
    done
}

section doctor /bin/pyscry doctor
section programs /bin/pyscry doctor --programs

target busy
section record-on-cpu /bin/pyscry record --pid $pid -d 2 -f raw -o /tmp/on-cpu
$b kill -9 $pid
target wait
section record-off-cpu /bin/pyscry record --pid $pid -d 2 -f raw -o /tmp/off-cpu --off-cpu
section record-native-off-cpu /bin/pyscry record --pid $pid -d 2 -f raw -o /tmp/native-off-cpu \
    --off-cpu --native
$b kill -9 $pid
# All frames: of an interpreter without symbols the others would not show which C code called.
target sort
section record-native-on-cpu /bin/pyscry record --pid $pid -d 2 -f raw -o /tmp/native-on-cpu \
    --native=all
$b kill -9 $pid
for mode in causes gil; do
    target $mode waits
    section record-$mode /bin/pyscry record --pid $pid -d 5 -f raw -o /tmp/$mode --wall --wakers
    $b kill -9 $pid
done
for profile in on-cpu off-cpu native-on-cpu native-off-cpu causes gil; do
    section $profile $b cat /tmp/$profile
done

# QEMU ends instead of booting again.
$b reboot -f
