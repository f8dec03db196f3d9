// The endpoint: JSON and thumbnails, with the key where one is needed. Addresses are relative: a prefix may lie before.

const KEY = "xhash-ray key";
const NO_KEY = 401;
const LATER = 503;
const TRIES = 20;

/** What the endpoint says instead of an answer, in its own words. */
export class Refusal extends Error {
  constructor(status, { asked, found, do: remedy }) {
    super(`${asked}: ${found}. ${remedy}`);
    Object.assign(this, { status, asked, found, remedy });
  }

  get wantsKey() {
    return this.status === NO_KEY;
  }
}

/** Whether this tab has a key. */
export function hasKey() {
  return Boolean(stored());
}

/** Keeps a key in this tab. */
export function keepKey(key) {
  memory = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // without storage it lasts as long as the page
  }
}

let memory = null;

function stored() {
  try {
    return memory ?? sessionStorage.getItem(KEY);
  } catch {
    return memory;
  }
}

/** JSON from the endpoint. Throws Refusal; AbortError when the signal says so. */
export async function ask(path, { body, signal } = {}) {
  const init = { method: body ? "POST" : "GET", headers: headers(), signal, cache: "no-store" };
  if (body) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  const response = await reached(path, init);
  const content = await response.json().catch(() => null);
  if (response.ok && content) return content;
  throw new Refusal(response.status, content?.error ?? unknown(response.status));
}

/** A pair's picture as a Blob, null where it has none. Waits while the endpoint still looks for them. */
export async function picture(id, signal) {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const response = await fetch(`v1/thumbnails/${encodeURIComponent(id)}`, { headers: headers(), signal });
    if (response.ok) return response.blob();
    if (response.status !== LATER) return null;
    await pause(1000 * (1 + tries / 2), signal);
  }
  return null;
}

function headers() {
  const key = stored();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function reached(path, init) {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { asked: "The endpoint", found: "it does not answer", do: "See whether it runs" });
  }
}

function unknown(status) {
  return { asked: "The endpoint", found: `status ${status} without a reason`, do: "See its log" };
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
