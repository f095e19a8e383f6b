"""COUNT clients one after the other: each sends a request to PORT, waits a moment for an answer and closes.
Says how many got a connection at all."""
import socket
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
connected = 0
for _ in range(count):
    with socket.socket() as client:
        client.settimeout(0.2)
        try:
            client.connect(("127.0.0.1", port))
            connected += 1
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            client.recv(1)
            sys.exit("an answer, from a server that is stuck")
        except TimeoutError:
            pass
print("connected", connected, flush=True)
sys.stdin.read()
