"""A client of the server on PORT: a request for a large file, shutdown(SHUT_WR), then it reads on slowly."""
import socket
import sys
import time

client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
# Corked, the request leaves with the FIN, in one segment: all of the answer comes after the FIN.
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
client.sendall(b"GET /large.bin HTTP/1.0\r\nHost: localhost\r\n\r\n")
client.shutdown(socket.SHUT_WR)
print("half-closed", flush=True)
while client.recv(4096):
    time.sleep(0.05)
print("ended", flush=True)
