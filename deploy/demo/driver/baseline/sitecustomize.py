"""For the load run's comparison without hopspan only: the services' names, resolved inside the process.

`payment-service:80` has no address anywhere; with hopspan its outbound routes know it. Without hopspan this puts the
next gunicorn's address there, so that the same unchanged services answer directly. DEMO_NAMES is
`name=host:port,name=host:port`.
"""

import os
import socket

NAMES = dict(pair.split("=") for pair in os.environ["DEMO_NAMES"].split(","))
_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, port, *rest, **more):
    if host in NAMES:
        host, port = NAMES[host].rsplit(":", 1)
    return _getaddrinfo(host, port, *rest, **more)


socket.getaddrinfo = getaddrinfo
