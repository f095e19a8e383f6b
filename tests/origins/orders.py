"""A shop that never closes, as orders.c: orders.py accept|ignore|connect N PORT.

The server is the standard library's, with a thread for each connection.
"""

import os
import socket
import socketserver
import sys
import threading

never = threading.Event()


class Crawler(socketserver.BaseRequestHandler):
    def handle(self):
        if how != "ignore":
            fetch(self.request)
        never.wait()


class Orders(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def get_request(self):
        return self.take_order()

    def take_order(self):
        return self.socket.accept()


def fetch(connection):
    while connection.recv(256):
        pass


def serve_orders(server):
    server.serve_forever()


def dial_supplier():
    connection = socket.socket()
    connection.connect(("127.0.0.1", port))
    return connection


def dial_suppliers():
    kept = [dial_supplier() for _ in range(count)]
    print("ready", port, os.getpid(), flush=True)
    for connection in kept:
        fetch(connection)
    never.wait()


how, count, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if how == "connect":
    dial_suppliers()
else:
    shop = Orders(("127.0.0.1", port), Crawler)
    print("ready", shop.server_address[1], os.getpid(), flush=True)
    serve_orders(shop)
