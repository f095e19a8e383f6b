"""Users behind the balancer on PORT: told `meet N` or `slow N`, N requests at the same time; says which statuses came."""
import http.client
import sys
from concurrent.futures import ThreadPoolExecutor


def get(path):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=25)
    connection.request("GET", path, headers={"Connection": "close"})
    status = connection.getresponse().status
    connection.close()
    return status


for line in sys.stdin:
    path, count = line.split()
    with ThreadPoolExecutor(int(count)) as users:
        statuses = list(users.map(get, [f"/{path}"] * int(count)))
    print("statuses", *(f"{s}:{statuses.count(s)}" for s in sorted(set(statuses))), flush=True)
