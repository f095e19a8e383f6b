"""A Thrift server, KIND pool (two threads) or simple (one connection at a time), hand-written processor."""
import sys

from thrift.Thrift import TMessageType, TType
from thrift.protocol import TBinaryProtocol
from thrift.server import TServer
from thrift.transport import TSocket, TTransport


class Ping:
    """Answers each call of a method without arguments with an empty reply."""

    def process(self, iprot, oprot):
        name, _, seqid = iprot.readMessageBegin()
        iprot.skip(TType.STRUCT)
        iprot.readMessageEnd()
        oprot.writeMessageBegin(name, TMessageType.REPLY, seqid)
        oprot.writeStructBegin("ping_result")
        oprot.writeFieldStop()
        oprot.writeStructEnd()
        oprot.writeMessageEnd()
        oprot.trans.flush()


kind, backlog = sys.argv[1], int(sys.argv[2])
transport = TSocket.TServerSocket(host="127.0.0.1", port=9090)
transport.setBacklog(backlog)
listen = transport.listen


def listen_and_say():
    listen()
    print("ready", flush=True)


transport.listen = listen_and_say
serve = {"pool": TServer.TThreadPoolServer, "simple": TServer.TSimpleServer}[kind]
server = serve(Ping(), transport, TTransport.TBufferedTransportFactory(), TBinaryProtocol.TBinaryProtocolFactory())
if kind == "pool":
    server.setNumThreads(2)
server.serve()
