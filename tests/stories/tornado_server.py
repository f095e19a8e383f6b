"""A Tornado process on PORT whose /slow calls a slow third party with a blocking library, inside the event loop.
/meet answers once COUNT requests are there at the same time: as many connections, which the balancer then keeps."""
import asyncio
import sys
import time

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

port, backlog, count = map(int, sys.argv[1:])
here = []


class Meet(RequestHandler):
    async def get(self):
        here.append(asyncio.Event())
        if len(here) == count:
            for event in here:
                event.set()
        await here[len(here) - 1].wait()


class Slow(RequestHandler):
    async def get(self):
        print("blocked", flush=True)
        time.sleep(3600)


async def main():
    server = HTTPServer(Application([("/meet", Meet), ("/slow", Slow)]))
    server.add_sockets(bind_sockets(port, "127.0.0.1", backlog=backlog))
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
