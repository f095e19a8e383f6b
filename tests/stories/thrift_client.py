"""Told `idle N`: N connections that call once and stay. `give-up N`: N that call, time out and close. `leave`: the idle ones close."""
import sys

from thrift.Thrift import TMessageType
from thrift.protocol import TBinaryProtocol
from thrift.transport import TSocket, TTransport


def connect(timeout_ms):
    socket = TSocket.TSocket("127.0.0.1", 9090)
    socket.setTimeout(timeout_ms)
    transport = TTransport.TBufferedTransport(socket)
    transport.open()
    return transport


def call(transport):
    protocol = TBinaryProtocol.TBinaryProtocol(transport)
    protocol.writeMessageBegin("ping", TMessageType.CALL, 1)
    protocol.writeStructBegin("ping_args")
    protocol.writeFieldStop()
    protocol.writeStructEnd()
    protocol.writeMessageEnd()
    transport.flush()
    protocol.readMessageBegin()


idle = []
for line in sys.stdin:
    what, _, count = line.strip().partition(" ")
    if what == "idle":
        for _ in range(int(count)):
            transport = connect(20_000)
            call(transport)
            idle.append(transport)
    elif what == "give-up":
        for _ in range(int(count)):
            transport = connect(100)
            try:
                call(transport)
                sys.exit("an answer, from a pool that is used up")
            except TTransport.TTransportException:
                transport.close()
    elif what == "leave":
        for transport in idle:
            transport.close()
    print("done", flush=True)
