"""Fetches each page that it is told, keeps the response and never reads its body."""
import sys

import requests

kept = []
for line in sys.stdin:
    response = requests.get(line.strip(), stream=True, timeout=20)
    assert response.status_code == 404, response
    kept.append(response)
    print("done", flush=True)
