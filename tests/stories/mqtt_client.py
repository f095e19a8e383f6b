"""Clients of the broker on PORT that are stuck: told `silent`, one connects and never looks at its socket again;
told `greeted`, one waits until the broker has accepted it, and then doesn't."""
import sys

import paho.mqtt.client as mqtt

kept = []
for line in sys.stdin:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    client.connect("127.0.0.1", int(sys.argv[1]), keepalive=1)
    if line.strip() == "greeted":
        while not client.is_connected():
            client.loop(timeout=1)
    kept.append(client)
    print("done", flush=True)
