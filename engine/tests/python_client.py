"""A Sluice client written from docs/PROTOCOL.md alone, to show that the page is enough. Standard library only.

    python_client.py HOST:PORT           runs one small sale and prints each answer as a line of JSON
    python_client.py --page PROTOCOL.md  builds the requests of the page's session, reads its replies, compares

Deliberately not here: retries and reconnecting; the page has chapters on them.
"""

import json
import re
import socket
import struct
import sys
import uuid
import zlib

HEADER = struct.Struct("<4sIBBHIQI")  # without the checksum, which follows
CHECKSUM = struct.Struct("<I")
HEADER_LEN = HEADER.size + CHECKSUM.size
HELLO = struct.Struct("<BBBxHxx")
WELCOME = struct.Struct("<BBHII4x16sQQQ")
FAULT = struct.Struct("<HH4x")
RESERVE = struct.Struct("<16sQQIB3x")
BY_ID = struct.Struct("<16sI4x")
BY_PRODUCT = struct.Struct("<Q")
PUT = struct.Struct("<QQQQIII4x")
STOCK = struct.Struct("<16sQIB3x")
LIST = struct.Struct("<QI4x")
ANSWER = struct.Struct("<BB2xIQQQQQ")
RESERVATION = struct.Struct("<16sQQIIQQQ")
PRODUCT = struct.Struct("<QQQQQQQIII4xQ")
EVENT = struct.Struct("<QQQ16sQQQQBBBxI")
EVENT_CHECKED_LEN = 73
HEAD_LEN = 80  # of the reply to a fetch: as long as the events behind it
PUT_GROUP = struct.Struct("<32sQIIIIIII4xQQ8Q16x")
NAME = struct.Struct("<32s")
NAME_AND_NUMBER = struct.Struct("<32sQ8x")
SEAT = struct.Struct("<I4xQ")
FETCH = struct.Struct("<I4xQQQIIQ")
ACK = struct.Struct("<I4xQQQQ8x")
NAK = struct.Struct("<I4xQQIII12x80s")
LETTER = struct.Struct("<IIQQ")
TIME = struct.Struct("<Q8x")

REPLY_BODY_MAX = 131072
KINDS = {
    "hello": 0x01, "ping": 0x02, "reserve": 0x10, "confirm": 0x11, "cancel": 0x12, "resolve": 0x13,
    "query-reservation": 0x14, "query-product": 0x15, "put-product": 0x20, "restock": 0x21, "write-off": 0x22,
    "seal": 0x23, "list-products": 0x24, "put-group": 0x30, "remove-group": 0x31, "list-groups": 0x32,
    "list-members": 0x33, "seek-group": 0x34, "query-stream": 0x35, "join": 0x36, "leave": 0x37, "fetch": 0x38,
    "ack": 0x39, "nak": 0x3A, "list-dead": 0x3B, "redrive": 0x3C, "drop-dead": 0x3D, "query-place": 0x3E,
}
REPLY, FAULT_KIND = 0x80, 0xFF
STATUSES = {
    1: "Reserved", 2: "Confirmed", 3: "Cancelled", 4: "Expired", 5: "Already", 6: "Fenced", 7: "Done", 8: "Parked",
    16: "Insufficient", 17: "SoldOut", 18: "LimitReached", 19: "NotOpen", 20: "Closed", 21: "UnknownProduct",
    22: "IdConflict", 23: "UnknownReservation", 24: "Sealed", 25: "StockDiffers", 26: "AlreadyConfirmed",
    27: "Invalid", 28: "Full", 29: "UnknownGroup", 30: "NotMember", 31: "Gap", 32: "UnknownDead", 48: "Busy",
    49: "NotLeader", 50: "Unknown", 51: "Queueing",
}
STATES = ["None", "Held", "Confirmed", "Cancelled", "Expired", "Fenced", "Refused", "Applied"]
RESERVATION_FIELDS = ["id", "product", "user", "quantity", "reason", "sequence", "deadline_ms", "ended_ms"]
PRODUCT_FIELDS = [
    "product", "stock", "free", "held", "sold", "opens_ms", "closes_ms", "per_user_limit", "hold_ms", "flags",
    "earliest_return_ms",
]


class Closed(Exception):
    """The connection is over: what was wrong, or the server's fault."""


