// Runs a whatsapp-web.js client and forwards all that happens on it to wagate, in order, again until it is taken.
//
//   WAGATE_WEBHOOK='http://127.0.0.1:8080/api/whatsapp/webhook/shop-1?secret=whsec_…' node whatsapp-web-js-forwarder.js
//
// The address is `webhookUrl` of a session made with {"origin": "external", "webhookAuth": "secret"}. With a
// session whose `webhookAuth` is `token`, WAGATE_TOKEN is a manager's token.
const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { Client, Events, LocalAuth } = require('whatsapp-web.js');
const { WAGATE_WEBHOOK: url, WAGATE_TOKEN: token, CLIENT_ID: clientId } = process.env;
const client = new Client({ authStrategy: new LocalAuth({ clientId }) });
const waiting = [];
const say = (...what) => console.error(new Date().toISOString(), ...what);
process.on('unhandledRejection', (error) => say('UNEXPECTED', error));

// What an event's arguments are called. `authenticated` may come with the session's keys, which are nobody's business; an end with an
// object for a reason. Of a notice of a group and of a message the rest is the first, and what nobody has a name for is sent as it is.
const named = {
  qr: 'qr', code: 'code', loading_screen: 'percent message', change_state: 'state', disconnected: 'reason', auth_failure: 'msg', call: 'call', vote_update: 'vote',
  message_ack: 'message ack', message_reaction: 'reaction', message_revoke_everyone: 'message revoked_msg', message_edit: 'message body before',
};
const data = (event, told) => {
  if (event === 'authenticated') return {};
  if (event === 'ready') return { info: { wid: client.info.wid, pushname: client.info.pushname } };
  const names = named[event] ?? (/^message/.test(event) ? 'message' : /^group_/.test(event) && 'notification');
  if (!names) return { arguments: told };
  const plainly = (name, it) => (['reason', 'msg'].includes(name) ? String(it ?? '') : it);
  return Object.fromEntries(names.split(' ').map((name, place) => [name, plainly(name, told[place])]));
};
// What the page has of a message besides is large; what its file is called is there alone.
const bare = (_, it) => (it?._data ? { ...it, _data: undefined, mimetype: it._data.mimetype, filename: it._data.filename, size: it._data.size } : it);

for (const event of Object.values(Events)) client.on(event, (...told) => {
  if (waiting.length >= 10000) return say('DROPPED', event, 'too much waits: the gateway is away');
  if (waiting.push({ event, key: randomUUID(), body: JSON.stringify({ event, data: data(event, told), timestamp: Date.now() }, bare) }) === 1) drain();
});

// The same again is in vain, or would keep waiting what is taken: a session without a place is refused that it is back, and not its
// messages. All else can be mended: a secret, a session, the gateway.
const isHopeless = (status, said) => [400, 413, 415, 422].includes(status) || (status === 409 && said.includes('TOO_MANY_SESSIONS'));
async function drain(tries = 0) {
  const { event, key, body } = waiting[0];
  const headers = { 'content-type': 'application/json', 'idempotency-key': key, ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(30000) }).catch((error) => ({ text: async () => error.cause ?? error }));
  const said = await answer.text().catch((error) => error);
  const pause = Math.max(Number(answer.headers?.get('retry-after')) * 1000 || 0, Math.min(500 * 2 ** tries, 60000));
  const isOver = answer.ok || isHopeless(answer.status, `${said}`);
  if (!answer.ok) say(...(isOver ? ['DROPPED', event] : [event, 'was not taken, again in', pause, 'ms;', waiting.length, 'waiting;']), answer.status, said);
  if (isOver) waiting.shift();
  else await sleep(pause);
  if (waiting.length > 0) return drain(isOver ? 0 : tries + 1);
}

const start = async () => client.initialize();
const startAgain = (error) => say('THE CLIENT DID NOT START, again in 30 s', error) ?? sleep(30000).then(start).catch(startAgain);
start().catch(startAgain);
