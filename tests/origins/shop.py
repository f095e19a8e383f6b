"""A shop for gunicorn: each order forks a job that outlives it, and inherits its connection."""

import os
import signal
import sys


def send_invoice():
    """What the job does takes for ever."""
    while True:
        signal.pause()


def app(environ, start_response):
    return take_order(environ, start_response)


def take_order(environ, start_response):
    environ["wsgi.input"].read()
    job = os.fork()
    if job == 0:
        send_invoice()
    print("job", job, os.getpid(), file=sys.stdout, flush=True)
    start_response("200 OK", [("Content-Length", "0")])
    return []
