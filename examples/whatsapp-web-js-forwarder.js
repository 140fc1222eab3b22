// Runs a whatsapp-web.js client and forwards what happens on it to wagate, in order, again until it is taken.
//
//   WAGATE_WEBHOOK='http://127.0.0.1:8080/api/whatsapp/webhook/shop-1?secret=whsec_…' node whatsapp-web-js-forwarder.js
//
// The address is `webhookUrl` of a session made with {"origin": "external", "webhookAuth": "secret"}. With a
// session whose `webhookAuth` is `token`, WAGATE_TOKEN is a manager's token.
const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { Client, LocalAuth } = require('whatsapp-web.js');
const { WAGATE_WEBHOOK: url, WAGATE_TOKEN: token, CLIENT_ID: clientId } = process.env;
const client = new Client({ authStrategy: new LocalAuth({ clientId }) });
const waiting = [];
// The same again is in vain, or would keep waiting what is taken: a session without a place is refused that it is back, and not its
// messages. All else can be mended: a secret, a session, the gateway.
const isHopeless = (status, said) => [400, 413, 415, 422].includes(status) || (status === 409 && said.includes('TOO_MANY_SESSIONS'));
const say = (...what) => console.error(new Date().toISOString(), ...what);
process.on('unhandledRejection', (error) => say('UNEXPECTED', error));

async function drain(tries = 0) {
  while (waiting.length > 0) {
    const { event, key, body } = waiting[0];
    const headers = { 'content-type': 'application/json', 'idempotency-key': key, ...(token && { authorization: `Bearer ${token}` }) };
    const request = { method: 'POST', headers, body, signal: AbortSignal.timeout(30000) };
    const answer = await fetch(url, request).catch((error) => ({ text: async () => error.cause ?? error }));
    const said = await answer.text().catch((error) => error);
    if (answer.ok || isHopeless(answer.status, `${said}`)) {
      if (!answer.ok) say('DROPPED', event, answer.status, said);
      waiting.shift();
      tries = 0;
    } else {
      const pause = Math.max(Number(answer.headers?.get('retry-after')) * 1000 || 0, Math.min(500 * 2 ** tries++, 60000));
      say(event, 'was not taken, again in', pause, 'ms;', waiting.length, 'waiting;', answer.status, said);
      await sleep(pause);
    }
  }
}

function forward(event, data) {
  if (waiting.length >= 10000) return say('DROPPED', event, 'too much waits: the gateway is away');
  if (waiting.push({ event, key: randomUUID(), body: JSON.stringify({ event, data, timestamp: Date.now() }) }) === 1) drain();
}

// What the page has of a message besides is large; what its file is called is there alone.
const plain = ({ _data: { mimetype, filename, size } = {}, ...message }) => ({ ...message, mimetype, filename, size });
const told = { qr: 'qr', change_state: 'state', disconnected: 'reason', auth_failure: 'msg', call: 'call', message_reaction: 'reaction' };
for (const event of ['group_join', 'group_leave', 'group_update']) told[event] = 'notification';
const plainly = (member, it) => (['reason', 'msg'].includes(member) ? String(it ?? '') : it); // Some versions have an object there.
for (const [event, member] of Object.entries(told)) client.on(event, (it) => forward(event, { [member]: plainly(member, it) }));
client.on('message_revoke_everyone', (message, revoked) => forward('message_revoke_everyone', { message: plain(message), ...(revoked && { revoked_msg: plain(revoked) }) }));
for (const event of ['message', 'message_create']) client.on(event, (message) => forward(event, { message: plain(message) }));
client.on('authenticated', () => forward('authenticated', {}));
client.on('ready', () => forward('ready', { info: { wid: client.info.wid, pushname: client.info.pushname } }));
client.on('loading_screen', (percent, message) => forward('loading_screen', { percent, message }));
client.on('message_ack', (message, ack) => forward('message_ack', { message: plain(message), ack }));

const start = async () => client.initialize();
const startAgain = async (error) => {
  say('THE CLIENT DID NOT START, again in 30 s', error);
  await sleep(30000);
  return start().catch(startAgain);
};
start().catch(startAgain);
