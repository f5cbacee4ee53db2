"""Calls a device plugin and prints what it says: client.py SOCKET AUTHORITY. Messages are coded here by hand, from the field
numbers of the public API, so that nothing is shared with the program under test."""

import sys

import grpc


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def text(field, value):
    data = value if isinstance(value, bytes) else value.encode()
    return varint(field << 3 | 2) + varint(len(data)) + data


def number(field, value):
    return varint(field << 3) + varint(value)


def fields(data):
    """(field, value) for each field, in order; a value is a number or bytes."""
    at, found = 0, []

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = read()
        if key & 7 == 0:
            found.append((key >> 3, read()))
        elif key & 7 == 2:
            length = read()
            found.append((key >> 3, data[at : at + length]))
            at += length
        else:
            raise ValueError(f"wire type {key & 7}")
    return found


def main():
    socket, authority = sys.argv[1:]
    channel = grpc.insecure_channel(f"unix://{socket}", options=[("grpc.default_authority", authority)])

    def call(method, request):
        return channel.unary_unary(method, None, None)(request, timeout=20)

    plugin, registration = "/v1beta1.DevicePlugin/", "/pluginregistration.Registration/"
    info = fields(call(registration + "GetInfo", b""))
    print("info", *(value.decode() for field, value in info if field != 3))
    print("options", fields(call(plugin + "GetDevicePluginOptions", b"")))
    stream = channel.unary_stream(plugin + "ListAndWatch", None, None)(b"", timeout=20)
    for _, device in fields(next(stream)):
        device = dict(fields(device))
        nodes = [dict(fields(node)).get(1, 0) for _, node in fields(device[3])]
        print("device", device[1].decode(), device[2].decode(), "node", *nodes)
    stream.cancel()
    asked = text(1, "0000:3b:01.3") + number(3, 1)
    answer = fields(call(plugin + "GetPreferredAllocation", text(1, asked)))
    print("preferred", *(value.decode() for _, container in answer for _, value in fields(container)))
    answer = fields(call(plugin + "Allocate", text(1, text(1, "0000:3b:01.3"))))
    for _, container in answer:
        parts = fields(container)
        for entry in sorted(value for field, value in parts if field == 1):
            entry = dict(fields(entry))
            print(f"env {entry[1].decode()}={entry[2].decode()}")
        for device in (value for field, value in parts if field == 3):
            print("node", *(value.decode() for _, value in fields(device)))
    try:
        call(plugin + "Allocate", text(1, text(1, "nobody")))
    except grpc.RpcError as error:
        print("error", error.code().name, error.details())


main()
