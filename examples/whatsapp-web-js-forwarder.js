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

async function drain() {
  while (waiting.length > 0) {
    const { event, key, body } = waiting[0];
    const headers = { 'content-type': 'application/json', 'idempotency-key': key };
    if (token) headers.authorization = `Bearer ${token}`;
    const answer = await fetch(url, { method: 'POST', headers, body }).catch((error) => error);
    if (answer.status < 500 && answer.status !== 429) {
      if (!answer.ok) console.error(event, answer.status, await answer.text());
      waiting.shift();
    } else {
      await new Promise((resolve) => setTimeout(resolve, 2000)); // It is away, or has enough for now.
    }
  }
}

function forward(event, data = {}) {
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
client.initialize();
