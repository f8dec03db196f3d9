// What the page says besides the hits.

import { hasKey, picture, Refusal } from "./api.js";
import { drawn, showAwaited } from "./cards.js";
import { held } from "./query.js";

const at = (id) => document.getElementById(id);
const AWAITED = 8;
const SEARCHING = "Searching";
const SAYING = ["unlock", "warning", "trouble", "blank", "filter-error", "facts"];
const ABOUT_FILTERS = /^(a filter|filter on|field filter)/;

/** Takes away what was said about the question before; its hits stay, dimmed, until there are others. */
export function quiet() {
  for (const id of SAYING) at(id).hidden = true;
  at("filter").removeAttribute("aria-invalid");
  at("status").textContent = "";
}

/** Says whether an answer is awaited. */
export function busy(is) {
  const list = at("results");
  list.setAttribute("aria-busy", String(is));
  at("status").textContent = is ? SEARCHING : "";
  if (is && !list.children.length) showAwaited(list, AWAITED);
}

/** Shows an image or a pair as what is asked, beside the box, and the query as the title. */
export function chip({ kind, value }, thumbnails, signal) {
  const image = held(value);
  const name = { image: image?.name ?? "An image", id: `Like ${value}` }[kind];
  document.title = `${name ?? (at("text").value || "Search")} · xhash-ray`;
  at("chip").hidden = !name;
  at("ask").classList.toggle("has-chip", Boolean(name));
  if (!name) return;
  at("chip").querySelector(".chip-name").textContent = name;
  const frame = at("chip").querySelector(".chip-picture");
  frame.replaceChildren(drawn(value));
  if (image) void put(frame, image.url);
  else if (kind === "id" && thumbnails) void putPicture(frame, value, signal);
}

async function put(frame, url) {
  const image = new Image();
  image.alt = "";
  image.src = url;
  await image.decode().then(() => frame.replaceChildren(image), () => {});
}

async function putPicture(frame, id, signal) {
  const blob = await picture(id, signal).catch(() => null);
  if (!blob || signal.aborted) return;
  const url = URL.createObjectURL(blob);
  await put(frame, url);
  URL.revokeObjectURL(url);
}

/** Says what an answer is: how many hits, whether they are all, and what it took. */
export function told(answer, query, roundMs) {
  const names = { image: ["image", "images"], text: ["text", "texts"] }[answer.target];
  const count = answer.hits.length;
  const order = query.rescore ? "highest score first" : "nearest first";
  at("status").textContent = count ? `${count} ${names[count === 1 ? 0 : 1]}, ${order}` : "No hits";
  if (!count) say("Nothing found", query.filter ? "No pair passes this filter." : "There is nothing in this index.");
  warn(answer);
  about(answer, roundMs);
}

function warn(answer) {
  at("warning").hidden = answer.complete;
  if (answer.complete) return;
  const missing = answer.missing_shards;
  const [noun, verb] = missing.length === 1 ? ["Shard", "does"] : ["Shards", "do"];
  const silent = `${noun} ${missing.join(", ")} of ${answer.shards} (counted from 0) ${verb} not answer.`;
  const hits = answer.certain === 1 ? "hit is" : `${answer.certain} hits are`;
  const sure = answer.certain ? `The first ${hits} certain; after them` : "None of the hits is certain:";
  at("warning").querySelector("p").textContent = `${silent} ${sure} nearer pairs may be missing.`;
}

function about(answer, roundMs) {
  const there = answer.shards - answer.missing_shards.length;
  const told = {
    "k-th distance": answer.kth_distance === null ? "none" : `${answer.kth_distance} of ${answer.bits} bits`,
    Generation: `${answer.generation}`,
    Model: answer.model_fingerprint.slice(0, 12),
    Shards: answer.complete ? `${answer.shards}` : `${there} of ${answer.shards}`,
    Encode: milliseconds(answer.timings_ms.encode),
    Scan: milliseconds(answer.timings_ms.scan),
    Total: milliseconds(answer.timings_ms.total),
    "Round trip": milliseconds(roundMs),
  };
  at("facts").replaceChildren(...Object.entries(told).filter(([, value]) => value).map(pairOf));
  at("facts").hidden = false;
}

function milliseconds(value) {
  return value === undefined ? null : `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function pairOf([name, value]) {
  const [box, term, description] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
  term.textContent = name;
  description.textContent = value;
  box.append(term, description);
  return box;
}

/** Says why there is no answer, in the endpoint's words, where it can be mended. */
export function refused(error, query) {
  if (!(error instanceof Refusal)) throw error;
  if (error.wantsKey) {
    at("unlock-why").textContent = hasKey() ? "The key that was given is not known." : "Give one that may read.";
    at("unlock").hidden = false;
    at("key").focus();
  } else if (query.filter && ABOUT_FILTERS.test(error.asked)) {
    at("filter-error").textContent = error.message;
    at("filter-error").hidden = false;
    at("filter").setAttribute("aria-invalid", "true");
  } else {
    trouble(capital(error.asked), `${capital(error.found)}. ${error.remedy}.`);
  }
}

/** Says that something failed. */
export function trouble(title, text) {
  at("trouble").querySelector("h2").textContent = title;
  at("trouble").querySelector("p").textContent = text;
  at("trouble").hidden = false;
}

/** Says how to begin, or why an image's link cannot be followed. */
export function nothingAsked(query, encodes) {
  if (query.kind === "image") {
    say("This image is not here any more", "A link cannot hold an image. Choose it again.");
  } else if (encodes("text") || encodes("image")) {
    const ways = [encodes("text") && "describe an image to find it", encodes("image") && "drop, paste or choose one to find texts"];
    say("Search images by words, and texts by images", `${capital(ways.filter(Boolean).join(", or "))}.`);
  } else {
    say("Find more like a pair", "This endpoint encodes no queries: start from the id of a pair.");
  }
}

function say(title, text) {
  at("blank").querySelector("h2").textContent = title;
  at("blank").querySelector("p").textContent = text;
  at("blank").hidden = false;
}

/** Says what is served, and lets the controls offer what it can do. */
export function served(facts, encodes) {
  const rows = facts.rows === undefined ? "" : `${facts.rows.toLocaleString("en")} pair${facts.rows === 1 ? "" : "s"}`;
  at("about").textContent = [rows, facts.bits && `${facts.bits} bits`, facts.method].filter(Boolean).join(" · ");
  for (const option of at("rescore").options) {
    const isOffered = !option.value || !facts.rescores || facts.rescores.includes(option.value);
    option.hidden = option.disabled = !isOffered;
  }
  at("choose").hidden = !encodes("image");
  at("text").placeholder = encodes("text") ? "Describe an image" : "The id of a pair";
  offerColumns(Object.entries(facts.columns ?? {}));
}

function offerColumns(columns) {
  at("columns").hidden = !columns.length;
  at("columns").replaceChildren("Columns", ...columns.map(([name, type]) => columnButton(name, type)));
}

function columnButton(name, type) {
  const [button, kind] = [document.createElement("button"), document.createElement("small")];
  button.type = "button";
  kind.textContent = type;
  button.append(name, " ", kind);
  button.addEventListener("click", () => {
    const filter = at("filter");
    const written = /^[^\W\d][\w.-]*$/u.test(name) ? name : `\`${name}\``;
    filter.setRangeText(written, filter.selectionStart, filter.selectionEnd, "end");
    filter.focus();
  });
  return button;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
