// One user: the last clicks, the recommendations, and a click that changes them.
import * as api from "./api.js";
import { count, node, seconds } from "./text.js";

const MOST = 10; // items and clicks shown
const POLL_MS = 20;      // how often to look for the new list at first
const EAGER_MS = 2000;   // and for how long; then every SLOW_MS
const SLOW_MS = 250;
const GIVE_UP_MS = 15000;

const at = (id) => document.getElementById(id);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

export class LiveUser {
  constructor() {
    this.user = undefined;  // shown now
    this.list = undefined;  // their newest recommendation; nothing: not known here yet
    this.busy = false;      // a click is on its way
    this.times = [];        // of clicks so far, ms
    at("user-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.open(at("user").value.trim());
    });
    at("item-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.click(at("item").value.trim());
    });
    addEventListener("hashchange", () => this.openFromAddress());
    this.openFromAddress();
  }

  // #user=u1 names a user to show, so that a view can be bookmarked.
  openFromAddress() {
    const match = /^#user=(.+)$/.exec(location.hash);
    if (!match) return;
    try {
      at("user").value = decodeURIComponent(match[1]);
    } catch {
      return; // not percent-encoded UTF-8
    }
    at("live").scrollIntoView();
    this.open(at("user").value);
  }

  async open(user) {
    if (!user || this.busy) return;
    history.replaceState(null, "", `#user=${encodeURIComponent(user)}`);
    this.user = user;
    this.list = undefined;
    this.shown = undefined;
    this.say("");
    at("recommendations").replaceChildren();
    at("clicks").replaceChildren();
    at("user-facts").textContent = "";
    await this.refresh();
  }

  // Shows what is new about the user, if anything. `topK` as in /v1/status: what the instance answers at most.
  async refresh(topK = this.k) {
    this.k = topK && Math.min(topK, MOST);
    if (!this.k || this.user === undefined || this.busy || this.refreshing) return;
    this.refreshing = true;
    const user = this.user;
    try {
      const list = await api.getRecommendations(user, this.k);
      if (user !== this.user || this.busy) return;
      if (this.complained) this.say("");
      await this.show(list);
    } catch (error) {
      if (user === this.user && !this.busy) this.refused(error);
    } finally {
      this.refreshing = false;
    }
  }

  // Says why there is nothing to show; what was said about a click stays.
  refused(error) {
    if (at("live-message").textContent && !this.complained) return;
    if (error.status === 404) {
      at("live-columns").hidden = false;
      this.say(`No events of “${this.user}” are here. Click an item to make this user known, or try another id.`);
    } else if (error.status !== 0 && error.status !== 401) {
      this.say(error.message, "bad");
    }
    this.complained = true;
  }

  async click(item) {
    if (!item || !this.k || this.busy || this.user === undefined) return;
    const began = performance.now();
    this.busy = true;
    this.setBusy(true);
    this.say(`Clicking ${this.nameOf(item)} …`);
    try {
      await this.clickAndWait(item, began);
    } catch (error) {
      this.say(`The click did not go through: ${error.message}`, "bad");
    } finally {
      this.busy = false;
      this.setBusy(false);
    }
  }

  async clickAndWait(item, began) {
    const user = this.user;
    const before = this.list?.sequence_number ?? 0;
    let failure;
    let acknowledged;
    const sent = api.sendClick(user, item).then(
      () => (acknowledged = performance.now() - began),
      (error) => (failure = error),
    );
    const list = await this.waitForNewer(user, before, began, () => failure);
    if (failure) throw failure;
    if (!list) {
      await sent;
      if (failure) throw failure;
      return this.say(`The click is in the topic, and the list has not changed after ${GIVE_UP_MS / 1000} s. Is the instance catching up?`, "bad");
    }
    const changes = await this.show(list);
    await painted();
    const took = performance.now() - began;
    this.times.push(took);
    await sent;
    const median = [...this.times].sort((a, b) => a - b)[(this.times.length - 1) >> 1];
    const of = this.times.length > 1 ? ` Median of ${this.times.length} clicks: ${median.toFixed(0)} ms.` : "";
    const kept = acknowledged === undefined ? "" : `, in the topic after ${acknowledged.toFixed(0)} ms`;
    this.say(`New list on screen ${took.toFixed(0)} ms after the click${kept}: ${changes}.${of}`, "good");
    at("live-message").dataset.took = took.toFixed(1);
  }

  // The user's list once it has a later event than `before`; nothing where it does not come.
  async waitForNewer(user, before, began, failed) {
    for (;;) {
      const asked = performance.now();
      if (failed() || asked - began > GIVE_UP_MS) return undefined;
      try {
        const list = await api.getRecommendations(user, this.k);
        if (list.sequence_number > before) return list;
      } catch (error) {
        if (![0, 404, 503, 504].includes(error.status)) throw error; // those may pass
      }
      const every = asked - began < EAGER_MS ? POLL_MS : SLOW_MS;
      await pause(Math.max(0, every - (performance.now() - asked)));
    }
  }

  // Draws `list` and, where it is of a later event, the clicks behind it. Returns what changed in words.
  async show(list) {
    const shape = JSON.stringify([list.sequence_number, list.model, list.items.map((item) => item.item_id)]);
    if (shape === this.shown) return "nothing changed";
    this.shown = shape;
    const before = this.list?.items.map((item) => item.item_id);
    this.list = list;
    const ids = list.items.map((item) => item.item_id);
    this.titles = await api.describeItems(ids).catch(() => this.titles);
    this.draw(list, before);
    this.showClicks(this.user);
    if (!before) return "the first list";
    const fresh = ids.filter((id) => !before.includes(id)).length;
    const moved = ids.filter((id, i) => before.includes(id) && before.indexOf(id) !== i).length;
    return `${count(fresh)} new, ${count(moved)} moved`;
  }

  draw(list, before) {
    const box = at("recommendations");
    const focused = [...box.querySelectorAll("button")].indexOf(document.activeElement);
    box.replaceChildren(...list.items.map((item, i) => this.recommendation(item, i, before)));
    const buttons = box.querySelectorAll("button");
    if (focused >= 0 && buttons.length) buttons[Math.min(focused, buttons.length - 1)].focus({ preventScroll: true });
    at("user-facts").textContent = `${count(list.sequence_number)} events · partition ${list.source.partition}`;
    at("live-columns").hidden = false;
    this.setBusy(this.busy);
  }

  recommendation(item, i, before) {
    const was = before ? before.indexOf(item.item_id) : i;
    const move = was === i ? "" : was < 0 ? "new" : was > i ? `▲ ${was - i}` : `▼ ${i - was}`;
    const words = was === i ? "" : was < 0 ? "new" : was > i ? `up ${was - i}` : `down ${i - was}`;
    const button = node("button", { type: "button", class: "quiet", "aria-label": `Click ${this.nameOf(item.item_id)}` }, "Click");
    button.addEventListener("click", () => this.click(item.item_id));
    return node("li", { class: move ? "changed" : "" },
      node("span", { class: "rank" }, String(i + 1)),
      this.what(item.item_id, `score ${item.score.toFixed(3)}`),
      move ? node("span", { class: "moved", "data-move": was < 0 ? "new" : "moved", role: "img", "aria-label": words }, move) : undefined,
      button);
  }

  async showClicks(user) {
    let known;
    try {
      known = await api.getUser(user);
      this.titles = await api.describeItems(known.tokens.slice(-MOST).map((token) => token.item_id));
    } catch {
      if (!known) return; // the next refresh tries again
    }
    if (user !== this.user) return;
    at("clicks").replaceChildren(
      ...known.tokens.slice(-MOST).reverse().map((token) =>
        node("li", {},
          this.what(token.item_id, token.event_type),
          node("time", { datetime: new Date(token.timestamp).toISOString() }, ago(token.timestamp))),
      ),
    );
  }

  nameOf(id) {
    return this.titles?.get(id)?.title ?? id;
  }

  what(id, more) {
    const item = this.titles?.get(id);
    const facts = [item?.title ? id : undefined, item?.category, more].filter(Boolean).join(" · ");
    return node("span", { class: "what" }, item?.title ?? id, node("small", {}, facts));
  }

  // Buttons keep the focus while a click is on its way, so they are not disabled.
  setBusy(busy) {
    for (const button of document.querySelectorAll("#live button")) button.setAttribute("aria-disabled", String(busy));
  }

  say(text, tone = "") {
    const message = at("live-message");
    delete message.dataset.took;
    message.dataset.tone = tone;
    if (message.textContent !== text) message.textContent = text; // else a reader would hear it again
    this.complained = false;
  }
}

function ago(time) {
  const passed = (Date.now() - time) / 1000;
  return passed < 1 ? "now" : `${seconds(passed)} ago`;
}
