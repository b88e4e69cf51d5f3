#!/usr/bin/python3
"""A worker of a superd pool, see superd-pool(7): one connection at a time."""

import array
import socket


def receive(channel):
    """The next packet and its connection, if it has one. None: superd is gone."""
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    packet, control, _, _ = channel.recvmsg(4096, room)
    fds = array.array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not packet:
        return None
    return packet.decode(), [socket.socket(fileno=fd) for fd in fds]


def fields_of(line):
    """`CONN id=7 service=app …` as a dictionary; fields that nobody knows yet do no harm."""
    return dict(field.split("=", 1) for field in line.split()[1:] if "=" in field)


def serve(connection, fields):
    """Whatever the worker is for."""
    connection.recv(4096)
    connection.sendall(f"hello {fields.get('client', 'you')}\n".encode())


def main():
    channel = socket.socket(fileno=3)
    channel.send(b"READY")
    while (received := receive(channel)) is not None:
        line, connections = received
        word = line.split(" ", 1)[0]
        if word == "DRAIN":
            break
        if word != "CONN" or not connections:
            continue
        fields = fields_of(line)
        channel.send(f"TAKE {fields['id']}".encode())
        with connections[0] as connection:
            try:
                serve(connection, fields)
            except OSError:
                pass  # The client is gone: that is the end of this connection, not of the worker.
        channel.send(f"DONE {fields['id']}".encode())


if __name__ == "__main__":
    main()
