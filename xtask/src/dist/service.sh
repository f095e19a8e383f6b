#!/bin/sh
# In the emulated machine, started by systemd: a server that does not close, and what the service says of it.
exec >/dev/console 2>&1
log="journalctl --quiet --unit tcptrace --output cat --no-pager"
said() { timeout 150 sh -c "until $log | grep -q '$1'; do sleep 1; done"; }
said 'watching '
perl -MIO::Socket::INET -e '
    $listener = IO::Socket::INET->new(Listen => 4, LocalAddr => "127.0.0.1:8080");
    $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1:8080");
    $server = $listener->accept;
    close $client;
    sleep' &
said '"stuck"'
$log
systemctl poweroff --force --force
