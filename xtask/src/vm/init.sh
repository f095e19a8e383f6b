#!/bin/busybox sh
# Process 1 of the emulated machine: runs what /plan says, prints one verdict line, powers off.
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /usr/bin /usr/sbin /sbin
# Nothing is mounted over /run and /tmp: programs may lie below, and all of this is in memory anyway.
/bin/busybox chmod 1777 /tmp
/bin/busybox --install -s /bin
# util-linux's mount, unshare and setpriv come before busybox's.
export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/ LANG=C.UTF-8 RUST_BACKTRACE=0
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
ifconfig lo up
. /plan
for program in "$TCPTRACE" "$LIVE"; do
    [ -x "$program" ] || echo "MISSING $program"
done
for module in $MODULES; do
    insmod "/modules/$module" || echo "insmod $module failed"
done

# How one command does on this kernel. What it says on stderr, beyond $2 lines, is what it lacks.
try() {
    name=$1 silent=$2
    shift 2
    "$@" >/tmp/out 2>/tmp/err
    code=$?
    said=$(tail -n 1 /tmp/err)
    if [ $code = 4 ]; then
        echo "COMMAND $name refused $said"
    elif [ $code != 0 ] || [ ! -s /tmp/out ]; then
        echo "COMMAND $name fails exit code $code: $said"
    elif [ "$(wc -l </tmp/err)" -gt "$silent" ]; then
        echo "COMMAND $name degraded $said"
    else
        echo "COMMAND $name works"
    fi
}
try watch 1 "$TCPTRACE" watch --duration 1s
try snapshot 0 "$TCPTRACE" snapshot
try explain 0 "$TCPTRACE" explain 1

# Nobody else's clock is set here.
export OWN_MACHINE=1
$LIVE $ARGS >/tmp/live 2>&1 &
pid=$!
tail -f /tmp/live &
tail=$!
wait $pid
code=$?
sleep 1
kill $tail
# The count is libtest's; without it the tests did not come to their end.
counts=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored;.*/\1 \2 \3/p' /tmp/live)
if [ $code = 0 ] && [ -n "$counts" ]; then word=PASS; else word=FAIL; fi
echo "VERDICT $(uname -r) $word ${counts:-0 0 0}"
sync
poweroff -f