def id_bytes(number):
    return number.to_bytes(16, "little")


def id_text(raw):
    return f"{int.from_bytes(raw, 'little'):032x}"


def frame(kind, items, correlation, version=1, count=None, budget_ms=0):
    body = b"".join(items)
    count = len(items) if count is None else count
    head = HEADER.pack(b"SLC1", len(body), kind, version, count, budget_ms, correlation, 0)
    return head + CHECKSUM.pack(zlib.crc32(head + body)) + body


def hello_frame(name):
    name = name.encode()
    return frame(KINDS["hello"], [HELLO.pack(1, 1, len(name), 0) + name], 0, version=0, count=0)


def read_frame(receive):
    """Reads one frame through receive(n), which returns exactly n bytes."""
    head = receive(HEADER_LEN)
    magic, length, kind, _version, count, _budget, correlation, _reserved = HEADER.unpack_from(head)
    if magic != b"SLC1" or length > REPLY_BODY_MAX:
        raise Closed({"not a frame": head.hex()})
    body = receive(length)
    (checksum,) = CHECKSUM.unpack_from(head, HEADER.size)
    if zlib.crc32(head[: HEADER.size] + body) != checksum:
        raise Closed({"bad checksum": checksum})
    if kind == FAULT_KIND:
        code, text_len = FAULT.unpack_from(body)
        raise Closed({"fault": code, "text": body[FAULT.size : FAULT.size + text_len].decode()})
    return kind, count, correlation, body


def read_welcome(body):
    fields = WELCOME.unpack_from(body)
    version, address_len, items_max, body_max, in_flight, cluster, node, leader, time_ms = fields
    return {
        "version": version, "items_max": items_max, "body_max": body_max, "frames_in_flight_max": in_flight,
        "cluster": id_text(cluster), "node": node, "leader": leader, "time_ms": time_ms,
        "leader_address": body[WELCOME.size : WELCOME.size + address_len].decode(),
    }


def read_answer(item):
    status, state, aux, index, time_ms, a, b, c = ANSWER.unpack_from(item)
    answer = {
        "status": STATUSES.get(status, "Unknown"), "state": STATES[state] if state < len(STATES) else "None",
        "aux": aux, "index": index, "time_ms": time_ms, "a": a, "b": b, "c": c,
    }
    record = item[ANSWER.size :]
    if len(record) == RESERVATION.size:
        answer["record"] = dict(zip(RESERVATION_FIELDS, RESERVATION.unpack(record)))
        answer["record"]["id"] = id_text(answer["record"]["id"])
    elif len(record) == PRODUCT.size:
        answer["record"] = dict(zip(PRODUCT_FIELDS, PRODUCT.unpack(record)))
    return answer


EVENT_FIELDS = [
    "sequence", "index", "time_ms", "id", "product", "user", "quantity", "detail", "kind", "attempts", "flags",
]


def read_event(raw):
    *fields, checksum = EVENT.unpack(raw)
    event = dict(zip(EVENT_FIELDS, fields))
    event["id"] = id_text(event["id"])
    return {**event, "intact": zlib.crc32(raw[:EVENT_CHECKED_LEN]) == checksum}


def read_delivery(body):
    epoch, lanes, redriven = struct.unpack_from("<QQQ", body, ANSWER.size)
    events = [read_event(body[at : at + EVENT.size]) for at in range(HEAD_LEN, len(body), EVENT.size)]
    return {**read_answer(body[: ANSWER.size]), "epoch": epoch, "lanes": lanes, "redriven": redriven, "events": events}


def read_items(count, body):
    size = len(body) // count if count else 0
    return [read_answer(body[at * size : (at + 1) * size]) for at in range(count)]


