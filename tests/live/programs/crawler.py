import socket
import sys
import threading


class Crawler:
    def fetch(self, connection):
        return connection.recv(100)  # here


def serve(connection):
    return Crawler().fetch(connection)  # and here


ends = socket.socketpair()
for _ in range(2):
    threading.Thread(target=serve, args=(ends[0],), daemon=True).start()
sys.stdin.readline()
