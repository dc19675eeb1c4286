/** The page at `/`: shows a conversation and lets the user speak and type. Server text is only ever text. */

import {LiveClient, Player, Recorder} from "./live.js";

const MICROPHONE_PROBLEMS = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it in the site settings, then press the button again.",
  NotFoundError: "No microphone was found. Connect one, then press the button again.",
  NotReadableError: "The microphone is in use by another program.",
  NotSupportedError: isSecureContext
    ? "This browser cannot record sound. You can type instead."
    : "Browsers give a page the microphone on https or localhost only. You can type instead.",
};

const KEY_PROBLEMS = ["auth_required", "auth_failed", "auth_timeout"];
const STATES = {
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Connection lost, trying again…",
  closed: "Not connected",
};

const $ = (id) => document.getElementById(id);
const address = new URL("ws/live-audio", document.baseURI);
address.protocol = address.protocol.replace("http", "ws");

const live = new LiveClient(address);
const player = new Player();
const recorder = new Recorder((chunk) => live.sendAudio(chunk), () => {
  stopRecording();
  showProblem("The microphone went away.");
});

const exchanges = new Map(); // `conversation/turnId` → its list items
let conversation = ""; // tells turns from those that had the same id earlier
let startedAt = 0;
let keyNeeded = false;
let starting = false; // the browser asks for the microphone

function startSession() {
  if (live.inSession) return;
  const options = {response_modality: $("modality").value};
  if ($("model").value) options.model = $("model").value;
  live.start(options);
}

async function startRecording() {
  if (starting) return;
  starting = true;
  hideProblem();
  player.unlock();
  player.stop();
  try {
    await recorder.start();
    startSession();
  } catch (error) {
    showProblem(MICROPHONE_PROBLEMS[error.name] ?? "The microphone could not be started.");
  }
  starting = false;
  showRecording();
}

async function stopRecording() {
  await recorder.stop();
  live.flush();
  showRecording();
}

function showRecording() {
  $("mic").setAttribute("aria-pressed", recorder.recording);
  $("text").placeholder = recorder.recording ? "Listening…" : "Or type here";
}

async function newConversation() {
  player.stop();
  await recorder.stop();
  showRecording();
  live.end();
  exchanges.clear();
  $("turns").replaceChildren();
  startedAt = 0;
  showSession();
}

// What the server says

live.addEventListener("state", () => {
  if (live.state === "closed" && recorder.recording) recorder.stop().then(showRecording);
  showState();
});

live.addEventListener("message", ({detail: message}) => {
  switch (message.type) {
    case "connected":
      showServer(message.data);
      break;
    case "auth_success":
      keyNeeded = false;
      hideProblem();
      break;
    case "session_started":
    case "resumed":
      showConversation(message);
      break;
    case "transcription_result":
      showExchange(message.data);
      break;
    case "interrupted":
      player.stop();
      exchanges.get(`${conversation} ${message.data.turnId}`)?.model.classList.add("cut");
      break;
    case "turn_failed":
      if (message.data.turnId) showProblem("The model gave no answer; say it again.");
      break;
    case "session_ended":
      startedAt = 0;
      break;
  }
  if (message.code === "audio_header_missing" && recorder.recording) {
    recorder.restart(); // the server that knew the beginning of the recording is gone
  } else if (KEY_PROBLEMS.includes(message.code ?? message.type)) {
    askForKey();
    if (message.type === "auth_failed") showProblem(message.error);
  } else if (typeof message.error === "string") {
    showProblem(message.error);
  }
  if (!live.inSession) {
    startedAt = 0;
    if (recorder.recording) recorder.stop().then(showRecording);
  }
  showState();
  showSession();
});

function showServer(server) {
  $("engine").textContent = server.engine;
  const chosen = $("model").value;
  const models = server.models.map((name) => new Option(name, name, false, name === chosen));
  $("model").replaceChildren(new Option("the server's choice", ""), ...models);
  $("model-label").hidden = !models.length;
  if (server.authRequired && !live.apiKey) askForKey();
}

function askForKey() {
  keyNeeded = true;
  showState();
  $("key").focus();
}

function showConversation({session_id, data}) {
  const name = `${session_id} ${data.startTime} ${data.epoch}`;
  if (name !== conversation) {
    // What was open in the old one stays as it was heard.
    document.querySelectorAll("#turns .interim").forEach((turn) => turn.classList.remove("interim"));
  }
  conversation = name;
  startedAt ||= Date.now();
  if (data.gap) showProblem("Some of the conversation was missed while the connection was lost.");
}

function showExchange(data) {
  const id = `${conversation} ${data.turnId}`;
  let items = exchanges.get(id);
  if (!items) {
    items = {user: document.createElement("li"), model: document.createElement("li"), played: false};
    items.user.className = "user";
    items.model.className = "model";
    exchanges.set(id, items);
  }
  showTurn(items.user, data.inputTranscription, data.final, items.model.isConnected ? items.model : null);
  showTurn(items.model, data.transcript, data.final);
  if (data.audioBuffer && !items.played) {
    items.played = true;
    player.play(data.audioBuffer);
  }
  scrollTo({top: document.body.scrollHeight});
}

function showTurn(item, text, final, before = null) {
  item.textContent = text ?? "";
  item.classList.toggle("interim", !final);
  item.ariaLive = final ? "polite" : "off";
  if (text && !item.isConnected) $("turns").insertBefore(item, before);
}

// What the user sees

function showState() {
  const lost = !keyNeeded && ["waiting", "closed"].includes(live.state);
  $("status").textContent = keyNeeded ? "Key needed" : STATES[live.state];
  $("status").dataset.state = keyNeeded ? "closed" : live.state;
  $("reconnect").hidden = !lost;
  if (lost && $("alert").hidden) showProblem("The connection to the server is lost.", "connection");
  if (!lost && $("problem").dataset.about === "connection") hideProblem();
  $("key-form").hidden = !keyNeeded;
  $("say").hidden = keyNeeded;
}

function showSession() {
  $("new").hidden = !live.inSession && !exchanges.size;
  $("empty").hidden = exchanges.size > 0;
}

function showProblem(sentence, about = "") {
  $("problem").textContent = sentence;
  $("problem").dataset.about = about;
  $("alert").hidden = false;
}

function hideProblem() {
  $("problem").dataset.about = "";
  $("alert").hidden = true;
}

function showElapsed() {
  const seconds = startedAt ? Math.floor((Date.now() - startedAt) / 1000) : 0;
  $("elapsed").textContent = startedAt ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : "";
}

// What the user does

$("mic").addEventListener("click", () => (recorder.recording ? stopRecording() : startRecording()));

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  hideProblem();
  player.unlock();
  startSession();
  live.sendText(text);
  $("text").value = "";
});

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keyNeeded = false;
  live.authenticate($("key").value.trim());
  $("key").value = "";
  showState();
});

// A session's model and modality are fixed: another choice means another conversation.
$("modality").addEventListener("change", newConversation);
$("model").addEventListener("change", newConversation);
$("new").addEventListener("click", newConversation);
$("reconnect").addEventListener("click", () => live.connect());
$("dismiss").addEventListener("click", hideProblem);

setInterval(showElapsed, 250);
live.connect();
