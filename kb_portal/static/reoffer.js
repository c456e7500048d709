// A re-INVITE of the page's own (RFC 3261 section 14). JsSIP ends the whole call where one is refused; here the call goes
// on as it was, and where both sides offered at once, ours is made again.

// RFC 3261 s14.1: how long the side that chose the Call-ID waits after a glare.
const GLARE_MS = [2100, 4000];
const MOST_TRIES = 4;
const READY_MS = 100;
const MOST_LOOKS = 50;

export class Refused extends Error {
  constructor(status) {
    super(`The other side refused the change (${status}).`);
    this.status = status;
  }
}

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// Offers what the session's connection has now; done when that is agreed on. Throws Refused: nothing has changed.
// `isOver` says whether the call has ended meanwhile; `isOut` is told when an offer goes out, and when it is settled.
export async function offerAnew(session, contact, { isOver, isOut }) {
  for (let tries = 1; ; tries++) {
    await untilReady(session, isOver);
    const status = await settled(session, contact, isOut);
    if (status === 200) return;
    // RFC 3261 s14.2: 491 for an offer that crossed another, 500 for one that came before the last was settled.
    if ((status !== 491 && status !== 500) || tries === MOST_TRIES || isOver()) throw new Refused(status);
    await pause(GLARE_MS[0] + Math.random() * (GLARE_MS[1] - GLARE_MS[0]));
  }
}

// An offer of the other side's may be on its way through.
async function untilReady(session, isOver) {
  for (let looks = 0; ; looks++) {
    if (isOver()) throw new Refused(481);
    if (session.isReadyToReOffer() && session.connection.signalingState === "stable") return;
    if (looks === MOST_LOOKS) throw new Refused(491);
    await pause(READY_MS);
  }
}

async function settled(session, contact, isOut) {
  const { connection } = session;
  isOut(true);
  try {
    const status = await offerOnce(session, contact);
    if (connection.signalingState === "have-local-offer") await connection.setLocalDescription({ type: "rollback" });
    return status;
  } finally {
    isOut(false);
  }
}

// The status of the answer: 200 once the connection has taken it.
async function offerOnce(session, contact) {
  const { connection } = session;
  await connection.setLocalDescription(await connection.createOffer());
  return new Promise((resolve) => {
    let answered = false;
    const ends = (status, told) => () => {
      resolve(status);
      told();
    };
    session.sendRequest("INVITE", {
      extraHeaders: [`Contact: ${contact}`, "Content-Type: application/sdp"],
      body: connection.localDescription.sdp,
      eventHandlers: {
        onSuccessResponse: (response) => {
          session.sendRequest("ACK");
          if (answered) return; // it was only repeated, for an ACK that got lost
          answered = true;
          connection.setRemoteDescription({ type: "answer", sdp: response.body }).then(
            () => resolve(200),
            () => resolve(488),
          );
        },
        onErrorResponse: ({ status_code: status }) => resolve(status),
        onTransportError: ends(503, () => session.onTransportError()),
        onRequestTimeout: ends(408, () => session.onRequestTimeout()),
        onDialogError: ends(481, () => session.onDialogError()),
      },
    });
  });
}
