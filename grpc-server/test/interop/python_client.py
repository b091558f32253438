"""Interop cases of grpc/grpc doc/interop-test-descriptions.md, driven by gRPC C-core through grpcio.

Usage: python_client.py TARGET [ROOT_CERTIFICATE]. Prints "ok NAME" for every case that passed.
Messages are plain bytes, written with the few lines of protobuf below.
"""
import sys
import threading

import grpc

SERVICE = "/grpc.testing.TestService/"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
TIMEOUT = 20


def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value) if value else b""


def block(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def payload(size):
    return block(2, bytes(size))


def simple_request(size=0, body=0, status=None):
    out = number(2, size) + block(3, payload(body))
    if status:
        out += block(7, number(1, status[0]) + block(2, status[1].encode()))
    return out


def streaming_request(sizes=(), body=0, status=None):
    out = b"".join(block(2, number(1, size)) for size in sizes) + block(3, payload(body))
    if status:
        out += block(7, number(1, status[0]) + block(2, status[1].encode()))
    return out


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def body_size(data):
    """Length of Payload.body inside field 1."""
    if not data:
        return 0
    _, at = read_varint(data, 1)
    inner = data[at:]
    if not inner:
        return 0
    size, at = read_varint(inner, 1)
    assert len(inner) - at == size, "a payload of another length than it says"
    return size


def main():
    target = sys.argv[1]
    if len(sys.argv) > 2:
        with open(sys.argv[2], "rb") as file:
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(file.read()))
    else:
        channel = grpc.insecure_channel(target)

    unary = channel.unary_unary(SERVICE + "UnaryCall")
    duplex = channel.stream_stream(SERVICE + "FullDuplexCall")

    assert channel.unary_unary(SERVICE + "EmptyCall")(b"", timeout=TIMEOUT) == b""
    print("ok empty_unary")

    assert body_size(unary(simple_request(314159, 271828), timeout=TIMEOUT)) == 314159
    print("ok large_unary")

    sizes = [27182, 8, 1828, 45904]
    requests = (block(1, payload(size)) for size in sizes)
    answer = channel.stream_unary(SERVICE + "StreamingInputCall")(requests, timeout=TIMEOUT)
    assert read_varint(answer, 1)[0] == 74922, answer
    print("ok client_streaming")

    sizes = [31415, 9, 2653, 58979]
    answers = channel.unary_stream(SERVICE + "StreamingOutputCall")(streaming_request(sizes), timeout=TIMEOUT)
    assert [body_size(one) for one in answers] == sizes
    print("ok server_streaming")

    ready = threading.Semaphore(0)
    rounds = [(31415, 27182), (9, 8), (2653, 1828), (58979, 45904)]

    def ping_pong():
        for size, body in rounds:
            yield streaming_request([size], body)
            assert ready.acquire(timeout=TIMEOUT)

    got = []
    for one in duplex(ping_pong(), timeout=TIMEOUT):
        got.append(body_size(one))
        ready.release()
    assert got == [size for size, _ in rounds], got
    print("ok ping_pong")

    assert list(duplex(iter(()), timeout=TIMEOUT)) == []
    print("ok empty_stream")

    metadata = (
        ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
    )
    _, call = unary.with_call(simple_request(1), metadata=metadata, timeout=TIMEOUT)
    assert metadata[0] in [tuple(one) for one in call.initial_metadata()], call.initial_metadata()
    assert metadata[1] in [tuple(one) for one in call.trailing_metadata()], call.trailing_metadata()
    print("ok custom_metadata")

    for message in ("test status message", SPECIAL):
        try:
            unary(simple_request(status=(2, message)), timeout=TIMEOUT)
            raise AssertionError("no error")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNKNOWN, error
            assert error.details() == message, error.details()
        try:
            list(duplex(iter([streaming_request(status=(2, message))]), timeout=TIMEOUT))
            raise AssertionError("no error")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNKNOWN and error.details() == message, error
    print("ok status_code_and_message")
    print("ok special_status_message")

    for path in (SERVICE + "UnimplementedCall", "/grpc.testing.UnimplementedService/UnimplementedCall"):
        try:
            channel.unary_unary(path)(b"", timeout=TIMEOUT)
            raise AssertionError("no error")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    print("ok unimplemented")

    first = threading.Event()
    done = threading.Event()

    def one_then_wait():
        yield streaming_request([31415], 27182)
        done.wait(TIMEOUT)

    call = duplex(one_then_wait(), timeout=TIMEOUT)
    assert body_size(next(call)) == 31415
    call.cancel()
    done.set()
    assert call.code() == grpc.StatusCode.CANCELLED
    print("ok cancel_after_first_response")

    def sleep():
        yield streaming_request(body=27182)
        first.wait(TIMEOUT)

    call = duplex(sleep(), timeout=0.001)
    try:
        list(call)
        raise AssertionError("no error")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    first.set()
    print("ok timeout_on_sleeping_server")

    calls = [unary.future(simple_request(31415, 27182), timeout=TIMEOUT) for _ in range(100)]
    assert all(body_size(one.result()) == 31415 for one in calls)
    print("ok concurrent_large_unary")

    compressed = unary(simple_request(100000, 100000), timeout=TIMEOUT, compression=grpc.Compression.Gzip)
    assert body_size(compressed) == 100000
    print("ok compressed_unary")
    channel.close()


main()
