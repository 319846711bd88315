// The page: asks the instance once a second, shows what it says, and says so where it does not answer.
import * as api from "./api.js";
import { LiveUser } from "./live.js";
import { Overview } from "./overview.js";
import { clock, count } from "./text.js";

const EVERY_MS = 1000;
const at = (id) => document.getElementById(id);

const overview = new Overview();
const live = new LiveUser();
let answeredAt; // when the instance last answered
let asking = false;

function showState(state, word, banner) {
  const pill = at("state");
  pill.dataset.state = state;
  if (pill.textContent !== word) pill.textContent = word;
  const bar = at("banner");
  bar.dataset.state = state;
  bar.hidden = !banner;
  if (bar.textContent !== (banner ?? "")) bar.textContent = banner ?? "";
  document.body.classList.toggle("stale", state === "gone");
}

function showAnswered(status, restarted) {
  answeredAt = new Date();
  at("application").textContent = status.embedded_broker ? `${status.application} · for trying out, nothing is kept` : status.application;
  document.title = `${status.application} · freshet`;
  at("version").textContent = `freshet ${status.version}`;
  at("as-of").textContent = `as of ${clock(answeredAt)}`;
  if (status.ready) return showState("ready", "Ready", restarted ? "freshet was started anew; its counters begin at 0." : undefined);
  const restored = status.restoring_partitions
    ? ` Restoring ${status.restoring_partitions} partitions: ${count(status.restored_records)} records so far.`
    : "";
  showState("not-ready", "Not ready", `Not ready: ${status.missing}.${restored}`);
}

function showSilence(error) {
  if (error.status === 401 || error.status === 403) return showState("not-ready", "Locked", `This page may not read: ${error.message}.`);
  const since = answeredAt ? `has not answered since ${clock(answeredAt)}. The numbers are from then.` : "does not answer.";
  showState("gone", "No answer", `freshet at ${location.host} ${since} Trying again every second.`);
}

async function look() {
  if (asking || document.hidden || at("token-dialog").open) return;
  asking = true;
  const time = performance.now() / 1000;
  try {
    const [text, status, { dead_letters: letters }] = await Promise.all([
      api.ask("/metrics"), api.askJson("/v1/status"), api.askJson("/v1/dead-letters"),
    ]);
    const restarted = overview.show(time, text, status);
    overview.showLetters(letters);
    showAnswered(status, restarted);
    live.refresh(status.top_k);
  } catch (error) {
    if (!(error instanceof api.ApiError)) console.error(error);
    overview.miss(time);
    showSilence(error);
  } finally {
    asking = false;
  }
}

let declined = false; // the reader wants to be asked no more
api.onTokenNeeded((reason) => {
  at("token-open").hidden = false;
  if (reason) at("token-reason").textContent = reason;
  if (!declined && !at("token-dialog").open) at("token-dialog").showModal();
});
at("token-open").addEventListener("click", () => at("token-dialog").showModal());
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  declined = false;
  api.setToken(at("token").value.trim());
  at("token").value = "";
  at("token-dialog").close();
  look();
});
at("token-dialog").addEventListener("cancel", () => (declined = true)); // by Escape
at("token-cancel").addEventListener("click", () => {
  declined = true;
  at("token-dialog").close();
});

document.addEventListener("visibilitychange", look);
setInterval(look, EVERY_MS);
look();
