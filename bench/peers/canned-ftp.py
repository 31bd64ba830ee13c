#!/usr/bin/python3
"""A floor for logins: answers each line of FTP at once with what it must be, and does nothing else.

usage: canned-ftp.py HOST PORT

One session after another, in blocking calls: what a client measures here is its own work, the
kernel's, and the waking of two sleeping processes for each command.
"""

import socket
import sys

REPLIES = {
    b"USER": b"331 Any password will do.\r\n",
    b"PASS": b"230 Logged in.\r\n",
    b"QUIT": b"221 Goodbye.\r\n",
}


def serve(client):
    """Until the client quits or leaves; each command comes in one piece, as weir-load sends it."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.send(b"220 Ready.\r\n")
    while (line := client.recv(4096)) and line[:4] != b"QUIT":
        client.send(REPLIES.get(line[:4], b"200 OK.\r\n"))
    if line:
        client.send(REPLIES[b"QUIT"])


def main():
    with socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=128) as listener:
        while True:
            client, _ = listener.accept()
            with client:
                try:
                    serve(client)
                except ConnectionError:  # the load ends in the middle of a session
                    pass


main()
