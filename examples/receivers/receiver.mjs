#!/usr/bin/env node
// A receiver of wagate's webhooks, without a dependency.
//
//     WAGATE_WEBHOOK_SECRET=whsec_... node examples/receivers/receiver.mjs [PORT]
//
// While a secret is rotated, give both, with a blank between them. Copy `verify`; the rest shows how it is
// used: over the bytes as they came, before anything reads them, and each event once.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

/** How old, or how far ahead, a request may be, in seconds. */
const TOLERANCE = 300;
/** The largest body that is read. */
const MOST = 1 << 20;

/** Why a request is not taken: `headers`, `signature` or `timestamp`. */
export class Refused extends Error {}

/** The bytes of a secret as it was shown: `whsec_` and base64. */
export function key(secret) {
  const [, encoded] = /^whsec_([A-Za-z0-9+/]+=*)$/.exec(secret) ?? [];
  if (!encoded) throw new Error("a secret is whsec_ and base64");
  return Buffer.from(encoded, "base64");
}

function equal(one, other) {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/**
 * Throws `Refused` unless `body` (a Buffer) was signed with one of `secrets`, not long before or after `now`
 * (seconds since 1970). `headers` has lower-case names, as Node's have.
 */
export function verify(secrets, headers, body, now) {
  const id = headers["webhook-id"];
  const at = headers["webhook-timestamp"];
  const signatures = headers["webhook-signature"];
  if (!id || !signatures || !/^[0-9]{1,12}$/.test(at ?? "")) throw new Refused("headers");
  let fits = false;
  for (const secret of secrets) {
    const tag = createHmac("sha256", key(secret)).update(`${id}.${at}.`).update(body).digest("base64");
    for (const signature of signatures.split(" ")) {
      // Compared in constant time, all of them.
      fits = equal(`v1,${tag}`, signature) || fits;
    }
  }
  if (!fits) throw new Refused("signature");
  if (Math.abs(now - Number(at)) > TOLERANCE) throw new Refused("timestamp");
}

/** Ids of the last events: one may come again. A database would do it for good. */
class Seen {
  #ids = new Set();

  /** Whether it is new. */
  add(id) {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > 10_000) this.#ids.delete(this.#ids.values().next().value);
    return true;
  }
}

async function read(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MOST) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function main() {
  const secrets = (process.env.WAGATE_WEBHOOK_SECRET ?? "").split(/\s+/).filter(Boolean);
  if (secrets.length === 0) throw new Error("WAGATE_WEBHOOK_SECRET is empty");
  secrets.forEach(key);
  const seen = new Seen();
  const server = createServer(async (request, response) => {
    const answer = (status) => response.writeHead(status).end();
    try {
      if (request.method !== "POST") return answer(405);
      const body = await read(request);
      if (body === null) return answer(413);
      verify(secrets, request.headers, body, Date.now() / 1000);
      // Before the event is remembered: what cannot be read is to come again.
      const event = JSON.parse(body.toString());
      if (seen.add(request.headers["webhook-id"])) {
        // Put it into a queue here and answer at once: the sender waits for a few seconds only.
        console.log(event.type, event.sequence);
      }
      return answer(204);
    } catch (error) {
      console.error(`refused: ${error.message}`);
      if (error instanceof SyntaxError) return answer(400);
      if (!(error instanceof Refused)) return answer(500);
      return answer(error.message === "headers" ? 400 : 401);
    }
  });
  server.listen(Number(process.argv[2] ?? 8090), "127.0.0.1", () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}`);
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) main();
