"""A client: a request to PORT, its answer, and goodbye."""
import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as client:
    client.sendall(b"hello\n")
    assert client.recv(100)
print("done", flush=True)
