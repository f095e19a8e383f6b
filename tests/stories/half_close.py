"""A client of the server on PORT: a request for a large file, shutdown(SHUT_WR), then it reads on slowly."""
import socket
import sys
import time

client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
client.sendall(b"GET /large.bin HTTP/1.0\r\nHost: localhost\r\n\r\n")
client.shutdown(socket.SHUT_WR)
print("half-closed", flush=True)
while client.recv(4096):
    time.sleep(0.05)
print("ended", flush=True)
