// Hits as cards. Whatever comes from the endpoint is set as text, never as markup.

import { picture } from "./api.js";

const SVG = "http://www.w3.org/2000/svg";
const CAPTIONS = ["caption", "text", "title"];
const ADDRESSES = ["image_url", "url", "thumbnail_url"];
const TONES = 6;
const NEAR = "300px"; // pictures so far below the window are fetched already

let urls = [];
let watcher = null;

/**
 * Shows an answer's hits in place of those before.
 *
 * list: the element they go to. answer: of v1/search. options: {thumbnails: whether the endpoint has them,
 * self: the id that was asked for, signal: ends fetches, onMore: called with an id}.
 */
export function show(list, answer, options) {
  clear(list);
  list.classList.toggle("texts", answer.target === "text");
  watcher = new IntersectionObserver(arrived, { rootMargin: NEAR });
  const cards = answer.hits.map((hit, place) => card(hit, place, answer, options));
  if (!answer.complete && answer.certain < cards.length) cards.splice(answer.certain, 0, divider(answer.certain));
  list.append(...cards);
}

/** Takes all hits away, and what their pictures hold. */
export function clear(list) {
  watcher?.disconnect();
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
  list.replaceChildren();
}

/** Empty cards, while an answer is awaited. */
export function showAwaited(list, count) {
  clear(list);
  for (let place = 0; place < count; place += 1) {
    const item = document.createElement("li");
    item.className = "card awaited";
    item.setAttribute("aria-hidden", "true");
    list.append(item);
  }
}

/** A picture made of an id, for pairs that have no other: an SVG element. */
export function drawn(id) {
  const seed = hash(id);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "-2 -2 12 12");
  svg.setAttribute("class", `drawn tone-${seed % TONES}`);
  svg.setAttribute("aria-hidden", "true");
  let path = "";
  for (let bit = 0; bit < 32; bit += 1) {
    if (!((seed >>> bit) & 1)) continue;
    const [row, column] = [bit >> 2, bit & 3];
    path += `M${column} ${row}h1v1h-1zM${7 - column} ${row}h1v1h-1z`;
  }
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

function card(hit, place, answer, options) {
  const item = document.getElementById("card").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  const metadata = hit.metadata ?? {};
  const caption = first(metadata, CAPTIONS);
  find(".caption").textContent = caption ?? hit.id;
  find(".id").textContent = hit.id;
  find(".id").hidden = caption === undefined;
  find(".rank").textContent = `${place + 1}`;
  find(".distance").textContent = `${hit.distance} of ${answer.bits} bits`;
  find(".score").textContent = typeof hit.score === "number" ? `score ${hit.score.toFixed(4)}` : "";
  drawBits(find(".bits"), hit.distance, answer.bits);
  note(item, hit, place, answer, options);
  find(".more").setAttribute("aria-label", `More like ${caption ?? hit.id}`);
  find(".more").addEventListener("click", () => options.onMore(hit.id));
  find("dl").append(...rows({ id: hit.id, ...metadata }));
  const frame = find(".picture");
  frame.append(drawn(hit.id));
  const wanted = { id: hit.id, alt: caption ?? hit.id, address: address(metadata), ...options };
  if (wanted.thumbnails || wanted.address) {
    sought.set(frame, wanted);
    watcher.observe(frame);
  }
  return item;
}

function note(item, hit, place, answer, options) {
  const uncertain = !answer.complete && place >= answer.certain;
  item.classList.toggle("uncertain", uncertain);
  const words = [hit.id === options.self ? "The pair you asked for" : "", uncertain ? "Not certain" : ""];
  const said = words.filter(Boolean).join(" · ");
  item.querySelector(".note").textContent = said;
  item.querySelector(".note").hidden = !said;
}

function divider(certain) {
  const item = document.createElement("li");
  item.className = "divider";
  const rest = "the missing shards may hold nearer pairs than those that follow";
  item.textContent = certain ? `Certain up to here; ${rest}` : `None of these is certain: ${rest}`;
  return item;
}

function drawBits(svg, distance, bits) {
  svg.setAttribute("viewBox", `0 0 ${bits * 4 - 1} 1`);
  const ticks = (from, to) => {
    let path = "";
    for (let bit = from; bit < to; bit += 1) path += `M${bit * 4} 0h3v1h-3z`;
    return path;
  };
  svg.querySelector(".on").setAttribute("d", ticks(0, distance));
  svg.querySelector(".off").setAttribute("d", ticks(distance, bits));
}

function* rows(values) {
  for (const [name, value] of Object.entries(values)) {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    description.textContent = value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : `${value}`;
    yield term;
    yield description;
  }
}

const sought = new WeakMap();

function arrived(entries, observer) {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    void illustrate(target, sought.get(target));
  }
}

async function illustrate(frame, { id, alt, address: remote, thumbnails, signal }) {
  let source = remote;
  try {
    const blob = thumbnails ? await picture(id, signal) : null;
    if (signal.aborted) return;
    if (blob) urls.push((source = URL.createObjectURL(blob)));
  } catch {
    if (signal.aborted) return; // otherwise the network failed: the drawn one stays, or the remote one comes
  }
  if (!source) return;
  const image = new Image();
  image.alt = alt;
  image.referrerPolicy = "no-referrer";
  image.src = source;
  image.decode().then(() => frame.replaceChildren(image), () => {});
}

function first(metadata, names) {
  for (const name of names) {
    const value = Array.isArray(metadata[name]) ? metadata[name][0] : metadata[name];
    if (typeof value === "string" && value.trim()) return value;
  }
  return undefined;
}

function address(metadata) {
  const found = ADDRESSES.map((name) => metadata[name]).find((value) => /^https?:\/\//i.test(value ?? ""));
  return found ?? null;
}

function hash(text) {
  let value = 2166136261; // FNV-1a, 32 bits, then mixed once: neighbouring ids shall look different
  for (let place = 0; place < text.length; place += 1) value = Math.imul(value ^ text.charCodeAt(place), 16777619);
  value = Math.imul(value ^ (value >>> 15), 2246822507);
  return (value ^ (value >>> 13)) >>> 0;
}
