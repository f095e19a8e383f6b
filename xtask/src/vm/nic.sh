#!/bin/busybox sh
# Process 1 of a machine with a network card: a watch, and a server for what comes through the card.
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ifconfig lo up
. /plan
for module in $MODULES; do
    insmod "/modules/$module" || echo "insmod $module failed"
done
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up || echo "NO CARD"
# A queue for each connection that waits, and no cookies instead of sockets.
echo 4096 >/proc/sys/net/core/somaxconn
echo 0 >/proc/sys/net/ipv4/tcp_syncookies
mkfifo /hold
"$TCPTRACE" watch --min-age 2s --format json >/watched 2>/said &
watch=$!
until grep -q watching /said; do
    kill -0 $watch 2>/dev/null || { cat /said; poweroff -f; }
    sleep 1
done
"$LIVE" serve </hold >/served &
server=$!
exec 3>/hold
until grep -q SERVING /served; do sleep 1; done
echo READY
until grep -q SERVED /served; do sleep 1; done
# Old enough by then, and looked for: the last leak, and what a miss has hidden.
sleep 15
kill -INT $watch
wait $watch
# One line a socket, however often it was reported.
awk '/"event":"stuck"/ {
    match($0, /"cookie":[^,]*/); cookie = substr($0, RSTART, RLENGTH)
    match($0, /"local":"[^"]*"/); print "NAMED", cookie, substr($0, RSTART, RLENGTH)
}' /watched | sort -u
grep '"event":"lost"' /watched | tail -n 3
grep '"event":"summary"' /watched | sed 's/^/SUMMARY /'
grep -E 'eth0|virtio' /proc/interrupts
kill $server
poweroff -f
