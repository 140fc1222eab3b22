// Runs a whatsapp-web.js client and forwards what happens on it to wagate, in order, again until it is taken.
//
//   WAGATE_WEBHOOK='http://127.0.0.1:8080/api/whatsapp/webhook/shop-1?secret=whsec_…' node whatsapp-web-js-forwarder.js
//
// The address is `webhookUrl` of a session made with {"origin": "external", "webhookAuth": "secret"}. With a
// session whose `webhookAuth` is `token`, WAGATE_TOKEN is a manager's token.
const { randomUUID } = require('node:crypto');
const { Client, LocalAuth } = require('whatsapp-web.js');

const url = process.env.WAGATE_WEBHOOK;
const token = process.env.WAGATE_TOKEN;
const client = new Client({ authStrategy: new LocalAuth({ clientId: process.env.CLIENT_ID }) });
const waiting = [];
const most = 10000; // What is in memory while the gateway is away.
const hopeless = [400, 413, 415, 422]; // The same again is in vain; all else can be mended: a secret, a session, the gateway.
const say = (...what) => console.error(new Date().toISOString(), ...what);
process.on('unhandledRejection', (error) => say('UNEXPECTED', error));

async function post({ key, body }) {
  const headers = { 'content-type': 'application/json', 'idempotency-key': key };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(30000) });
  return { ok: answer.ok, status: answer.status, said: await answer.text(), after: Number(answer.headers.get('retry-after')) };
}

async function drain() {
  for (let tries = 0; waiting.length > 0; ) {
    const { event } = waiting[0];
    const { ok, status, said, after } = await post(waiting[0]).catch((error) => ({ said: error.cause ?? error }));
    if (ok || hopeless.includes(status)) {
      if (!ok) say('DROPPED', event, status, said);
      waiting.shift();
      tries = 0;
    } else {
      const pause = Math.max((after || 0) * 1000, Math.min(500 * 2 ** tries++, 60000));
      say(event, 'was not taken, again in', pause, 'ms;', waiting.length, 'waiting;', status, said);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

function forward(event, data = {}) {
  if (waiting.length >= most) return say('DROPPED', event, 'too much waits');
  waiting.push({ event, key: randomUUID(), body: JSON.stringify({ event, data, timestamp: Date.now() }) });
  if (waiting.length === 1) drain();
}

// What the page has of it besides is large; what a file is called is there alone.
const plain = ({ _data: { mimetype, filename, size } = {}, ...message }) => ({ ...message, mimetype, filename, size });
client.on('qr', (qr) => forward('qr', { qr }));
client.on('authenticated', () => forward('authenticated'));
client.on('ready', () => forward('ready', { info: { wid: client.info.wid, pushname: client.info.pushname } }));
client.on('loading_screen', (percent, message) => forward('loading_screen', { percent, message }));
client.on('change_state', (state) => forward('change_state', { state }));
client.on('disconnected', (reason) => forward('disconnected', { reason: String(reason) }));
client.on('auth_failure', (msg) => forward('auth_failure', { msg: String(msg) }));
for (const event of ['message', 'message_create']) client.on(event, (message) => forward(event, { message: plain(message) }));
client.on('message_ack', (message, ack) => forward('message_ack', { message: plain(message), ack }));
client.on('message_revoke_everyone', (message) => forward('message_revoke', { message: plain(message) }));
client.on('message_reaction', (reaction) => forward('message_reaction', { reaction }));
client.on('call', (call) => forward('call', { call }));
for (const event of ['group_join', 'group_leave', 'group_update']) client.on(event, (notification) => forward(event, { notification }));

async function start() {
  try {
    await client.initialize();
  } catch (error) {
    say('THE CLIENT DID NOT START, again in 30 s', error);
    setTimeout(start, 30000);
  }
}
start();