class Connection:
    """One TCP connection, from its handshake on."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0
        self.early = {}
        self.socket.sendall(hello_frame("python"))
        kind, _count, _correlation, body = read_frame(self.receive)
        if kind != KINDS["hello"] | REPLY:
            raise Closed({"no welcome": kind})
        self.welcome = read_welcome(body)

    def receive(self, wanted):
        parts = []
        while wanted:
            part = self.socket.recv(wanted)
            if not part:
                raise Closed({"end of stream": wanted})
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def send(self, name, *items):
        self.correlation += 1
        self.socket.sendall(frame(KINDS[name], items, self.correlation, budget_ms=5000))
        return self.correlation

    def await_reply(self, correlation):
        """Replies come in any order: those of other frames are kept until somebody waits for them."""
        while correlation not in self.early:
            _kind, count, arrived, body = read_frame(self.receive)
            self.early[arrived] = read_items(count, body)
        return self.early.pop(correlation)

    def ask(self, name, *items):
        return self.await_reply(self.send(name, *items))


def say(step, **fields):
    print(json.dumps({"step": step, **fields}), flush=True)


def sale(address):
    """Every kind of request at least once, every rule about ids, and at the end a damaged frame."""
    host, port = address.rsplit(":", 1)
    server = Connection(host, int(port))
    say("welcome", **server.welcome)
    product, anna, ben, cleo = uuid.uuid4().int >> 65, 7, 8, 9
    a, b, c, d, e, delivery, damage = (id_bytes(uuid.uuid4().int) for _ in range(7))

    def ask(step, name, *items):
        for answer in server.ask(name, *items):
            say(step, **answer)

    def reserve(id_, user, quantity, attempt):
        return RESERVE.pack(id_, product, user, quantity, attempt)

    def put(stock):
        return PUT.pack(product, stock, 0, 0, 3, 900_000, 0)

    ask("put", "put-product", put(3))
    ask("put again", "put-product", put(3))
    ask("put other stock", "put-product", put(4))
    ask("reserve a", "reserve", reserve(a, anna, 1, 0))
    ask("reserve a again", "reserve", reserve(a, anna, 1, 1))
    ask("reserve a for another", "reserve", reserve(a, ben, 1, 1))
    ask("reserve b", "reserve", reserve(b, ben, 2, 0))
    ask("reserve c", "reserve", reserve(c, cleo, 1, 0))
    ask("reserve nothing", "reserve", reserve(e, cleo, 0, 0))
    ask("confirm a", "confirm", BY_ID.pack(a, 0))
    ask("confirm a again", "confirm", BY_ID.pack(a, 0))
    ask("cancel b", "cancel", BY_ID.pack(b, 17))
    ask("cancel a", "cancel", BY_ID.pack(a, 0))
    ask("resolve d", "resolve", BY_ID.pack(d, 0))
    ask("reserve d", "reserve", reserve(d, cleo, 1, 1))
    ask("query a and b", "query-reservation", BY_ID.pack(a, 0), BY_ID.pack(b, 0))
    ask("query product", "query-product", BY_PRODUCT.pack(product))
    ask("restock", "restock", STOCK.pack(delivery, product, 5, 0))
    ask("restock again", "restock", STOCK.pack(delivery, product, 5, 1))
    ask("write off", "write-off", STOCK.pack(damage, product, 7, 0))
    ask("seal", "seal", BY_PRODUCT.pack(product))
    ask("reserve e", "reserve", reserve(e, cleo, 1, 1))
    ask("list", "list-products", LIST.pack(product, 1))
    query, ping = server.send("query-product", BY_PRODUCT.pack(product)), server.send("ping")
    say("ping", items=len(server.await_reply(ping)))
    say("query before ping", **server.await_reply(query)[0])
    damaged = bytearray(frame(KINDS["ping"], [], 99))
    damaged[-1] ^= 1
    server.socket.sendall(damaged)
    try:
        read_frame(server.receive)
    except Closed as closed:
        say("damaged frame", **closed.args[0])


def requests_of_page():
    """The requests of the page's session, built from values."""
    annas, bens, cleos, delivery, damage = (
        id_bytes(uuid.UUID(f"01990000-0000-7000-8000-0000000000{end}").int)
        for end in ("a1", "b2", "c3", "d4", "e5")
    )
    reserves = [
        RESERVE.pack(annas, 42, 7, 1, 0), RESERVE.pack(bens, 42, 8, 3, 0), RESERVE.pack(cleos, 42, 9, 2, 0),
    ]
    return {
        "hello": hello_frame("shop"),
        "ping": frame(KINDS["ping"], [], 1),
        "put-product": frame(KINDS["put-product"], [PUT.pack(42, 3, 0, 0, 3, 900_000, 0)], 2),
        "reserve": frame(KINDS["reserve"], reserves, 3, budget_ms=2000),
        "reserve-again": frame(KINDS["reserve"], [RESERVE.pack(annas, 42, 7, 1, 1)], 4),
        "confirm": frame(KINDS["confirm"], [BY_ID.pack(annas, 0)], 5),
        "cancel": frame(KINDS["cancel"], [BY_ID.pack(cleos, 17)], 6),
        "resolve": frame(KINDS["resolve"], [BY_ID.pack(bens, 0)], 7),
        "query-reservation": frame(KINDS["query-reservation"], [BY_ID.pack(annas, 0)], 8),
        "query-product": frame(KINDS["query-product"], [BY_PRODUCT.pack(42)], 9),
        "restock": frame(KINDS["restock"], [STOCK.pack(delivery, 42, 5, 0)], 10),
        "write-off": frame(KINDS["write-off"], [STOCK.pack(damage, 42, 7, 0)], 11),
        "seal": frame(KINDS["seal"], [BY_PRODUCT.pack(42)], 12),
        "list-products": frame(KINDS["list-products"], [LIST.pack(0, 100)], 13),
        **consumers_requests_of_page(cleos),
    }


