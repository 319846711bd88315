// The instance's HTTP interface, docs/http.md, for this page: times, errors, and a token where one is asked for.

const TOKEN = "freshet-token"; // in sessionStorage: gone with the tab

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status; // 0: no answer at all
  }
}

let askForToken = () => {};
export function onTokenNeeded(ask) {
  askForToken = ask;
}
export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

async function problemOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).detail ?? text;
  } catch {
    return text || response.statusText;
  }
}

// The answer's text. ApiError where it is none of 2xx, or does not come in time.
export async function ask(path, { method = "GET", body, patience = 4000 } = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(path, { method, body, headers, cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(patience) });
    if (response.ok) return await response.text();
  } catch (error) {
    throw new ApiError(0, error.name === "TimeoutError" ? "no answer in time" : "no answer");
  }
  if (response.type === "opaqueredirect") throw new ApiError(307, "another instance has this user: look at its dashboard");
  const detail = await problemOf(response);
  if (response.status === 401) askForToken(token ? "The token was not accepted." : undefined);
  if (response.status === 403 && token) askForToken(detail);
  throw new ApiError(response.status, detail);
}

export async function askJson(path, options) {
  return JSON.parse(await ask(path, options));
}

export const getUser = (user) => askJson(`/v1/users/${encodeURIComponent(user)}`);
export const getRecommendations = (user, k) => askJson(`/v1/recommendations/${encodeURIComponent(user)}?k=${k}`);

// A click now. Its id lets the instance drop a second copy.
export function sendClick(user, item) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const event = { user_id: user, item_id: item, event_type: "view", timestamp: Date.now(), event_id: `dashboard-${id}` };
  return askJson("/v1/events", { method: "POST", body: JSON.stringify(event) });
}

// Titles and categories by item id; asked for once each.
const known = new Map();
export async function describeItems(ids) {
  const missing = [...new Set(ids)].filter((id) => !known.has(id));
  for (let i = 0; i < missing.length; i += 50) {
    const part = missing.slice(i, i + 50);
    const { items } = await askJson(`/v1/items?ids=${part.map(encodeURIComponent).join(",")}`);
    for (const id of part) known.set(id, undefined);
    for (const item of items) known.set(item.item_id, item);
  }
  return known;
}
