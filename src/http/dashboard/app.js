// The page of /dashboard: what list-realtime says, kept current by the event stream.
//
// Everything is asked of this daemon, with the token typed into the page, which this tab alone keeps.
// Flags and sentences are the daemon's; a session's group is read off its flags, as lists sort it.

const API = "/api/whatsapp";
const TOKEN = "wagate.token";
const GROUPS = ["connected", "needsQR", "loading", "disconnected", "error"];
const NAMES = { connected: "Connected", needsQR: "To scan", loading: "Connecting", disconnected: "Not connected", error: "Failed" };
/// How long the stream may be lost before it is opened again, and how often the list is read without it.
const AGAIN = 2_000;
const ANYWAY = 15_000;

const find = (selector, within = document) => within.querySelector(selector);
let token = sessionStorage.getItem(TOKEN);
let selected = null;
let code = null;
let reading = false;
let again = false;

class Refused extends Error {
  constructor(status, problem) {
    const where = (problem.errors ?? []).map((error) => `${error.pointer}: ${error.detail}`);
    super([problem.detail ?? `HTTP ${status}`, ...where].join(" – "));
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${token}`, Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  const read = text ? JSON.parse(text) : {};
  if (!answer.ok) throw new Refused(answer.status, read);
  return read;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text ?? "";
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function show(problem) {
  find("#problem").hidden = !problem;
  find("#problem").textContent = problem?.message ?? "";
  if (problem?.status === 401) forget();
}

function group(session) {
  if (session.isConnected) return "connected";
  if (session.needsQR) return "needsQR";
  if (session.isLoading) return "loading";
  return session.hasError ? "error" : "disconnected";
}

/// Reads everything there is to show, once more if somebody asks meanwhile.
async function refresh() {
  again = true;
  if (reading) return;
  reading = true;
  while (again && token) {
    again = false;
    await read().catch(show);
  }
  reading = false;
}

async function read() {
  const list = await ask("GET", `${API}/session/list-realtime`);
  const summary = GROUPS.map((name) => {
    const box = element("div");
    box.append(element("dt", NAMES[name]), element("dd", list.summary[name], { class: name }));
    return box;
  });
  find("#summary").replaceChildren(...summary);
  find("#sessions").replaceChildren(...list.data.map(row));
  find("#none").hidden = list.data.length > 0;
  if (!list.data.some((session) => session.sessionId === selected)) selected = null;
  find("#one").hidden = !selected;
  if (selected) {
    const id = selected;
    const { data } = await ask("GET", `${API}/session/status/${encodeURIComponent(id)}`);
    if (id === selected) detail(data);
  }
}

function row(session) {
  const line = element("tr", "", { "aria-selected": session.sessionId === selected });
  const name = element("td");
  name.append(element("button", session.sessionId, { type: "button" }));
  line.append(
    name,
    element("td", session.message, { class: `status ${group(session)}` }),
    element("td", new Date(session.lastUpdated).toLocaleString()),
  );
  line.onclick = () => {
    selected = session.sessionId;
    code = null;
    refresh();
  };
  return line;
}

function detail(session) {
  const one = find("#one");
  find("h2", one).textContent = session.sessionId;
  find(".message", one).textContent = session.message;
  find(".message", one).className = `message status ${group(session)}`;
  const image = find("img", one);
  image.hidden = !session.qrImage;
  if (session.qrImage) image.src = session.qrImage;
  if (session.isConnected || (code && code.expiresAt <= new Date().toISOString())) code = null;
  find(".code", one).hidden = !code;
  find(".code", one).textContent = code ? `${code.code.slice(0, 4)}-${code.code.slice(4)}` : "";

  const time = (at) => at && new Date(at).toLocaleString();
  const last = session.lastDisconnect;
  const failed = session.pairing.lastError;
  const facts = {
    Account: [session.pushName, session.phoneNumber && `+${session.phoneNumber}`].filter(Boolean).join(", "),
    Since: time(session.since),
    "Next try": time(session.nextAttemptAt),
    "Last end": last && `${last.reason}${last.code ? ` (${last.code})` : ""}, ${time(last.at)}`,
    "Banned until": time(session.bannedUntil),
    "Code good until": code && time(code.expiresAt),
    "Pairing failed": failed && `${failed.reason}, ${time(failed.at)}`,
    "Unreadable when they came": session.undecryptableMessages || null,
    "Account changed": session.accountChanged && time(session.accountChanged.at),
    Wanted: session.desiredState,
  };
  const lines = Object.entries(facts).filter(([, fact]) => fact);
  find(".facts", one).replaceChildren(
    ...lines.flatMap(([name, fact]) => [element("dt", name), element("dd", fact)]),
  );

  const actions = { Start: "start", Restart: "restart", Stop: "stop" };
  if (session.isConnected) actions["Log out"] = "logout";
  if (!session.isConnected) actions["Code to type"] = "pair";
  const buttons = Object.entries(actions).map(([name, verb]) => {
    const button = element("button", name, { type: "button" });
    button.onclick = () => act(button, session, verb);
    return button;
  });
  find(".actions", one).replaceChildren(...buttons);
}

async function act(button, session, verb) {
  let body = {};
  if (verb === "logout" && !confirm(`Unlink ${session.sessionId} from its phone?`)) return;
  if (verb === "pair") {
    const number = prompt("Phone number, with country code", session.phoneNumber ?? "");
    if (!number) return;
    body = { phoneNumber: number };
  }
  button.disabled = true;
  try {
    const path = `${API}/session/${encodeURIComponent(session.sessionId)}/${verb}`;
    const { data } = await ask("POST", path, body);
    if (verb === "pair") code = data;
    show(null);
  } catch (problem) {
    show(problem);
  }
  button.disabled = false;
  refresh();
}

/// Follows the event stream for as long as there is a token. An `EventSource` could not send one.
async function follow(mine) {
  while (token === mine) {
    try {
      const headers = { Authorization: `Bearer ${mine}`, Accept: "text/event-stream" };
      const answer = await fetch(`${API}/events`, { headers });
      if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
      live("on", "live");
      const chunks = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await chunks.read();
        if (done || token !== mine) break;
        // What has happened is in the list; an event only says that it is time to look.
        if (value.includes("data:")) refresh();
      }
      chunks.cancel().catch(() => {});
    } catch (problem) {
      if (problem.status === 401) show(problem);
    }
    if (token !== mine) return;
    live("lost", "connection lost, trying again");
    await new Promise((done) => setTimeout(done, AGAIN));
  }
}

function live(state, text) {
  find("#live").dataset.state = state;
  find("#live").textContent = text;
}

function open() {
  find("#login").hidden = true;
  find("#board").hidden = false;
  find("#forget").hidden = false;
  refresh();
  follow(token);
}

function forget() {
  token = null;
  selected = null;
  sessionStorage.removeItem(TOKEN);
  find("#login").hidden = false;
  find("#board").hidden = true;
  find("#forget").hidden = true;
  live("off", "not connected");
}

find("#login form").onsubmit = (event) => {
  event.preventDefault();
  token = find("#token").value.trim();
  find("#token").value = "";
  sessionStorage.setItem(TOKEN, token);
  open();
};
find("#create").onsubmit = async (event) => {
  event.preventDefault();
  const sessionId = event.target.elements.sessionId.value.trim();
  try {
    const { data } = await ask("POST", `${API}/session`, sessionId ? { sessionId } : {});
    selected = data.sessionId;
    code = null;
    event.target.reset();
    show(null);
  } catch (problem) {
    show(problem);
  }
  refresh();
};
find("#forget").onclick = forget;
setInterval(() => token && refresh(), ANYWAY);
if (token) open();
