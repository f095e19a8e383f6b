<?php
// Told `open URL`, fetches the page with fopen and keeps the stream; `read URL`: reads it to its end before;
// `socket URL`: over stream_socket_client, reads up to the end of the page and no further.
$kept = [];
$context = stream_context_create(['http' => ['ignore_errors' => true, 'timeout' => 20]]);
while (($line = fgets(STDIN)) !== false) {
    [$what, $url] = explode(' ', trim($line));
    if ($what === 'socket') {
        $to = parse_url($url);
        $stream = stream_socket_client("tcp://{$to['host']}:{$to['port']}");
        fwrite($stream, "GET {$to['path']} HTTP/1.1\r\nHost: {$to['host']}\r\n\r\n");
        for ($page = ''; !str_contains($page, '</html>');) {
            $page .= fread($stream, 8192);
        }
    } else {
        $stream = fopen($url, 'r', false, $context);
        if ($what === 'read') {
            stream_get_contents($stream);
        }
    }
    $kept[] = $stream;
    echo "done\n";
}