def consumers_requests_of_page(cleos):
    """What the order system of the page's session asks, in order."""
    name, member, epoch, lanes, noon = b"orders", 0x9D2C5681F3A0B7E4, 1, 2**64 - 1, 1_794_398_400_000
    terms = (0b1110, 1, 99, 2, 1_000, 60_000, 10_000, 1_000_000, 5_000, 42, 0, 0, 0, 0, 0, 0, 0)
    event = EVENT.pack(6, 6, noon + 6, cleos, 42, 9, 2, 17, 3, 0, 0, 0)
    event = event[:-4] + CHECKSUM.pack(zlib.crc32(event[:EVENT_CHECKED_LEN]))
    nak = NAK.pack(1, member, epoch, 500, 7, 0, event)
    steps = [
        ("put-group", "put-group", PUT_GROUP.pack(name, 4, *terms)),
        ("query-stream", "query-stream", TIME.pack(noon + 5)),
        ("join", "join", NAME_AND_NUMBER.pack(name, member)),
        ("query-place", "query-place", LETTER.pack(1, 0, 6, 42)),
        ("fetch", "fetch", FETCH.pack(1, member, 0, 0, 100, 5_000, epoch)),
        ("ack", "ack", ACK.pack(1, member, epoch, lanes, 5)),
        ("nak", "nak", nak),
        ("nak-again", "nak", nak),
        ("list-dead", "list-dead", LETTER.pack(1, 100, 0, 0)),
        ("list-groups", "list-groups", NAME.pack(b"")),
        ("list-members", "list-members", NAME.pack(name)),
        ("redrive", "redrive", LETTER.pack(1, 0, 6, 0)),
        ("fetch-redriven", "fetch", FETCH.pack(1, member, 9, 0, 100, 5_000, epoch)),
        ("drop-dead", "drop-dead", LETTER.pack(1, 0, 6, 0)),
        ("seek-group", "seek-group", NAME_AND_NUMBER.pack(name, 4)),
        ("leave", "leave", SEAT.pack(1, member)),
        ("remove-group", "remove-group", NAME.pack(name)),
    ]
    return {step: frame(KINDS[kind], [item], 14 + at) for at, (step, kind, item) in enumerate(steps)}


def compare_with_page(path):
    with open(path, encoding="utf-8") as page:
        blocks = re.findall(r"^```hex (\S+)\n(.*?)^```", page.read(), re.MULTILINE | re.DOTALL)
    shown = {name: bytes.fromhex(re.sub(r"#.*", "", digits)) for name, digits in blocks}
    for name, built in requests_of_page().items():
        say(name, equal=built == shown.pop(name))
    for name, reply in shown.items():
        rest = bytearray(reply)

        def receive(wanted):
            part = bytes(rest[:wanted])
            del rest[:wanted]
            return part

        try:
            kind, count, _correlation, body = read_frame(receive)
            if kind == KINDS["fetch"] | REPLY:
                say(name, items=[read_delivery(body)])
                continue
            say(name, items=[read_welcome(body)] if name == "welcome" else read_items(count, body))
        except Closed as closed:
            say(name, items=[closed.args[0]])


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--page":
        compare_with_page(sys.argv[2])
    elif len(sys.argv) == 2:
        sale(sys.argv[1])
    else:
        sys.exit(__doc__)
