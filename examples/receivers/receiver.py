#!/usr/bin/env python3
"""A receiver of wagate's webhooks, with Python's standard library alone.

    WAGATE_WEBHOOK_SECRET=whsec_... python3 examples/receivers/receiver.py [PORT]

While a secret is rotated, give both, with a blank between them. Copy `verify`; the rest shows how it is
used: over the bytes as they came, before anything reads them, and each event once.
"""

import base64
import binascii
import collections
import hashlib
import hmac
import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# How old, or how far ahead, a request may be, in seconds.
TOLERANCE = 300
# The largest body that is read.
MOST = 1 << 20


class Refused(Exception):
    """Why a request is not taken: `headers`, `signature` or `timestamp`."""


def key(secret):
    """The bytes of a secret as it was shown: `whsec_` and base64."""
    if not secret.startswith("whsec_"):
        raise ValueError("a secret begins with whsec_")
    try:
        return base64.b64decode(secret[len("whsec_") :], validate=True)
    except binascii.Error as error:
        raise ValueError("a secret is whsec_ and base64") from error


def verify(secrets, headers, body, now):
    """Raises `Refused` unless `body` (bytes) was signed with one of `secrets`, not long before or after
    `now` (seconds since 1970). `headers` has lower-case names, or ignores their case."""
    event = headers.get("webhook-id")
    at = headers.get("webhook-timestamp")
    signatures = headers.get("webhook-signature")
    if not event or not signatures or not at or not re.fullmatch(r"[0-9]{1,12}", at):
        raise Refused("headers")
    content = f"{event}.{at}.".encode() + body
    fits = False
    for secret in secrets:
        tag = hmac.new(key(secret), content, hashlib.sha256).digest()
        expected = b"v1," + base64.b64encode(tag)
        for signature in signatures.split(" "):
            # Compared in constant time, all of them.
            fits |= hmac.compare_digest(expected, signature.encode())
    if not fits:
        raise Refused("signature")
    if abs(now - int(at)) > TOLERANCE:
        raise Refused("timestamp")


class Seen:
    """Ids of the last events: one may come again. A database would do it for good."""

    def __init__(self, most=10_000):
        self.ids, self.most = collections.OrderedDict(), most

    def add(self, event):
        """Whether it is new."""
        if event in self.ids:
            return False
        self.ids[event] = None
        if len(self.ids) > self.most:
            self.ids.popitem(last=False)
        return True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    secrets, seen = [], Seen()

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isascii() or not length.isdigit():
            return self.answer(411)
        if int(length) > MOST:
            return self.answer(413)
        body = self.rfile.read(int(length))
        try:
            verify(self.secrets, self.headers, body, time.time())
        except Refused as refused:
            print(f"refused: {refused}", file=sys.stderr, flush=True)
            return self.answer(400 if str(refused) == "headers" else 401)
        try:
            event = json.loads(body)
        except ValueError:
            # Before the event is remembered: what could not be read is to come again.
            return self.answer(400)
        if self.seen.add(self.headers["webhook-id"]):
            # Put it into a queue here and answer at once: the sender waits for a few seconds only.
            print(event.get("type"), event.get("sequence"), flush=True)
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        if status >= 400:
            self.send_header("connection", "close")
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    Handler.secrets = os.environ.get("WAGATE_WEBHOOK_SECRET", "").split()
    if not Handler.secrets:
        sys.exit("WAGATE_WEBHOOK_SECRET is empty")
    for secret in Handler.secrets:
        key(secret)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8090
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
