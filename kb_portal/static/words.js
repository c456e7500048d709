// What the Help dock says about a contact, in words. Pure: a contact as the server tells it goes in, a sentence comes out.

export const firstName = (contact) => contact?.agent?.name?.split(" ")[0] ?? "Agent";

export function ringsHere(contact) {
  const back = contact.call_back;
  return Boolean(back?.calling && back.way === "app" && contact.state !== "connected" && contact.state !== "ended");
}

export function describe(contact) {
  const { state, channel, position, call_back: back, by_phone: byPhone } = contact;
  if (state === "connected") {
    if (channel === "chat") return `You are writing with ${firstName(contact)}.`;
    // Whom they were passed on to outside has no name here, and no page.
    if (contact.on_hold) return contact.agent ? `${firstName(contact)} has put you on hold.` : "You are on hold.";
    const joined = contact.supervisor ? ` ${contact.supervisor.name.split(" ")[0]} has joined the call.` : "";
    return `You are talking with ${firstName(contact)}${byPhone ? " on your telephone" : ""}.${joined}`;
  }
  if (back) return describeCallBack(back);
  if (state === "ringing") return "Ringing someone who can help…";
  if (!position || position <= 1) return "You are next. Looking for the right person…";
  return `You are number ${position} in line.`;
}

function describeCallBack(back) {
  const where = back.way === "phone" ? `on ${back.number}` : "in this page";
  if (back.calling) return back.way === "phone" ? `We are calling you ${where} now.` : "This is your call back.";
  if (back.again_at) return `We will call you again ${where} at ${clock(back.again_at)}.`;
  return `We will call you back ${where}.`;
}

// How long it may take, and for whoever is called back the place in line too. "" where there is nothing to say.
export function expectation(contact) {
  const { state, position, expected_wait_s: wait, call_back: back } = contact;
  if (state !== "waiting" || back?.again_at) return "";
  const place = back && position ? (position === 1 ? "You are next in line. " : `You are number ${position} in line. `) : "";
  return place + howLong(wait);
}

function howLong(seconds) {
  if (seconds === null || seconds === undefined) return "We cannot say yet how long it will take.";
  if (seconds < 60) return "Less than a minute, probably.";
  if (seconds > 3600) return "More than an hour, probably.";
  const minutes = Math.ceil(seconds / 60);
  return minutes === 1 ? "About a minute." : `About ${minutes} minutes.`;
}

function clock(epoch) {
  return new Date(epoch * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

// Why they cannot add pictures to their call now; "" where they can.
export function whyNoVideo(contact) {
  if (contact.on_hold) return "You can add video when you are off hold.";
  if (contact.agent_video === false) return `${firstName(contact)}’s phone cannot show pictures.`;
  return "";
}

// What became of our picture: the other side would not have it, or had it for a while.
export const videoEnded = (contact) => `${firstName(contact)} has ended the video. Your call goes on without it.`;
export const videoRefused = (contact) => `${firstName(contact)}’s phone did not take the picture. Your call goes on without it.`;

// Whether the call is recorded; "" where calls are not.
export function recordingWords(told) {
  if (!told?.state) return "";
  if (told.state === "asked") return told.mode === "ask" ? "May we record this call?" : "This call will be recorded.";
  if (told.state === "on") return "This call will be recorded.";
  if (told.state === "recording") return "Recorded";
  if (told.state === "paused" || told.state === "silent") return "Recording paused";
  if (told.kept) return "No longer recorded. What was recorded until now is kept.";
  return "This call is not recorded.";
}

// What the button in the corner says while the sheet is closed and the customer reads on.
export function corner(contact) {
  if (ringsHere(contact)) return "Answer your call back";
  const back = contact.call_back;
  if (back && contact.state !== "connected") return back.calling ? "We are calling you" : "We will call you back";
  return "";
}

// Whether they are asked if it helped: not who had nobody, nor who was cut off because the server stopped.
export const asksWhetherItHelped = (contact) => Boolean(contact.agent) && !/^server_/.test(contact.disposition ?? "");

export function farewell(contact) {
  const disposition = String(contact.disposition ?? "");
  const what = contact.channel === "chat" ? "chat" : "call";
  const name = firstName(contact);
  if (disposition === "call_back_failed") return "We called three times and could not reach you. Please ask again when it suits you.";
  // They were passed on to somebody outside, who has no name here.
  if (!contact.agent && contact.connected_at) return `The ${what} has ended.`;
  if (disposition === "customer_gave_up" || (disposition === "customer" && !contact.agent)) return "You left the queue.";
  if (disposition === "logged_out") return "You have been logged out. Log in again to go on.";
  if (disposition === "no_agent") return "Nobody could be reached. We are sorry: please try again a little later.";
  if (disposition === "voicemail") return "Thank you. Your message has reached us.";
  if (disposition === "server_stopped") return "The help desk has closed for a moment. Please try again in a minute.";
  if (disposition === "idle") return "Nobody had written for a while, so the chat has ended.";
  if (!contact.agent) return "Your request has ended before anybody was found. Please try again.";
  if (disposition === "customer" || disposition === "customer_hung_up") return `You ended the ${what} with ${name}.`;
  if (disposition === "agent_hung_up") return `${name} ended the ${what}.`;
  if (/lost|failed|died/.test(disposition)) return `The ${what} with ${name} was lost. Please ask for help again.`;
  return `The ${what} with ${name} has ended.`;
}
