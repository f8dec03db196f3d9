// The page: what is asked is in the address, a change of the address asks. Answers become cards and words.

import { ask, keepKey, Refusal } from "./api.js";
import { clear, show } from "./cards.js";
import { listen } from "./input.js";
import { blank, DEFAULT_K, fromHash, held, hold, MOST, toHash, toRequest } from "./query.js";
import * as words from "./words.js";

const at = (id) => document.getElementById(id);

let query = blank();
let facts = null; // what v1/index says, null before
let filled = null; // the address that the form was filled from: what is typed while the page loads, stays
let running = new AbortController(); // of the newest search; an answer to an earlier one is not waited for

/** Whether the endpoint makes codes of texts or images; where it does not say, it does. */
function encodes(kind) {
  return !facts?.encodes || facts.encodes.includes(kind);
}

/** Whether thumbnails are worth asking for. */
function pictures() {
  return facts ? facts.thumbnails === true : true;
}

/** Asks what the form says. */
function submit() {
  const typed = at("text").value.trim();
  if (typed) query = { ...query, kind: encodes("text") ? "text" : "id", value: typed, source: "" };
  else if (query.kind === "text") query = { ...query, kind: null, value: "" };
  query.find = document.querySelector("[name=find]:checked").value;
  query.k = Math.min(MOST, Math.max(1, Number.parseInt(at("k").value, 10) || DEFAULT_K));
  query.rescore = at("rescore").value;
  query.filter = at("filter").value.trim();
  go();
}

/** Makes the address say the query, and asks it. */
function go() {
  const hash = toHash(query);
  if (hash !== location.hash) history.pushState(null, "", hash);
  void run();
}

async function search(file) {
  try {
    if (!encodes("image")) throw new Error("This endpoint has no encoder for images.");
    const token = await hold(file);
    at("text").value = "";
    query = { ...query, kind: "image", value: token, source: "" };
    submit();
  } catch (error) {
    words.trouble("This image cannot be used", error.message);
  }
}

/** Takes away the image or pair that is asked. */
function drop() {
  query = { ...query, kind: null, value: "" };
  submit();
}

function more(id, source) {
  at("text").value = "";
  query = { ...query, kind: "id", value: id, source };
  go();
  at("status").focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

/** Takes the query from the address, and the form from the query. */
function read() {
  query = fromHash(location.hash);
  const isTyped = query.kind === "text" || (query.kind === "id" && !encodes("text"));
  if (query.kind || location.hash !== filled) {
    at("text").value = isTyped ? query.value : "";
    at("k").value = query.k;
    at("rescore").value = query.rescore;
    at("filter").value = query.filter;
    document.querySelector(`[name=find][value="${query.find}"]`).checked = true;
  }
  filled = location.hash;
  words.chip(isTyped ? { ...query, kind: null } : query, pictures(), running.signal);
}

/** Asks what the address says. */
async function run() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  read();
  words.quiet();
  if (!query.kind || (query.kind === "image" && !held(query.value))) {
    clear(at("results"));
    words.busy(false);
    words.nothingAsked(query, encodes);
    return;
  }
  words.busy(true);
  try {
    const started = performance.now();
    const answer = await ask("v1/search", { body: toRequest(query), signal });
    const roundMs = performance.now() - started;
    if (!facts) await learn().catch(() => null); // an answer is an answer without it
    if (signal.aborted) return;
    words.busy(false);
    render(answer, roundMs, signal);
  } catch (error) {
    if (signal.aborted) return;
    words.busy(false);
    clear(at("results"));
    words.refused(error, query);
  }
}

function render(answer, roundMs, signal) {
  const self = query.kind === "id" ? query.value : null;
  const onMore = (id) => more(id, answer.target);
  show(at("results"), answer, { thumbnails: pictures(), self, signal, onMore });
  words.told(answer, query, roundMs);
}

async function learn() {
  facts = await ask("v1/index");
  words.served(facts, encodes);
}

/** Learns what is served, then asks what the address says. */
async function start() {
  read();
  try {
    await learn();
  } catch (error) {
    if (!fromHash(location.hash).kind) {
      words.quiet();
      words.refused(error, query);
      return;
    }
    if (!(error instanceof Refusal)) throw error; // the search will meet the same, and say so
  }
  await run();
}

function unlock() {
  keepKey(at("key").value.trim());
  at("key").value = "";
  void start();
}

listen({ submit, search, drop, unlock, again: start, run });
void start();
