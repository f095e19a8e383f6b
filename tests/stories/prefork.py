"""Accepts a connection, forks a child that serves it, and forgets to close its own descriptor in the parent.
Told `close`, the child closes its one and lives on."""
import os
import select
import socket
import sys
import time

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print("ready", flush=True)
connection, _ = listener.accept()
parent = os.getpid()
child = os.fork()
if child == 0:
    listener.close()
    while connection.recv(4096):
        connection.sendall(b"hello\n")
    print("child", os.getpid(), flush=True)
    sys.stdin.readline()
    connection.close()
    print("closed", flush=True)
    # Not longer than its parent, whatever ends that.
    while os.getppid() == parent:
        time.sleep(0.1)
else:
    os.waitpid(child, 0)
