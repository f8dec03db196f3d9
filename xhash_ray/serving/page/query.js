// A query: as the page holds it, as the address says it (so that links, back and forward work), as the endpoint wants it.

export const DEFAULT_K = 24;
export const MOST = 1000;
export const MOST_IMAGE_BYTES = 23 * 2 ** 20; // in base64 it must fit into the endpoint's 32 MiB
const KEPT_IMAGES = 10;

const images = new Map(); // token -> {name, data, url}; an address cannot hold an image, this tab does

/** A query that asks nothing yet. */
export function blank() {
  return { kind: null, value: "", source: "", find: "", k: DEFAULT_K, filter: "", rescore: "" };
}

/** The address' fragment of a query. */
export function toHash(query) {
  const parts = new URLSearchParams();
  const name = { text: "q", id: "id", image: "image" }[query.kind];
  if (name) parts.set(name, query.value);
  if (query.kind === "id" && query.source) parts.set("source", query.source);
  parts.set("k", String(query.k));
  for (const other of ["find", "filter", "rescore"]) if (query[other]) parts.set(other, query[other]);
  return "#" + parts.toString();
}

/** The query of an address' fragment; what it does not say, or says wrongly, is as in a blank one. */
export function fromHash(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const query = blank();
  for (const [name, kind] of [["q", "text"], ["id", "id"], ["image", "image"]]) {
    if (!query.kind && parts.get(name)) Object.assign(query, { kind, value: parts.get(name) });
  }
  const k = Number.parseInt(parts.get("k") ?? "", 10);
  if (k >= 1) query.k = Math.min(k, MOST);
  query.find = oneOf(parts.get("find"), ["image", "text"]);
  query.source = oneOf(parts.get("source"), ["image", "text"]);
  query.rescore = oneOf(parts.get("rescore"), ["outputs", "features"]);
  query.filter = parts.get("filter") ?? "";
  return query;
}

/** The body of POST v1/search. What is not asked for is left out. */
export function toRequest(query) {
  const body = { k: query.k };
  body[query.kind] = query.kind === "image" ? images.get(query.value).data : query.value;
  if (query.kind === "id") {
    body.source = query.source || "image";
    body.target = query.find || body.source; // more like this: of the same kind unless told otherwise
  } else if (query.find) {
    body.target = query.find;
  }
  if (query.filter) body.filter = query.filter;
  if (query.rescore) body.rescore = query.rescore;
  return body;
}

/** Holds an image file for queries; its token stands for it. Throws an Error that says why not. */
export async function hold(file) {
  if (file.size > MOST_IMAGE_BYTES) {
    const megabytes = (file.size / 2 ** 20).toFixed(0);
    throw new Error(`It has ${megabytes} MiB; at most ${MOST_IMAGE_BYTES / 2 ** 20} can be sent. Choose a smaller one.`);
  }
  const data = await base64(file);
  const token = Math.random().toString(36).slice(2, 10);
  images.set(token, { name: file.name || "pasted image", data, url: URL.createObjectURL(file) });
  for (const [old, { url }] of images) {
    if (images.size <= KEPT_IMAGES) break;
    URL.revokeObjectURL(url);
    images.delete(old);
  }
  return token;
}

/** A held image, undefined when this tab does not have it any more. */
export function held(token) {
  return images.get(token);
}

function oneOf(value, known) {
  return known.includes(value) ? value : "";
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}
